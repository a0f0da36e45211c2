"""What a matrix would cost, before any of it is paid: queries, clones, and arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from intaglio.costs import flops_forward
from intaglio.leakage.cells import Cell, digest, theft_digest
from intaglio.leakage.kept import Kept
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.victims import bundle_of, input_of, needed_victims
from intaglio.leakage.weights import recipe_of
from intaglio.outlook import outlook_of
from intaglio.recipe import Architecture, Data, Recipe

__all__ = ["FLOPS_PER_S", "Estimate", "estimate_of"]

FLOPS_PER_S = 25e9
"""What one CPU core gets done in training small convolutional networks, within a factor of 2."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is left to do.

    Attributes:
        cells: to be had.
        done: that are there already.
        benches: servers that will be started or attacked.
        victims: to be trained.
        thefts: transfer sets.
        queries: of all thefts, what is on disk not subtracted.
        honest: times that honest callers ask about the whole test set.
        training: floating-point operations of victims and clones; None where an architecture or
            an objective is foreign, or a running server's images are not known. Clones that come
            out equal are counted as often as there are cells.
    """

    cells: int
    done: int
    benches: int
    victims: int
    thefts: int
    queries: int
    honest: int
    training: float | None

    @property
    def hours(self) -> float | None:
        """Of one core, at ``FLOPS_PER_S``; queries and waiting not counted."""
        return None if self.training is None else self.training / FLOPS_PER_S / 3600


def estimate_of(
    matrix: Matrix, cells: Sequence[Cell], kept: Kept, *, data_root: Path | None
) -> Estimate:
    """What having ``cells`` would cost.

    Raises:
        MatrixError: a recipe or a bundle is not there, or wrong.
        ModelsError: nothing is known of its data.
    """
    left = [cell for cell in cells if not kept.has(cell, digest(matrix, cell))]
    benches: dict[tuple[str, int], set[str]] = {}
    for cell in left:
        benches.setdefault((cell.defense, cell.seed), set()).add(cell.attack)
    budgets: dict[str, int] = {}
    for cell in left:
        theft = theft_digest(matrix, cell)
        budgets[theft] = max(budgets.get(theft, 0), cell.budget)
    absent = {
        (name, seed)
        for (defense, seed), attacks in benches.items()
        for name in needed_victims(matrix, defense, attacks)
        if not bundle_of(matrix, name, seed, kept).is_dir()
    }
    # A seed changes nothing about a cost.
    victims = {name: _victim(matrix, name, data_root) for name in {name for name, _ in absent}}
    inputs = {name: input_of(matrix, name, data_root) for name in _served_by(matrix, left)}
    costs = [victims[name] for name, _ in absent]
    costs += [_clone(matrix, cell, inputs) for cell in left]
    known = [cost for cost in costs if cost is not None]
    return Estimate(
        cells=len(left),
        done=len(cells) - len(left),
        benches=len(benches),
        victims=len(absent),
        thefts=len(budgets),
        queries=sum(budgets.values()),
        honest=len(benches),
        training=sum(known) if len(known) == len(costs) else None,
    )


def _victim(matrix: Matrix, name: str, data_root: Path | None) -> float | None:
    return outlook_of(recipe_of(matrix, name, matrix.seeds[0]), data_root=data_root).flops


def _served_by(matrix: Matrix, cells: Sequence[Cell]) -> set[str]:
    known = {matrix.defenses[cell.defense].victim or matrix.reference for cell in cells}
    return {name for name in known if name is not None}


def _clone(
    matrix: Matrix, cell: Cell, inputs: Mapping[str, tuple[tuple[int, int, int], int]]
) -> float | None:
    """Three forward passes' worth for each image that is shown."""
    known = matrix.defenses[cell.defense].victim or matrix.reference
    if known is None:
        return None
    shape, classes = inputs[known]
    recipe = matrix.clone.recipe()
    network = Recipe(
        name="clone",
        architecture=Architecture(name=recipe.architecture),
        data=Data(train=matrix.test),
    )
    forward = flops_forward(network, shape, classes)
    epochs = recipe.plan(cell.budget, cell.seed).epochs
    return None if forward is None else 3.0 * forward * epochs * cell.budget
