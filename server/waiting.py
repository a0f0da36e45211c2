"""Queries that wait for the engine: in order, by group, withdrawable at any time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Item", "Ticket", "WaitingLine"]

Group = TypeVar("Group", bound=Hashable)


@dataclass(eq=False, slots=True)
class Ticket:
    """One request: what its caller waits for.

    Attributes:
        future: resolves to probabilities ``(n, K)``, or fails with a ``ServiceError``.
        samples: n.
        deadline: by ``time.perf_counter``, which every thread can read.
        items: the parts it was split into.
        over: whether its outcome is settled, so that no more of it need be computed.
    """

    future: asyncio.Future[NDArray[np.float32]]
    samples: int
    deadline: float
    items: list[Item] = field(default_factory=list)
    over: bool = False
    _answer: NDArray[np.float32] | None = None

    def fill(self, item: Item, probabilities: NDArray[np.float32]) -> None:
        """Take the rows of one item; the last item that was missing resolves the future."""
        item.settled = True
        if self.future.done():
            return
        if self._answer is None:
            # A copy of its own: no caller keeps, or shares, the arrays of a whole batch.
            self._answer = np.empty((self.samples, probabilities.shape[1]), dtype=np.float32)
        self._answer[item.start : item.start + item.samples] = probabilities
        if all(each.settled for each in self.items):
            self.future.set_result(self._answer)


@dataclass(eq=False, slots=True)
class Item:
    """Consecutive images of one request that are computed in one batch.

    Attributes:
        ticket: the request.
        images: ``(m, C, H, W)`` uint8.
        start: position of the first image in its request.
        accepted: when, by ``time.perf_counter``: an event loop's clock may tick in milliseconds.
        settled: whether its rows are in the answer.
    """

    ticket: Ticket
    images: NDArray[np.uint8]
    start: int
    accepted: float
    settled: bool = False

    @property
    def samples(self) -> int:
        """Number of images m."""
        return len(self.images)


class WaitingLine(Generic[Group]):
    """Items in order of arrival within each group; an item comes and goes in O(1)."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._groups: dict[Group, dict[Item, int]] = {}
        self._where: dict[Item, Group] = {}
        self._samples: dict[Group, int] = {}
        # Kept, not summed: it is read while another thread changes the line.
        self._total = 0

    @property
    def samples(self) -> int:
        """Samples that wait, in all groups."""
        return self._total

    def __iter__(self) -> Iterator[tuple[Group, Item, int]]:
        """Each group with its first item and its samples, the longest waiting group first."""
        heads = ((*next(iter(items.items())), group) for group, items in self._groups.items())
        for item, _, group in sorted(heads, key=lambda head: head[1]):
            yield group, item, self._samples[group]

    def add(self, group: Group, item: Item) -> None:
        """Put ``item`` at the end of ``group``."""
        self._groups.setdefault(group, {})[item] = next(self._numbers)
        self._samples[group] = self._samples.get(group, 0) + item.samples
        self._where[item] = group
        self._total += item.samples

    def discard(self, item: Item) -> None:
        """Take ``item`` out, wherever it stands; does nothing if it is not there."""
        group = self._where.pop(item, None)
        if group is None:
            return
        items = self._groups[group]
        del items[item]
        self._samples[group] -= item.samples
        self._total -= item.samples
        if not items:
            del self._groups[group], self._samples[group]

    def take(self, group: Group, at_most: int) -> list[Item]:
        """Take items from the front of ``group`` until the next would exceed ``at_most`` samples.

        The first item is always taken.
        """
        taken: list[Item] = []
        room = at_most
        for item in self._groups.get(group, {}):
            if taken and item.samples > room:
                break
            taken.append(item)
            room -= item.samples
            if room <= 0:
                break
        for item in taken:
            self.discard(item)
        return taken
