"""What is wrong with a matrix and shows only beside what is installed and where data lies."""

from __future__ import annotations

from pathlib import Path

from defenses.errors import DefenseError
from defenses.registry import required_roles
from intaglio.known_defenses import check_options
from intaglio.leakage.cells import attack_of, cells_of
from intaglio.leakage.errors import MatrixError
from intaglio.leakage.learning import study_of
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.victims import input_of
from models import architectures
from models.datasets.catalogue import is_bundled, is_downloadable, local_file
from models.errors import ModelsError

__all__ = ["preflight"]


def preflight(matrix: Matrix, *, data_root: Path | None) -> None:
    """Refuse what would fail after hours, before anything is trained or asked.

    Nothing is downloaded. What needs a victim's weights is found out when they are there.

    Raises:
        MatrixError: names the key.
    """
    for name, entry in matrix.defenses.items():
        try:
            needed = required_roles(entry.chain)
            if entry.victim is not None and not needed:
                _, classes = input_of(matrix, entry.victim, data_root)
                check_options(classes=classes, links=entry.chain)
        except DefenseError as error:
            raise MatrixError(f"defenses.{name}.chain: {error}") from error
    try:
        clone = matrix.clone
        architectures.check(clone.architecture, allow_factories=clone.allow_factories)
    except ModelsError as error:
        raise MatrixError(f"clone.architecture: {error}") from error
    _require_data("test", matrix.test, data_root)
    _require_data("pool", matrix.pool, data_root)
    for name, attack in matrix.attacks.items():
        if attack.pool is not None:
            _require_data(f"attacks.{name}.pool", attack.pool, data_root)
    for cell in {(cell.attack, cell.defense): cell for cell in cells_of(matrix)}.values():
        attack_of(matrix, cell)
        study_of(cell.attack, matrix.attacks[cell.attack], matrix.defenses[cell.defense])


def _require_data(key: str, spec: str, data_root: Path | None) -> None:
    """Refuse a dataset that cannot be had.

    Raises:
        MatrixError: it is neither here nor bundled nor downloadable.
    """
    kind, colon, rest = spec.partition(":")
    if colon and kind in {"npz", "folder"}:
        path = Path(rest.partition("?")[0]).expanduser()
        if not path.exists():
            raise MatrixError(f"{key}: there is no {path}")
    elif not (is_bundled(spec) or is_downloadable(spec) or local_file(spec, data_root)):
        raise MatrixError(
            f"{key}: there is no dataset {spec!r}: give the directory that has {spec}.npz as "
            "--data-root, or npz:PATH or folder:PATH"
        )
