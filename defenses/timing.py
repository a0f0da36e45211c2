"""How long each link of a chain took, on a CPU or on a GPU that runs behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import torch

__all__ = ["Stopwatch"]

# Some releases of torch leave this constructor without types.
_event: Callable[..., torch.cuda.Event] = torch.cuda.Event


class Stopwatch:
    """Marks moments of one batch and tells the seconds between them.

    On a CPU a mark is ``time.perf_counter()``. On CUDA a mark is an event put into the stream,
    which costs nothing to record; ``laps`` waits for the last one. The transfer of the answers
    that follows would wait at the same place, so a batch is synchronised once, as without timing.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._device = device
        self._events: list[torch.cuda.Event] = []
        self._times: list[float] = []

    def mark(self) -> None:
        """Note this moment in the work of the device."""
        if self._cuda:
            event = _event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._events.append(event)
        else:
            self._times.append(time.perf_counter())

    def laps(self) -> tuple[float, ...]:
        """Seconds between neighbouring marks."""
        if self._cuda:
            if self._events:
                self._events[-1].synchronize()
            return tuple(a.elapsed_time(b) / 1e3 for a, b in pairwise(self._events))
        return tuple(b - a for a, b in pairwise(self._times))
