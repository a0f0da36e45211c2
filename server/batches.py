"""What goes to the engine and what comes back, and the seam between the two threads involved."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from server.tracing import Lap
from server.waiting import Item

__all__ = ["Batch", "Batches", "Computed", "Group", "Phases", "checked"]

Group = TypeVar("Group", bound=Hashable)


class Phases(NamedTuple):
    """What one batch took, in nanoseconds.

    Attributes:
        input: images to the device.
        infer: forward pass, chain and maps.
        output: answers from the device.
    """

    input: int
    infer: int
    output: int


@dataclass(frozen=True, slots=True)
class Computed:
    """What one batch of B samples yields.

    Attributes:
        probabilities: ``(B, K)`` float32.
        failed: ``(B,)`` bool: rows that must not be answered.
        attributions: ``(B, h, w)`` float32, rows meaningful where a map was asked for; None where
            none was.
        phases: what it took; None where nobody measured.
        laps: what of that was the forward pass, each link of the chain, and the maps.
        laps_began: when the first of them began, by ``time.perf_counter``.
    """

    probabilities: NDArray[np.float32]
    failed: NDArray[np.bool_]
    attributions: NDArray[np.float32] | None = None
    phases: Phases | None = None
    laps: tuple[Lap, ...] = ()
    laps_began: float = 0.0


@dataclass(eq=False, slots=True)
class Batch(Generic[Group]):
    """What is computed in one go.

    Attributes:
        group: what all of it belongs to.
        items: the parts of requests in it.
        released: why it left; None for the half of a batch that failed.
        began: when it was taken, by ``time.perf_counter``.
    """

    group: Group
    items: list[Item]
    released: str | None
    began: float

    @property
    def parts(self) -> list[NDArray[np.uint8]]:
        """The images to compute, each ``(m, C, H, W)``."""
        return [item.images for item in self.items]

    @property
    def explain(self) -> NDArray[np.bool_]:
        """Which images ask for a map: ``(B,)``."""
        return np.repeat(
            np.array([item.explain for item in self.items], dtype=np.bool_),
            [item.samples for item in self.items],
        )

    @property
    def samples(self) -> int:
        """Number of images."""
        return sum(item.samples for item in self.items)

    def rows(self) -> Iterator[tuple[Item, slice]]:
        """Each item with its rows in what this batch yields."""
        stop = 0
        for item in self.items:
            start, stop = stop, stop + item.samples
            yield item, slice(start, stop)

    def halves(self) -> Iterator[Batch[Group]]:
        """The two batches of half its items each; needs two items."""
        half = len(self.items) // 2
        for items in (self.items[:half], self.items[half:]):
            yield Batch(self.group, items, None, self.began)


class Batches(Protocol[Group]):
    """Where whoever computes gets its work from; both methods may be called from any thread."""

    def take(self) -> Batch[Group] | None:
        """The next batch; None if there is none, and then the taker is called again later."""
        ...

    def done(self, batch: Batch[Group], outcome: Computed | Exception) -> None:
        """What became of the batch that was taken last; before the next one is taken."""
        ...


def checked(outcome: object, samples: int, *, explained: bool = False) -> Computed | Exception:
    """``outcome``, or an error if it is not the answer to ``samples`` images and their maps."""
    if isinstance(outcome, Exception):
        return outcome
    if not isinstance(outcome, Computed):
        return TypeError(f"a batch yielded {type(outcome).__name__}")
    probabilities, failed = outcome.probabilities, outcome.failed
    if probabilities.ndim != 2 or len(probabilities) != samples or failed.shape != (samples,):
        return ValueError(
            f"a batch of {samples} samples yielded probabilities {probabilities.shape} "
            f"and marks {failed.shape}"
        )
    maps = outcome.attributions
    if explained and (maps is None or maps.ndim != 3 or len(maps) != samples):
        return ValueError(f"a batch of {samples} samples yielded no maps, or not so many")
    return outcome
