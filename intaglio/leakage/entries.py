"""The sections of a leakage matrix: clones, victims, defenses, attacks, the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveInt, model_validator

from attack_client.clone import PRESENTATIONS, CloneRecipe
from attack_client.report.schema import Labels
from models.training.plan import Augment

__all__ = [
    "KNOWN_CHAIN",
    "AttackEntry",
    "Clone",
    "DefenseEntry",
    "Gate",
    "Section",
    "Seed",
    "ShadowEntry",
    "TableName",
    "VictimEntry",
]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Threshold = Annotated[float, Field(ge=0.0, le=2.0)]
TableName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
"""Combined defenses are named with a plus: ``ini+am``."""
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


KNOWN_CHAIN = "chain"
"""Of an attacker who knows the configuration of what it attacks, and not its weights."""


class Section(BaseModel):
    """Unknown keys are refused, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Clone(Section):
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


class VictimEntry(Section):
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


class DefenseEntry(Section):
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
        release: what runs there, as its operator calls it. Nothing else tells that it changed.
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
    release: str | None = None
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
        elif self.model or self.key_env or self.operator_key_env or self.shape or self.release:
            raise ValueError("model, key_env, operator_key_env, shape and release belong to a url")
        return self


class ShadowEntry(Section):
    """An attacker's own copy of what it attacks: its own weights behind the same chain.

    Attributes:
        victim: whose weights answer, which an attacker must be able to train.
        roles: what the chain needs beside them: role to ``VICTIM`` or ``VICTIM#ROLE``.
        plain: whose weights say what the defense hides; by default those of ``victim``, without the
            chain, which tells nothing where the defense is in the weights.
    """

    victim: str
    roles: dict[str, str] = Field(default_factory=dict)
    plain: str | None = None


class AttackEntry(Section):
    """One attack with its options, and which part of the matrix it is run on.

    Attributes:
        attack: kind, as ``intaglio attack`` knows it; by default the entry's name.
        options: its hyper-parameters.
        adapt: add-ons, ``NAME`` or ``NAME:key=value`` each.
        known_defense: what the attacker knows of the defense, as a function:
            ``package.module:factory``, or ``chain`` for the very chain that it attacks.
        known_options: keyword arguments of that factory.
        shadow: its own copy of the service, served beside the victim.
        pool: dataset of its images, where it is another than the matrix's.
        labels: what clones learn from.
        budgets: where they are others than the matrix's.
        seeds: where they are others than the matrix's.
        more_seeds: by defense, besides ``seeds``: of an attack that is tried once on all, on those
            that it turned out strongest on.
        defenses: where it is not run on all.
        augment: of the clones, where it is another than the matrix's.
        learn: how clones learn, of the two attacks in which they learn otherwise: ``alpha``,
            ``temperature`` and ``floor`` of ``distil``, ``weight``, ``interpreter`` and ``layer``
            of ``attribution``.
    """

    attack: str | None = None
    options: dict[str, JsonValue] = Field(default_factory=dict)
    adapt: tuple[str, ...] = ()
    known_defense: str | None = None
    known_options: dict[str, JsonValue] = Field(default_factory=dict)
    shadow: ShadowEntry | None = None
    pool: str | None = None
    labels: Annotated[tuple[Labels, ...], Field(min_length=1)] = ("soft", "hard")
    budgets: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    more_seeds: dict[str, tuple[Seed, ...]] = Field(default_factory=dict)
    defenses: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    augment: Augment | None = None
    learn: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _options_of_something(self) -> AttackEntry:
        if self.known_options and self.known_defense in {None, KNOWN_CHAIN}:
            raise ValueError("known_options are those of a factory, which known_defense names")
        return self


class Gate(Section):
    """When a release fails: the strongest attack's accuracy over the plain victim's.

    Attributes:
        fail_above: for every defense but the yardsticks ``none`` and ``label-only``; None for no
            gate.
        defenses: of single ones, yardsticks included; null lets one pass whatever it leaks.
    """

    fail_above: Threshold | None = None
    defenses: dict[str, Threshold | None] = Field(default_factory=dict)
