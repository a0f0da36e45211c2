"""Queries that wait for the engine: in order, by group, withdrawable at any time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from server.tracing import CURRENT, RequestTrace

__all__ = ["Filled", "Item", "Ticket", "WaitingLine"]

Group = TypeVar("Group", bound=Hashable)


class Filled(NamedTuple):
    """What was computed of the n images of one request.

    Attributes:
        probabilities: ``(n, K)`` float32.
        attributions: ``(n, h, w)`` float32; None where none were asked for.
    """

    probabilities: NDArray[np.float32]
    attributions: NDArray[np.float32] | None


@dataclass(eq=False, slots=True)
class Ticket:
    """One request: what its caller waits for.

    Attributes:
        future: resolves to what was computed of its n images, or fails with a ``ServiceError``.
        samples: n.
        deadline: by ``time.perf_counter``, which every thread can read.
        items: the parts it was split into.
        over: whether its outcome is settled, so that no more of it need be computed.
        trace: told what its parts were computed in; None where nothing is traced.
    """

    future: asyncio.Future[Filled]
    samples: int
    deadline: float
    items: list[Item] = field(default_factory=list)
    over: bool = False
    trace: RequestTrace | None = field(default_factory=CURRENT.get)
    _filled: Filled | None = None

    def fill(
        self,
        item: Item,
        probabilities: NDArray[np.float32],
        attributions: NDArray[np.float32] | None = None,
    ) -> None:
        """Take the rows of one item; the last item that was missing resolves the future."""
        item.settled = True
        if self.future.done():
            return
        if self._filled is None:
            # Copies of its own: no caller keeps, or shares, the arrays of a whole batch.
            self._filled = Filled(
                _like(probabilities, self.samples),
                _like(attributions, self.samples) if attributions is not None else None,
            )
        rows = slice(item.start, item.start + item.samples)
        self._filled.probabilities[rows] = probabilities
        if self._filled.attributions is not None:
            self._filled.attributions[rows] = attributions
        if all(each.settled for each in self.items):
            self.future.set_result(self._filled)


@dataclass(eq=False, slots=True)
class Item:
    """Consecutive images of one request that are computed in one batch.

    Attributes:
        ticket: the request.
        images: ``(m, C, H, W)`` uint8.
        start: position of the first image in its request.
        accepted: when, by ``time.perf_counter``: an event loop's clock may tick in milliseconds.
        settled: whether its rows are in the answer.
        explain: whether maps are asked for.
        cost: samples that each of its images counts as while it waits.
    """

    ticket: Ticket
    images: NDArray[np.uint8]
    start: int
    accepted: float
    settled: bool = False
    explain: bool = False
    cost: int = 1

    @property
    def samples(self) -> int:
        """Number of images m."""
        return len(self.images)

    @property
    def charge(self) -> int:
        """Samples that it counts as while it waits."""
        return len(self.images) * self.cost


def _like(rows: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    return np.empty((samples, *rows.shape[1:]), dtype=np.float32)


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
        """Samples that wait, in all groups; an image counts as much as it costs."""
        return self._total

    def __iter__(self) -> Iterator[tuple[Group, Item, int]]:
        """Each group with its first item and its samples, the longest waiting group first."""
        heads = ((*next(iter(items.items())), group) for group, items in self._groups.items())
        for item, _, group in sorted(heads, key=lambda head: head[1]):
            yield group, item, self._samples[group]

    def add(self, group: Group, item: Item) -> None:
        """Put ``item`` at the end of ``group``."""
        self._groups.setdefault(group, {})[item] = next(self._numbers)
        self._samples[group] = self._samples.get(group, 0) + item.charge
        self._where[item] = group
        self._total += item.charge

    def discard(self, item: Item) -> None:
        """Take ``item`` out, wherever it stands; does nothing if it is not there."""
        group = self._where.pop(item, None)
        if group is None:
            return
        items = self._groups[group]
        del items[item]
        self._samples[group] -= item.charge
        self._total -= item.charge
        if not items:
            del self._groups[group], self._samples[group]

    def take(self, group: Group, at_most: int) -> list[Item]:
        """Take items from the front of ``group`` until the next would exceed ``at_most`` samples.

        The first item is always taken.
        """
        taken: list[Item] = []
        room = at_most
        for item in self._groups.get(group, {}):
            if taken and item.charge > room:
                break
            taken.append(item)
            room -= item.charge
            if room <= 0:
                break
        for item in taken:
            self.discard(item)
        return taken
