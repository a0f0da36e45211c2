"""The contract of a defense: a batched map from what the victim said to what leaves."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from torch import Tensor, nn

from models.card import Card
from models.explain import Interpreter

__all__ = ["Answers", "Defense", "Interpret", "Material", "Output", "Queries", "Stage"]

Interpret = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""The operator's interpreter: network, images ``(B, C, H, W)``, classes ``(B,)`` to maps."""


class Stage(enum.IntEnum):
    """Where a link may stand; a chain goes through the stages in this order.

    ``REPLACE`` links decide from what the victim said and would forget an earlier link;
    ``TRUNCATE`` links throw away what a later link would decide from.
    """

    REPLACE = 0
    PERTURB = 1
    TRUNCATE = 2


class Output(enum.Enum):
    """What can leave the service."""

    PROBABILITIES = "probabilities"
    ATTRIBUTIONS = "attributions"


@dataclass(frozen=True, slots=True)
class Queries:
    """What was asked: B queries of any mix.

    Attributes:
        images: ``(B, C, H, W)`` float32 in [0, 1], on the engine's device.
        seeds: ``(B,)`` int64, a keyed hash of each image: the only source of randomness.
        explain: ``(B,)`` bool, whether an attribution map leaves too.
        victim: ``(B, K)`` float32, what the victim said: canonical, never changed.
    """

    images: Tensor
    seeds: Tensor
    explain: Tensor
    victim: Tensor


@dataclass(frozen=True, slots=True)
class Answers:
    """What would leave, as it stands after the links so far.

    Attributes:
        probabilities: ``(B, K)`` float32 on the simplex.
        attributions: ``(B, h, w)`` float32, rows meaningful where ``explain`` is set; or None.
    """

    probabilities: Tensor
    attributions: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """What a defense may be built from.

    Attributes:
        card: the card of the bundle whose weights answer.
        networks: loaded networks by role, on the engine's device, in evaluation mode.
        interpreter: the operator's, of the victim; None where no maps are served.
        codebooks: words ``(n, K)`` that the bundle holds, by kind of defense, on that device.
    """

    card: Card
    networks: Mapping[str, nn.Module]
    interpreter: Interpreter | None = None
    codebooks: Mapping[str, Tensor] = field(default_factory=dict)


class Defense(ABC):
    """One link of a chain. A plug-in author writes ``apply``; the chain owns the rest.

    Keyword-only constructor parameters are the options an operator may write in the
    configuration; parameters named after a role in ``roles`` receive that network, and
    ``interpreter`` the operator's, where it ``interprets``.
    A constructor validates and stores, and raises ``OptionError`` naming the parameter.

    A defense is a pure function of ``Queries`` and ``Answers``, row by row, with O(1) state, unless
    it declares ``stateful``.
    """

    kind: ClassVar[str]
    """Name in configurations, tables and reports."""

    stage: ClassVar[Stage]
    """Where in a chain it may stand."""

    roles: ClassVar[tuple[str, ...]] = ()
    """Networks that the constructor can be given; ``needs`` says which it must be given."""

    interprets: ClassVar[bool] = False
    """Whether it changes maps: its constructor is given the operator's ``interpreter``, and nobody
    can have it who serves no explanations."""

    looked_up: ClassVar[tuple[str, ...]] = ()
    """Options that ``resolve`` turns into constructor parameters, being none themselves.

    One named after a role is the operator's choice of that network.
    """

    keeps_top1: bool = True
    """Promise of this configuration: the top-1 it was given is the top-1 it returns."""

    covers: frozenset[Output] = frozenset({Output.PROBABILITIES})
    """Which outputs this configuration protects."""

    timing_leak: bool = False
    """Whether the work it does depends on its decision."""

    stateful: bool = False
    """Whether an answer depends on what was asked before; if so, that is listed at start, and the
    link sees no query but those of callers: none of the noise that a server warms up with."""

    @abstractmethod
    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """What leaves after this link. Must not modify its arguments."""

    def attribute(
        self, queries: Queries, classes: Tensor, maps: Tensor, interpret: Interpret
    ) -> Tensor:
        """Maps of whoever answered, where that was not the victim.

        Not called after a link that put maps of its own into its answers. Asked after the whole
        chain, because what is explained is the label that leaves. The default is the victim's map.

        Args:
            queries: the B queries that ask for a map, none that does not.
            classes: ``(B,)`` int64, the top-1 of what leaves.
            maps: ``(B, h, w)``, of the victim, or of what an earlier link put in its place.
            interpret: makes maps of any other network, of the same ``(h, w)``.

        Returns:
            ``(B, h, w)``. Must not modify its arguments.
        """
        del queries, classes, interpret
        return maps

    def check(self, classes: int) -> None:
        """Refuse a configuration that cannot work for ``classes`` labels.

        Raises:
            OptionError: naming the option.
        """
        del classes

    @classmethod
    def needs(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of ``roles`` without which these options make no sense; all, if not overridden.

        Asked before any network is loaded, of options that nobody has checked yet.
        """
        del options
        return cls.roles

    @classmethod
    def resolve(cls, options: Mapping[str, Any], material: Material) -> Mapping[str, Any]:
        """Turn what an operator wrote into constructor arguments, networks excluded.

        The default takes the options as they are; a defense whose options refer to something
        measured (a threshold by its benign cost) looks it up in ``material``.

        Raises:
            OptionError: if what the options refer to is not there.
        """
        del material
        return options

    @final
    def __repr__(self) -> str:
        """The configuration, as it would be written to build this defense again."""
        shown = ", ".join(f"{key}={value!r}" for key, value in self.options().items())
        return f"{type(self).__name__}({shown})"

    def options(self) -> dict[str, Any]:
        """The effective options by name; networks are not options."""
        return {}
