"""What is wrong with a matrix and shows only beside what is installed and where data lies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

from attack_client.adaptive.adaptations import Adaptations
from attack_client.adaptive.spec import Spec
from attack_client.attacks.registry import make
from attack_client.errors import AttackError, PoolError
from attack_client.reference import check_labels
from defenses.errors import DefenseError
from defenses.registry import required_roles
from intaglio.known_defenses import check_options
from intaglio.leakage.cells import Cell, attack_of
from intaglio.leakage.errors import MatrixError
from intaglio.leakage.learning import study_of
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.victims import input_of, needed_victims
from intaglio.leakage.weights import architectures_of, recipe_of
from intaglio.objectives import trainable_of
from intaglio.outlook import expected
from models import architectures
from models.bundle import read_card
from models.datasets import load as load_dataset
from models.datasets.catalogue import is_bundled, is_downloadable, local_file
from models.errors import ModelsError

__all__ = ["preflight"]


def preflight(matrix: Matrix, cells: Sequence[Cell], *, data_root: Path | None) -> None:
    """Refuse what would fail after hours, before anything is trained or asked.

    Nothing is downloaded. What needs a victim's weights is found out when they are there.

    Args:
        matrix: all of it.
        cells: that are to be had; what none of them needs is not looked at.
        data_root: where datasets lie.

    Raises:
        MatrixError: names the key.
    """
    attacked: dict[str, list[str]] = {}
    for cell in cells:
        attacked.setdefault(cell.defense, []).append(cell.attack)
    victims = [needed_victims(matrix, name, attacks) for name, attacks in attacked.items()]
    factories = matrix.factories
    if cells:
        _require_architecture("clone.architecture", matrix.clone.architecture, factories)
        _require_data("test", matrix.test, data_root)
    classes = {
        name: _classes(matrix, name, data_root)
        for name in dict.fromkeys(name for needed in victims for name in needed)
    }
    for name in attacked:
        _require_chain(matrix, name, classes)
    for cell in dict.fromkeys(cells):
        _require_attack(matrix, cell, data_root)


def _classes(matrix: Matrix, name: str, data_root: Path | None) -> int:
    """What a victim tells apart; its recipe is one that can be trained.

    Raises:
        MatrixError: it is none; names the victim.
    """
    entry = matrix.victims[name]
    try:
        if entry.bundle is None:
            recipe = recipe_of(matrix, name, matrix.seeds[0])
            # Their bundles are not there yet; that there will be some is enough.
            others: dict[str, object] = {}
            if entry.base is not None:
                others["base"] = entry.base
            if entry.reference is not None:
                others["reference"] = Path(entry.reference)
            objective = recipe.objective.model_copy(update=others)
            trainable_of(recipe.model_copy(update={"objective": objective}))
            for key in ("train", "ood"):
                spec = getattr(recipe.data, key)
                if spec is not None:
                    _require_data(f"victims.{name}: data.{key}", spec, data_root)
        elif name in _measured(matrix) and _is_here(matrix.test, data_root):
            check_labels(read_card(entry.bundle), _labels(matrix.test, data_root), test=matrix.test)
        for architecture in architectures_of(matrix, name, matrix.seeds[0]):
            architectures.check(architecture, allow_factories=matrix.factories)
        return input_of(matrix, name, data_root)[1]
    except (ModelsError, PoolError) as error:
        raise MatrixError(f"victims.{name}: {error}") from error


def _measured(matrix: Matrix) -> set[str | None]:
    """Victims that the test images are shown to; a network that is lent has labels of its own."""
    return {matrix.reference, *(entry.victim for entry in matrix.defenses.values())}


@cache
def _labels(test: str, data_root: Path | None) -> tuple[str, ...]:
    return load_dataset(test, root=data_root).labels


def _require_chain(matrix: Matrix, name: str, classes: dict[str, int]) -> None:
    """Refuse links and options that there are none of.

    Raises:
        MatrixError: names the defense and the link.
    """
    entry = matrix.defenses[name]
    try:
        needed = required_roles(entry.chain)
        if entry.victim is not None and not needed:
            check_options(classes=classes[entry.victim], links=entry.chain)
    except DefenseError as error:
        raise MatrixError(f"defenses.{name}.chain: {error}") from error


def _require_attack(matrix: Matrix, cell: Cell, data_root: Path | None) -> None:
    """Refuse an attack that cannot be made, or cannot spend the budget of ``cell``.

    Raises:
        MatrixError: names the attack.
    """
    entry = matrix.attacks[cell.attack]
    key = f"attacks.{cell.attack}"
    pool = entry.pool or matrix.pool
    _require_data("pool" if entry.pool is None else f"{key}.pool", pool, data_root)
    attack_of(matrix, cell)
    study_of(cell.attack, entry, matrix.defenses[cell.defense])
    try:
        plainly = make(
            entry.attack or cell.attack,
            seed=cell.seed,
            options=entry.options,
            surroundings={"clone": matrix.clone.architecture, "labels": cell.labels},
        )
        for architecture in plainly.architectures:
            _require_architecture(f"{key}.options", architecture, matrix.factories)
        add_ons = Adaptations.of(tuple(map(Spec.parse, entry.adapt)), seed=cell.seed)
        add_ons.check(
            labels=(cell.labels,),
            budgets=(cell.budget,),
            pool=_images(pool, data_root),
            known=entry.known_defense is not None,
            shadow=entry.shadow is not None,
        )
    except (AttackError, ModelsError) as error:
        raise MatrixError(f"{key}: {error}") from error


@cache
def _images(pool: str, data_root: Path | None) -> int:
    """Training images of a dataset.

    Raises:
        ModelsError: it is malformed, or nothing is known of it.
    """
    return expected("pool", pool, data_root=data_root, split_seed=0).train


def _require_architecture(key: str, name: str, factories: Collection[str]) -> None:
    """Refuse an architecture that there is none of, or code that is not allowed.

    Raises:
        MatrixError: names the key.
    """
    try:
        architectures.check(name, allow_factories=factories)
    except ModelsError as error:
        raise MatrixError(f"{key}: {error}") from error


def _require_data(key: str, spec: str, data_root: Path | None) -> None:
    """Refuse a dataset that cannot be had.

    Raises:
        MatrixError: it is neither here nor bundled nor downloadable.
    """
    path = _path(spec)
    if path is not None:
        if not path.exists():
            raise MatrixError(f"{key}: there is no {path}")
    elif not (_is_here(spec, data_root) or is_downloadable(spec)):
        raise MatrixError(
            f"{key}: there is no dataset {spec!r}: give the directory that has {spec}.npz as "
            "--data-root, or npz:PATH or folder:PATH"
        )


def _is_here(spec: str, data_root: Path | None) -> bool:
    """Whether a dataset can be had without a download."""
    path = _path(spec)
    return path.exists() if path else is_bundled(spec) or local_file(spec, data_root) is not None


def _path(spec: str) -> Path | None:
    """The place that ``spec`` names; None where it names a dataset."""
    kind, _, rest = spec.partition(":")
    return Path(rest.partition("?")[0]).expanduser() if rest and kind in {"npz", "folder"} else None
