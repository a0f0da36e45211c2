"""The learning rate as a pure function of how far a run has come."""

from __future__ import annotations

import math

from models.training.plan import Constant, Cosine, OneCycle, Schedule, Step

__all__ = ["drop_beyond", "learning_rate"]


def learning_rate(schedule: Schedule, peak: float, *, done: float, epochs: int) -> float:
    """The learning rate after ``done`` epochs of ``epochs``.

    Args:
        schedule: the shape.
        peak: the optimiser's own rate.
        done: in ``[0, epochs)``; a fraction within an epoch.
        epochs: length of the run.
    """
    match schedule:
        case Constant():
            return peak
        case Cosine(warmup_epochs=warmup):
            if done < warmup:
                # One epoch in a thousand ahead, so that the very first step is not wasted.
                return peak * min(1.0, (done + 1e-3) / warmup)
            span = epochs - warmup
            return peak * 0.5 * (1.0 + math.cos(math.pi * (done - warmup) / span))
        case OneCycle(rise=rise, start_divisor=start_divisor, end_divisor=end_divisor):
            first = peak / start_divisor
            top = rise * epochs
            return (
                _half_cosine(first, peak, done / top)
                if done < top
                else _half_cosine(peak, first / end_divisor, (done - top) / (epochs - top))
            )
        case Step(every=every, milestones=milestones, factor=factor):
            if every is not None:
                return peak * factor ** (int(done) // every)
            return peak * factor ** sum(done >= milestone for milestone in milestones)


def drop_beyond(schedule: Schedule, epochs: int) -> tuple[str, int] | None:
    """A drop that a run of ``epochs`` would never see, as its option and its epochs.

    Shortening a run leaves the milestones where they were: it would end at the peak rate.
    """
    match schedule:
        case Step(every=int(every)) if every >= epochs:
            return "every", every
        case Step(milestones=(*_, last)) if last >= epochs:
            return "milestones", last
    return None


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * share))
