"""Confidence filtering: what a victim is not sure of is dropped, or counts for less."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from attack_client.adaptive.contract import Answering, Harvest, Knowledge
from attack_client.checked_numbers import finite_number
from attack_client.errors import AdaptationError

__all__ = ["FilterConfidence"]

Mode = Literal["drop", "weigh"]


class FilterConfidence(Answering):
    """Keeps the answers with a large top probability.

    The counter to defenses that answer strangers with something close to uniform (outlier
    exposure, InI). A network that misinforms confidently is not noticed by it. After
    ``augmentation-averaging`` it could be, where its answers to views of one image disagree;
    against ``am`` on MNIST that was no help.

    Args:
        least: answers below this top probability are dropped, in (0, 1); or
        keep: the share of answers that stays, the most confident first, in (0, 1]. Half, where
            neither is given.
        mode: ``drop``; or ``weigh``, which drops nothing and makes an answer count in proportion
            to its top probability's lead over ``1 / K`` (with neither bound).
    """

    kind: ClassVar[str] = "filter-confidence"
    undoes: ClassVar[str] = "confidence"

    def __init__(
        self, *, least: float | None = None, keep: float | None = None, mode: Mode = "drop"
    ) -> None:
        if mode not in ("drop", "weigh"):
            raise ValueError(f"mode must be drop or weigh, not {mode!r}")
        if (least is not None) + (keep is not None) > (mode == "drop"):
            raise ValueError("give one of least and keep, and neither with mode=weigh")
        if least is not None and not 0.0 < finite_number("least", least) < 1.0:
            raise ValueError(f"least must be above 0 and below 1, not {least}")
        if keep is not None and not 0.0 < finite_number("keep", keep) <= 1.0:
            raise ValueError(f"keep must be above 0 and at most 1, not {keep}")
        self.least = least
        self.keep = 0.5 if mode == "drop" and least is None and keep is None else keep
        self.mode: Mode = mode

    def apply(self, harvest: Harvest, knowledge: Knowledge) -> Harvest:
        """The confident rows, in the order in which they were asked.

        Raises:
            AdaptationError: none is as confident as ``least``.
        """
        top = harvest.answers.max(axis=1)
        if self.mode == "weigh":
            floor = 1.0 / knowledge.classes
            lead = np.clip((top - floor) / (1.0 - floor), 1e-3, 1.0)
            weights = harvest.weights * lead
            return Harvest(
                harvest.images,
                harvest.answers,
                np.asarray(weights / weights.mean(), dtype=np.float32),
                harvest.positions,
            )
        if self.least is not None:
            kept = np.flatnonzero(top >= self.least)
        else:
            assert self.keep is not None
            count = max(1, round(self.keep * len(top)))
            kept = np.sort(np.argsort(-top, kind="stable")[:count])
        if not len(kept):
            raise AdaptationError(
                f"{self!r} keeps none of {len(top)} answers: the most confident has a top "
                f"probability of {top.max():.3g}"
            )
        return harvest.only(kept)
