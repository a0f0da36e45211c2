"""What an attack sees of its victim, and what an attack is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Attack",
    "BlackBox",
    "ExplainedReply",
    "Explaining",
    "Oracle",
    "Pool",
    "Reply",
    "VictimFacts",
]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to one request.

    Attributes:
        probabilities: ``(n, K)`` float32, as they came over the wire.
        sends: how often the request was sent until this answer came; at least 1.
    """

    probabilities: NDArray[np.float32]
    sends: int = 1


@dataclass(frozen=True, slots=True)
class ExplainedReply:
    """An answer to one request for maps.

    Attributes:
        probabilities: ``(n, K)`` float32, as they came over the wire.
        attributions: ``(n, h, w)`` float32, as they came over the wire.
        sends: how often the request was sent until this answer came; at least 1.
    """

    probabilities: NDArray[np.float32]
    attributions: NDArray[np.float32]
    sends: int = 1


@dataclass(frozen=True, slots=True)
class VictimFacts:
    """What anybody who may query a victim knows of it.

    Attributes:
        url: where it is, without credentials.
        model: its name there, with ``/VERSION`` where one version is asked for.
        shape: ``(C, H, W)`` of the images it is shown.
        classes: number of probabilities K.
        maps: ``(h, w)`` of its attribution maps; None for a victim that explains nothing.
        map_cost: queries that an image counts as which is answered with its map.
        batch: images that one request may hold; None where it says nothing of it.
        softmax: whether it answers with logits, of which probabilities were made here.
    """

    url: str
    model: str
    shape: tuple[int, int, int]
    classes: int
    maps: tuple[int, int] | None = None
    map_cost: int = 1
    batch: int | None = None
    softmax: bool = False

    def images_per_request(self, wanted: int) -> int:
        """``wanted``, or the fewer that one request may hold."""
        return wanted if self.batch is None else min(wanted, self.batch)


class BlackBox(Protocol):
    """A victim: a URL and a key, or anything that answers alike."""

    @property
    def facts(self) -> VictimFacts:
        """What is known of it before the first query."""
        ...

    async def query(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> Reply:
        """Answer for ``images`` ``(n, C, H, W)``; each image is one query.

        Args:
            images: uint8.
            key: names this request. A victim that knows idempotency keys charges a key once,
                however often the request is sent.
            sending: called right before every attempt, so that what was sent is known even if no
                answer ever comes; what it raises is passed on, and nothing is sent. A victim that
                ignores it is counted by ``Reply.sends``.

        Raises:
            VictimError: there is no answer, and asking again now would not help.
        """
        ...


@runtime_checkable
class Explaining(BlackBox, Protocol):
    """A victim that can be asked for attribution maps, too."""

    async def explain(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> ExplainedReply:
        """As ``query``, with a map for each image; a victim may charge more for it.

        Raises:
            VictimError: there is no answer, and asking again now would not help.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pool:
    """The surrogate pool: images an attacker has, already in the victim's input shape.

    Attributes:
        name: dataset name.
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64, the pool's own classes: actions of adaptive strategies.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Oracle(Protocol):
    """The victim behind a query budget and a transfer set on disk.

    An attack asks by position. What was answered before a kill is answered from disk, in the
    same order and without a query: resuming is running again.
    """

    @property
    def budget(self) -> int:
        """Queries this attack may spend in all."""
        ...

    async def ask(self, start: int, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities ``(n, K)`` of ``images``, recorded at positions ``start .. start + n``.

        Safe to call concurrently; the number of requests in flight is bounded by the oracle.

        Raises:
            BudgetExhausted: ``start + n`` is beyond the budget; nothing was sent.
            TransferSetError: other images are already recorded at these positions.
        """
        ...


class Attack(ABC):
    """How the images to ask about are chosen. An author writes ``run``.

    Constructors take hyper-parameters by keyword, validate and store them. ``repr`` is the
    configuration: an interrupted theft goes on only under an attack of equal ``repr``.
    """

    kind: ClassVar[str]
    """Name on the command line and in reports."""

    unstated: ClassVar[frozenset[str]] = frozenset({"allow_factories", "device"})
    """What a constructor may store that is no part of the configuration: a theft goes on without
    it."""

    per_epoch: int | None = None
    """Images that a clone is to be shown in one epoch and never again, for an attack that makes new
    ones for every epoch; None: all of them in every epoch."""

    explains: ClassVar[bool] = False
    """Whether every answer is asked for with its attribution map, which the transfer set keeps."""

    seeds_only: ClassVar[bool] = False
    """Whether its pool is the victim's own data, of which an attacker has no more than it takes."""

    repeats: bool = False
    """Whether it asks for the same image again on purpose; otherwise that is answered from disk."""

    @abstractmethod
    async def run(self, oracle: Oracle, pool: Pool) -> None:
        """Ask ``oracle`` until its budget is spent; deterministic given pool, seed and answers."""

    def __repr__(self) -> str:
        """``kind(name=value, ...)`` of what the constructor stored."""
        stored = ", ".join(
            f"{name.lstrip('_')}={value!r}"
            for name, value in vars(self).items()
            if name not in self.unstated
        )
        return f"{self.kind}({stored})"

    @property
    def steered_by(self) -> str | None:
        """The labels, ``soft`` or ``hard``, by which it chooses what to ask next.

        None: answers do not decide that, or not by their kind.
        """
        return None

    @property
    def architectures(self) -> tuple[str, ...]:
        """Of the clones that the attack trains on its way, if it trains any."""
        return ()

    def published_queries(self, budget: int) -> int | None:
        """What the published code of this attack would be charged for ``budget`` answers.

        None where that is as much as here: no answer is asked for twice.
        """
        del budget
        return None
