"""Weights for a seed: trained by recipe, once, or a bundle that is there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from intaglio.leakage.errors import CellError, MatrixError
from intaglio.leakage.kept import Kept
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.weights import recipe_of, victim_digest
from intaglio.outlook import outlook_of
from intaglio.recipe import Recipe
from intaglio.training import train_recipe
from models.bundle import read_card
from models.errors import ModelsError

__all__ = ["bundle_of", "input_of", "needed_victims", "train_victim"]


def bundle_of(matrix: Matrix, name: str, seed: int, kept: Kept) -> Path:
    """Directory NAME/VERSION of a victim, whether it is there yet or not."""
    entry = matrix.victims[name]
    if entry.bundle is not None:
        return entry.bundle.absolute()
    # The version is the digest of the recipe: a changed one is another bundle beside the old.
    return kept.victims(seed) / name / victim_digest(matrix, name, seed)


def input_of(matrix: Matrix, name: str, data_root: Path | None) -> tuple[tuple[int, int, int], int]:
    """Shape ``(C, H, W)`` of the images that a victim is shown, and its classes K.

    Raises:
        MatrixError: its bundle or its recipe is not there, or wrong.
        ModelsError: nothing is known of its data.
    """
    entry = matrix.victims[name]
    if entry.bundle is not None:
        card = read_card(entry.bundle)
        return card.input.shape, card.classes
    outlook = outlook_of(recipe_of(matrix, name, matrix.seeds[0]), data_root=data_root)
    return outlook.shape, outlook.classes


def needed_victims(matrix: Matrix, defense: str, attacks: Iterable[str]) -> tuple[str, ...]:
    """Victims without which ``attacks`` on ``defense`` cannot be had, in order of training."""
    entry = matrix.defenses[defense]
    shadows = [shadow for name in attacks if (shadow := matrix.attacks[name].shadow) is not None]
    lenders = [*entry.roles.values(), *(who for shadow in shadows for who in shadow.roles.values())]
    wanted = [
        matrix.reference,
        entry.victim,
        *(shadow.plain for shadow in shadows),
        *(shadow.victim for shadow in shadows),
        *(who.partition("#")[0] for who in lenders),
    ]
    return tuple(dict.fromkeys(name for who in wanted if who for name in _with_own(matrix, who)))


def _with_own(matrix: Matrix, name: str) -> Iterator[str]:
    entry = matrix.victims[name]
    for other in (entry.reference, entry.base):
        if other is not None:
            yield from _with_own(matrix, other)
    yield name


def train_victim(
    matrix: Matrix, name: str, seed: int, kept: Kept, *, data_root: Path | None, device: str
) -> Path:
    """The bundle of ``name``, trained if it is not there; what it needs must be there.

    Another process that trains it is waited for.

    Raises:
        CellError: it cannot be trained.
    """
    entry = matrix.victims[name]
    bundle = bundle_of(matrix, name, seed, kept)
    if entry.bundle is not None or bundle.is_dir():
        return bundle
    out = kept.victims(seed)
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out / f".{name}.lock"):
        if bundle.is_dir():
            return bundle
        try:
            return train_recipe(
                _settled(matrix, name, seed, kept, bundle.name),
                out=out,
                data_root=data_root,
                device=device,
                allow_factories=matrix.factories,
            )
        except (ModelsError, MatrixError) as error:
            raise CellError(f"victim {name}, seed {seed}: {error}") from error


def _settled(matrix: Matrix, name: str, seed: int, kept: Kept, version: str) -> Recipe:
    """The recipe under its name here, with the bundles that it is measured and trained against."""
    entry = matrix.victims[name]
    recipe = recipe_of(matrix, name, seed)
    others: dict[str, object] = {}
    if entry.reference is not None:
        others["reference"] = bundle_of(matrix, entry.reference, seed, kept)
    if entry.base is not None:
        others["base"] = str(bundle_of(matrix, entry.base, seed, kept))
    objective = recipe.objective.model_copy(update=others)
    return recipe.model_copy(update={"name": name, "version": version, "objective": objective})


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else trains this victim meanwhile, where the file system has locks."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with suppress(OSError):  # without locks the training itself refuses a second one
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
