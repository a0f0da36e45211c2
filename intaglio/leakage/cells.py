"""Every combination of a matrix, and the digest of all that decides its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from attack_client.adaptive.adaptations import Adaptations
from attack_client.adaptive.spec import Spec
from attack_client.attacks.registry import make
from attack_client.contract import Attack
from attack_client.errors import AttackError
from attack_client.report.schema import Labels
from intaglio.leakage.entries import AttackEntry
from intaglio.leakage.errors import MatrixError
from intaglio.leakage.matrix import Matrix
from intaglio.recipe import Recipe, load_recipe
from models.bundle import read_card
from models.errors import ModelsError

__all__ = [
    "Cell",
    "attack_of",
    "cells_of",
    "digest",
    "recipe_of",
    "target_digest",
    "theft_digest",
    "victim_digest",
]

FORMAT = 1
"""Raised when results of earlier versions are no longer to be believed."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One clone: of one defense, by one attack.

    Attributes:
        seed: of victim, attack and clone.
        defense: name in the table.
        budget: queries allowed.
        attack: name in the table.
        labels: what the clone learns from.
    """

    seed: int
    defense: str
    budget: int
    attack: str
    labels: Labels

    def __str__(self) -> str:
        return f"{self.defense}, {self.attack}, {self.labels}, {self.budget:,}, seed {self.seed}"


def cells_of(matrix: Matrix) -> tuple[Cell, ...]:
    """All of them, first seed first; in each, defenses, budgets and attacks as in the file."""
    found = dict.fromkeys(_combinations(matrix))
    return tuple(sorted(found, key=lambda cell: cell.seed))


def _combinations(matrix: Matrix) -> Iterator[Cell]:
    for name, defense in matrix.defenses.items():
        for attack, entry in matrix.attacks.items():
            if entry.defenses is not None and name not in entry.defenses:
                continue
            limit = defense.budget_limit
            for asked in sorted(entry.budgets or matrix.budgets):
                budget = asked if limit is None else min(asked, limit)
                for labels in entry.labels:
                    for seed in (*(entry.seeds or matrix.seeds), *entry.more_seeds.get(name, ())):
                        yield Cell(seed, name, budget, attack, labels)


def digest(matrix: Matrix, cell: Cell) -> str:
    """Twelve hexadecimal digits: equal for cells that give the same result.

    Raises:
        MatrixError: a recipe or a bundle that it names is not there, or wrong.
    """
    entry = matrix.attacks[cell.attack]
    return _hash(
        {
            "theft": theft_digest(matrix, cell),
            "adapt": [entry.adapt, entry.known_defense],
            **_knowledge(matrix, entry, cell.seed),
            "reference": _reference(matrix, cell.seed),
            "test": matrix.test,
            "labels": cell.labels,
            "budget": cell.budget,
            "clone": matrix.clone.model_dump(mode="json") | {"augment": entry.augment},
        }
    )


def _knowledge(matrix: Matrix, entry: AttackEntry, seed: int) -> dict[str, Any]:
    """What else an attacker has and does; most of the time nothing, and a digest is as it was."""
    found: dict[str, Any] = {}
    if entry.learn:
        found["learn"] = entry.learn
    if entry.known_options:
        found["known_options"] = entry.known_options
    if entry.shadow is not None:
        found["shadow"] = [
            victim_digest(matrix, entry.shadow.victim, seed),
            _lenders(matrix, entry.shadow.roles, seed),
        ]
        if entry.shadow.plain is not None:
            found["shadow"].append(victim_digest(matrix, entry.shadow.plain, seed))
    return found


def theft_digest(matrix: Matrix, cell: Cell) -> str:
    """The same of what is stolen: cells of one theft differ in labels and budget only."""
    entry = matrix.attacks[cell.attack]
    return _hash(
        {
            "target": target_digest(matrix, cell.defense, cell.seed),
            # Add-ons that only learn otherwise share the theft of the bare attack.
            "attack": repr(attack_of(matrix, cell)),
            "pool": entry.pool or matrix.pool,
            "seed": cell.seed,
        }
    )


def attack_of(matrix: Matrix, cell: Cell) -> Attack:
    """What chooses the images, its add-ons included.

    It depends on the labels only for attacks that train as they ask.

    Raises:
        MatrixError: there is no such attack or add-on, or it refuses an option.
    """
    entry = matrix.attacks[cell.attack]
    try:
        add_ons = Adaptations.of(tuple(map(Spec.parse, entry.adapt)), seed=cell.seed)
        return add_ons.adapt(
            make(
                entry.attack or cell.attack,
                seed=cell.seed,
                options=entry.options,
                surroundings={"clone": matrix.clone.architecture, "labels": cell.labels},
            )
        )
    except AttackError as error:
        raise MatrixError(f"attacks.{cell.attack}: {error}") from error


def target_digest(matrix: Matrix, defense: str, seed: int) -> str:
    """The same of what is attacked."""
    entry = matrix.defenses[defense]
    if entry.victim is None:
        release = {} if entry.release is None else {"release": entry.release}
        return _hash({"format": FORMAT, "url": entry.url, "model": entry.model, **release})
    return _hash(
        {
            "format": FORMAT,
            "victim": victim_digest(matrix, entry.victim, seed),
            "chain": entry.chain,
            "roles": _lenders(matrix, entry.roles, seed),
            "explanations": entry.explanations,
            **({"serve": matrix.serve} if matrix.serve else {}),
        }
    )


def _lenders(matrix: Matrix, roles: Mapping[str, str], seed: int) -> dict[str, list[str]]:
    return {
        role: [victim_digest(matrix, lender.partition("#")[0], seed), lender.partition("#")[2]]
        for role, lender in roles.items()
    }


def _reference(matrix: Matrix, seed: int) -> str | None:
    return None if matrix.reference is None else victim_digest(matrix, matrix.reference, seed)


@cache
def _recipe(source: str, changes: tuple[str, ...]) -> Recipe:
    return load_recipe(source, changes)


def recipe_of(matrix: Matrix, name: str, seed: int) -> Recipe:
    """The recipe of the victim ``name`` for ``seed``, without what it is measured against.

    Raises:
        MatrixError: there is no such recipe, or it is wrong.
    """
    entry = matrix.victims[name]
    assert entry.recipe is not None, "a bundle has no recipe"
    changes = tuple(change.replace("{seed}", str(seed)) for change in entry.set)
    if not any(change.partition("=")[0].strip() == "plan.seed" for change in changes):
        changes = (*changes, f"plan.seed={seed}")
    try:
        return _recipe(entry.recipe, changes)
    except ModelsError as error:
        raise MatrixError(f"victims.{name}: {error}") from error


def victim_digest(matrix: Matrix, name: str, seed: int) -> str:
    """The same of a victim's weights, from its recipe and not from what training made of it.

    Raises:
        MatrixError: a recipe or a bundle is not there, or wrong.
    """
    entry = matrix.victims[name]
    if entry.bundle is not None:
        try:
            card = read_card(entry.bundle)
        except ModelsError as error:
            raise MatrixError(f"victims.{name}.bundle: {error}") from error
        # All of a card that decides answers, and nothing that only tells of it.
        decides = card.model_dump(
            mode="json",
            exclude={
                "name": True,
                "version": True,
                "description": True,
                "measured": True,
                "networks": {"__all__": {"training", "measured"}},
            },
        )
        return _hash({"format": FORMAT, "bundle": decides})
    described = recipe_of(matrix, name, seed).model_dump(
        mode="json", exclude={"name", "version", "description", "reproduces", "measured"}
    )
    others = {
        key: victim_digest(matrix, other, seed)
        for key, other in (("reference", entry.reference), ("base", entry.base))
        if other is not None
    }
    return _hash({"format": FORMAT, "recipe": described, **others})


def _hash(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
