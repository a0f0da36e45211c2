"""Every combination of a matrix, and the digest of all that decides its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attack_client.adaptive.adaptations import Adaptations
from attack_client.adaptive.contract import Asking
from attack_client.adaptive.spec import Spec
from attack_client.attacks.registry import make
from attack_client.contract import Attack
from attack_client.errors import AttackError
from attack_client.report.schema import Labels
from intaglio.leakage.entries import KNOWN_CHAIN, AttackEntry
from intaglio.leakage.errors import MatrixError
from intaglio.leakage.foreign_code import (
    code_of_add_ons,
    code_of_attack,
    code_of_chain,
    code_of_factory,
    code_of_nets,
)
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.weights import FORMAT, coded, hash_of, victim_digest

__all__ = [
    "Cell",
    "attack_of",
    "cells_of",
    "digest",
    "learning_code",
    "target_digest",
    "theft_digest",
]


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
    return hash_of(
        {
            "theft": theft_digest(matrix, cell),
            "adapt": [entry.adapt, entry.known_defense],
            **coded(learning_code(matrix, cell.attack), _known_code(entry)),
            **_knowledge(matrix, entry, cell.seed),
            "reference": _reference(matrix, cell.seed),
            "test": matrix.test,
            "labels": cell.labels,
            "budget": cell.budget,
            # What may be called decides nothing, and what it is stands under its code.
            "clone": matrix.clone.model_dump(mode="json")
            | {"augment": entry.augment, "allow_factories": []},
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
    attack, add_ons = _made(matrix, cell)
    asking = [one.kind for one in add_ons.add_ons if isinstance(one, Asking)]
    return hash_of(
        {
            "target": target_digest(matrix, cell.defense, cell.seed),
            # Add-ons that only learn otherwise share the theft of the bare attack.
            "attack": repr(add_ons.adapt(attack)),
            **coded(
                code_of_attack(entry.attack or cell.attack),
                code_of_add_ons(asking),
                code_of_nets(attack.architectures, matrix.factories),
            ),
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
    attack, add_ons = _made(matrix, cell)
    return add_ons.adapt(attack)


def _made(matrix: Matrix, cell: Cell) -> tuple[Attack, Adaptations]:
    entry = matrix.attacks[cell.attack]
    try:
        add_ons = Adaptations.of(tuple(map(Spec.parse, entry.adapt)), seed=cell.seed)
        attack = make(
            entry.attack or cell.attack,
            seed=cell.seed,
            options=entry.options,
            surroundings={"clone": matrix.clone.architecture, "labels": cell.labels},
        )
    except AttackError as error:
        raise MatrixError(f"attacks.{cell.attack}: {error}") from error
    return attack, add_ons


def learning_code(matrix: Matrix, attack: str) -> Mapping[str, str]:
    """Of what is not ours in how the clones of ``attack`` learn: its digest, by name.

    Raises:
        MatrixError: an add-on is not of the form ``NAME:option=value``.
    """
    entry = matrix.attacks[attack]
    try:
        kinds = [Spec.parse(text).name for text in entry.adapt]
    except AttackError as error:
        raise MatrixError(f"attacks.{attack}: {error}") from error
    nets = code_of_nets([matrix.clone.architecture], matrix.factories)
    return {**code_of_add_ons(kinds), **nets}


def _known_code(entry: AttackEntry) -> Mapping[str, str]:
    known = entry.known_defense
    return {} if known in {None, KNOWN_CHAIN} else code_of_factory(str(known))


def target_digest(matrix: Matrix, defense: str, seed: int) -> str:
    """The same of what is attacked."""
    entry = matrix.defenses[defense]
    if entry.victim is None:
        release = {} if entry.release is None else {"release": entry.release}
        return hash_of({"format": FORMAT, "url": entry.url, "model": entry.model, **release})
    return hash_of(
        {
            "format": FORMAT,
            "victim": victim_digest(matrix, entry.victim, seed),
            "chain": entry.chain,
            **coded(code_of_chain(entry.chain)),
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
