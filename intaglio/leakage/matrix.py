"""What a leakage matrix measures: YAML that a person can read and change."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PositiveInt,
    ValidationError,
    model_validator,
)

from attack_client.clone import PRESENTATIONS, CloneRecipe
from attack_client.report.schema import Labels
from intaglio.leakage.errors import MatrixError
from intaglio.recipe_errors import sentence
from models.card import Name
from models.strict_yaml import load_yaml
from models.training.plan import Augment

__all__ = [
    "AttackEntry",
    "Clone",
    "DefenseEntry",
    "Gate",
    "Matrix",
    "VictimEntry",
    "load_matrix",
    "shipped_matrices",
]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Threshold = Annotated[float, Field(ge=0.0, le=2.0)]
TableName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
"""Combined defenses are named with a plus: ``ini+am``."""
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Clone(_Section):
    """How clones are trained; one recipe for the whole matrix, or its cells are not comparable.

    Attributes:
        architecture: a registered name, or a factory that is allowed.
        epochs: passes over the transfer set; None to follow from ``presentations``.
        presentations: images shown in all, where ``epochs`` is None.
        batch_size: samples per step.
        augment: of the images, unless an attack says otherwise.
        holdout: share of the answers held out to choose the epoch by; 0 takes the last.
        allow_factories: factories that may be called.
    """

    architecture: str
    epochs: PositiveInt | None = None
    presentations: PositiveInt = PRESENTATIONS
    batch_size: PositiveInt = 128
    augment: Augment = "none"
    holdout: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    allow_factories: tuple[str, ...] = ()

    def recipe(self, augment: Augment | None = None) -> CloneRecipe:
        """The same for the attack client; ``augment`` is an attack's own."""
        return CloneRecipe(**(self.model_dump() | {"augment": augment or self.augment}))


class VictimEntry(_Section):
    """Whose weights answer: a recipe, trained once per seed, or a bundle that is there.

    Attributes:
        recipe: shipped name, or path of a YAML file.
        set: changes to it, ``dotted.key=value`` each; ``{seed}`` stands for the seed, which is
            also that of the plan.
        reference: victim from whose accuracy the cost of this one is measured in its training.
        base: victim that it is trained against.
        bundle: directory NAME/VERSION of finished weights.
    """

    recipe: str | None = None
    set: tuple[str, ...] = ()
    reference: str | None = None
    base: str | None = None
    bundle: Path | None = None

    @model_validator(mode="after")
    def _one_source(self) -> VictimEntry:
        if (self.recipe is None) == (self.bundle is None):
            raise ValueError("give either recipe or bundle")
        if self.bundle is not None and (self.set or self.reference or self.base):
            raise ValueError("set, reference and base change a recipe, and this is a bundle")
        return self


class DefenseEntry(_Section):
    """What is attacked: weights behind a chain that we serve, or somebody's running server.

    Attributes:
        victim: whose weights answer.
        chain: links in order, as in the server's configuration.
        roles: networks of other victims: role to ``VICTIM`` or ``VICTIM#ROLE``.
        explanations: as in the server's configuration, for attacks that ask for maps.
        url: of a running server, instead of ``victim``.
        model: its name there.
        key_env: environment variable with the thief's key; the key itself has no place in a file.
        operator_key_env: the same of honest queries.
        shape: ``[C, H, W]``, where the running model leaves it open.
        budget_limit: no attack asks more than this, because a query costs too much.
    """

    victim: str | None = None
    chain: tuple[dict[str, Any], ...] = ()
    roles: dict[str, str] = Field(default_factory=dict)
    explanations: dict[str, JsonValue] | None = None
    url: str | None = None
    model: str | None = None
    key_env: Variable | None = None
    operator_key_env: Variable | None = None
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    budget_limit: PositiveInt | None = None

    @model_validator(mode="after")
    def _served_or_running(self) -> DefenseEntry:
        if (self.victim is None) == (self.url is None):
            raise ValueError("give either victim, to be served here, or url, of a running server")
        if self.url is not None:
            if self.model is None:
                raise ValueError("a running server needs model, the name to ask for")
            if self.chain or self.roles or self.explanations:
                raise ValueError("chain, roles and explanations are the running server's own")
        elif self.model or self.key_env or self.operator_key_env or self.shape:
            raise ValueError("model, key_env, operator_key_env and shape belong to a url")
        return self


class AttackEntry(_Section):
    """One attack with its options, and which part of the matrix it is run on.

    Attributes:
        attack: kind, as ``intaglio attack`` knows it; by default the entry's name.
        options: its hyper-parameters.
        adapt: add-ons, ``NAME`` or ``NAME:key=value`` each.
        known_defense: what the attacker knows of the defense, ``package.module:factory``.
        pool: dataset of its images, where it is another than the matrix's.
        labels: what clones learn from.
        budgets: where they are others than the matrix's.
        seeds: where they are others than the matrix's.
        defenses: where it is not run on all.
        augment: of the clones, where it is another than the matrix's.
    """

    attack: str | None = None
    options: dict[str, JsonValue] = Field(default_factory=dict)
    adapt: tuple[str, ...] = ()
    known_defense: str | None = None
    pool: str | None = None
    labels: Annotated[tuple[Labels, ...], Field(min_length=1)] = ("soft", "hard")
    budgets: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    defenses: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    augment: Augment | None = None


class Gate(_Section):
    """When a release fails: the strongest attack's accuracy over the plain victim's.

    Attributes:
        fail_above: for every defense but the yardsticks ``none`` and ``label-only``; None for no
            gate.
        defenses: of single ones, yardsticks included; null lets one pass whatever it leaks.
    """

    fail_above: Threshold | None = None
    defenses: dict[str, Threshold | None] = Field(default_factory=dict)


class Matrix(_Section):
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
        for name in self.gate.defenses:
            self._known("gate.defenses", name, self.defenses)
        for key in self.serve.keys() & {"models", "model_dir", "port", "admin_port"}:
            raise MatrixError(f"serve.{key}: that is decided by the matrix")

    @staticmethod
    def _known(key: str, name: str | None, names: Mapping[str, object]) -> None:
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
        raise MatrixError(f"matrix {source}: {sentence(error, raw, Matrix)}") from error
    except MatrixError as error:
        raise MatrixError(f"matrix {source}: {error}") from error
    return matrix


def _shelf() -> list[Traversable]:
    return list((resources.files("intaglio") / "matrices").iterdir())


def _is_yaml(entry: Traversable) -> bool:
    return entry.name.endswith(".yaml")
