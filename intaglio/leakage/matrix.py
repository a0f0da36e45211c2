"""What a leakage matrix measures: YAML that a person can read and change."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, JsonValue, PositiveInt, ValidationError

from defenses.errors import DefenseError
from intaglio.known_defenses import check_links
from intaglio.leakage.entries import (
    KNOWN_CHAIN,
    AttackEntry,
    Clone,
    DefenseEntry,
    Gate,
    Section,
    Seed,
    TableName,
    VictimEntry,
)
from intaglio.leakage.errors import MatrixError
from intaglio.leakage.misplaced import misplaced_option
from intaglio.recipe_errors import sentence
from models.card import Name
from models.strict_yaml import load_yaml

__all__ = ["Matrix", "load_matrix", "shipped_matrices"]


class Matrix(Section):
    """Defenses x attacks x labels x budgets x seeds.

    Attributes:
        name: of the matrix.
        description: a sentence for people.
        pool: dataset whose training images are the surrogate pool.
        test: dataset whose test images are the victim's own task.
        reference: the victim whose weights are the plain model's; None where it is not at hand,
            and then nothing can be told of relative accuracy.
        clone: how clones are trained.
        seeds: of victims, attacks and clones.
        budgets: columns of the table; the largest is stolen, the others are prefixes of it.
        latency_requests: single-image requests to time for each defense and seed.
        batch: images per request.
        concurrency: requests in flight.
        price_per_thousand: of a thousand queries, for the report.
        serve: further settings of the servers, as in their configuration.
        victims: weights, by a name of their own.
        defenses: what is attacked, by the name in the table.
        attacks: by the name in the table.
        gate: when a release fails.
    """

    name: Name
    description: str = ""
    pool: str
    test: str
    reference: str | None = None
    clone: Clone
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    budgets: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    latency_requests: Annotated[int, Field(ge=0)] = 200
    batch: Annotated[int, Field(ge=1, le=65536)] = 64
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    price_per_thousand: Annotated[float, Field(ge=0.0)] | None = None
    serve: dict[str, JsonValue] = Field(default_factory=dict)
    victims: dict[Name, VictimEntry] = Field(default_factory=dict)
    defenses: Annotated[dict[TableName, DefenseEntry], Field(min_length=1)]
    attacks: Annotated[dict[TableName, AttackEntry], Field(min_length=1)]
    gate: Gate = Gate()

    @property
    def factories(self) -> tuple[str, ...]:
        """Code of the user's own that servers, victims, references and clones may call."""
        served = self.serve.get("allow_factories")
        more = map(str, served) if isinstance(served, list) else ()
        return tuple(dict.fromkeys((*self.clone.allow_factories, *more)))

    def allowing(self, factories: Collection[str]) -> Matrix:
        """The same matrix, with ``factories`` allowed wherever it calls code of the user's own."""
        names = tuple(dict.fromkeys((*self.clone.allow_factories, *factories)))
        clone = self.clone.model_copy(update={"allow_factories": names})
        return self.model_copy(update={"clone": clone})

    def check(self) -> None:
        """Refuse names that nothing is called by.

        Raises:
            MatrixError: names the key.
        """
        self._known("reference", self.reference, self.victims)
        for name, victim in self.victims.items():
            self._known(f"victims.{name}.reference", victim.reference, self.victims)
            self._known(f"victims.{name}.base", victim.base, self.victims)
            self._refuse_circle(name)
        for name, defense in self.defenses.items():
            self._known(f"defenses.{name}.victim", defense.victim, self.victims)
            for role, lender in defense.roles.items():
                key = f"defenses.{name}.roles.{role}"
                self._known(key, lender.partition("#")[0], self.victims)
        for name, attack in self.attacks.items():
            if attack.budgets and max(attack.budgets) > max(self.budgets):
                raise MatrixError(
                    f"attacks.{name}.budgets: {max(attack.budgets)} is above the largest column of "
                    f"the table, {max(self.budgets)}: add it to budgets"
                )
            for defended in attack.defenses or ():
                self._known(f"attacks.{name}.defenses", defended, self.defenses)
            for defended in attack.more_seeds:
                key = f"attacks.{name}.more_seeds"
                self._known(key, defended, attack.defenses or tuple(self.defenses))
            self._check_knowledge(name, attack)
        for name in self.gate.defenses:
            self._known("gate.defenses", name, self.defenses)
        for key in self.serve.keys() & {"models", "model_dir", "port", "admin_port"}:
            raise MatrixError(f"serve.{key}: that is decided by the matrix")

    def _check_knowledge(self, name: str, attack: AttackEntry) -> None:
        """What an attacker knows or copies must be there to be known and copied."""
        lenders = () if attack.shadow is None else attack.shadow.roles.items()
        for role, lender in lenders:
            key = f"attacks.{name}.shadow.roles.{role}"
            self._known(key, lender.partition("#")[0], self.victims)
        if attack.shadow is not None:
            self._known(f"attacks.{name}.shadow.victim", attack.shadow.victim, self.victims)
            self._known(f"attacks.{name}.shadow.plain", attack.shadow.plain, self.victims)
        for defended in attack.defenses or self.defenses:
            entry = self.defenses[defended]
            if entry.url is not None and (attack.shadow or attack.known_defense == KNOWN_CHAIN):
                key = "shadow" if attack.shadow else "known_defense"
                raise MatrixError(
                    f"attacks.{name}.{key}: the chain of {defended} is that of a running server, "
                    "which is not known here"
                )
            if attack.shadow and attack.shadow.plain is None and not entry.chain:
                raise MatrixError(
                    f"attacks.{name}.shadow.plain: {defended} has no links, so that its defense is "
                    "in its weights: name others, which say what it hides"
                )
            if attack.known_defense == KNOWN_CHAIN:
                try:
                    check_links(entry.chain)
                except (DefenseError, ValueError) as error:
                    raise MatrixError(
                        f"attacks.{name}.known_defense: {defended}: {error}"
                    ) from error

    @staticmethod
    def _known(key: str, name: str | None, names: Collection[str]) -> None:
        if name is not None and name not in names:
            there = ", ".join(names) or "none"
            raise MatrixError(f"{key}: there is no {name!r}: there are {there}")

    def _refuse_circle(self, name: str) -> None:
        seen, waiting = set(), [name]
        while waiting:
            entry = self.victims[waiting.pop()]
            for other in (entry.reference, entry.base):
                if other == name:
                    raise MatrixError(f"victims.{name}: it waits for itself to be trained")
                if other is not None and other not in seen:
                    seen.add(other)
                    waiting.append(other)


def shipped_matrices() -> tuple[str, ...]:
    """Names of the matrices that come with the program."""
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in _shelf() if _is_yaml(entry)))


def load_matrix(source: str) -> Matrix:
    """Read a matrix.

    Args:
        source: path of a YAML file, or the name of a shipped matrix.

    Raises:
        MatrixError: there is no such matrix, or it is wrong somewhere; names the key.
    """
    file: Traversable | Path = Path(source)
    if not file.is_file():
        named = [entry for entry in _shelf() if entry.name == f"{source}.yaml"]
        if not named:
            raise MatrixError(
                f"there is no matrix {source!r}: give the path of a YAML file, or one of "
                f"{', '.join(shipped_matrices())}"
            )
        file = named[0]
    try:
        raw = load_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise MatrixError(f"matrix {source} cannot be read: {reason}") from error
    if not isinstance(raw, dict):
        raise MatrixError(f"matrix {source} must be a mapping of keys to values")
    try:
        matrix = Matrix.model_validate(raw)
        matrix.check()
    except ValidationError as error:
        said = misplaced_option(error, raw) or sentence(error, raw, Matrix)
        raise MatrixError(f"matrix {source}: {said}") from error
    except MatrixError as error:
        raise MatrixError(f"matrix {source}: {error}") from error
    return matrix


def _shelf() -> list[Traversable]:
    return list((resources.files("intaglio") / "matrices").iterdir())


def _is_yaml(entry: Traversable) -> bool:
    return entry.name.endswith(".yaml")
