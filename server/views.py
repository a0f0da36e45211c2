"""What stands behind the view of a model that a protocol holds, and what may be asked of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.catalogue import Entry, Limits
from server.dataplane import ModelView
from server.errors import BadRequest, TooLarge
from server.served import ServedModel

__all__ = ["Answering", "answering", "view_of"]

PATIENT = 0.5
"""Share of a model's deadline below which it is the caller that would not wait."""


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers a request, and within which limits.

    Attributes:
        served: a victim and its chain.
        limits: of the model.
    """

    served: ServedModel
    limits: Limits

    def granted(self, timeout_s: float | None) -> float:
        """For how many seconds a caller waits who asks for ``timeout_s``; None and 0: unstated.

        Raises:
            BadRequest: this is no duration.
        """
        longest = self.limits.deadline_s
        if timeout_s is None or timeout_s == 0:
            return longest
        if not timeout_s > 0:
            raise BadRequest(f"timeout must be positive, not {timeout_s:g} s")
        return min(timeout_s, longest)

    def impatient(self, timeout_s: float | None) -> bool:
        """Whether a caller asks to be answered in less than ``PATIENT`` of the model's deadline."""
        return timeout_s is not None and 0 < timeout_s < PATIENT * self.limits.deadline_s

    def check(self, images: NDArray[np.uint8]) -> None:
        """Refuse what this model cannot be shown, or not in one request.

        Raises:
            BadRequest: wrong shape or type.
            TooLarge: too many images.
        """
        shape = self.served.card.input.shape
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
            wanted = ", ".join(map(str, shape))
            given = ", ".join(map(str, images.shape))
            raise BadRequest(f"images must be uint8 [n, {wanted}], not {images.dtype} [{given}]")
        most = self.limits.max_request_samples
        if len(images) > most:
            raise TooLarge(
                f"a request may hold limits.max_request_samples = {most} images, this one holds "
                f"{len(images)}"
            )

    def check_cost(self, samples: int) -> None:
        """Refuse to explain so many images in one request.

        Raises:
            TooLarge: they count as more samples than a request may ask for.
        """
        cost, most = self.served.explanation_cost, self.limits.max_request_samples
        if samples * cost > most:
            raise TooLarge(
                f"an explained image counts as {cost} samples, of which a request may ask for "
                f"limits.max_request_samples = {most}; this one explains {samples} images"
            )


def view_of(entry: Entry, served: ServedModel) -> ModelView:
    """What a caller of ``served``, which is of ``entry``, may know of it."""
    return ModelView(
        name=served.name,
        version=served.version,
        versions=tuple(entry.versions),
        input=served.card.input,
        labels=served.card.labels,
        maps=served.maps,
        map_extent=served.map_extent,
        explanation_cost=served.explanation_cost,
        max_request_samples=entry.limits.max_request_samples,
        deadline_s=entry.limits.deadline_s,
        answering=Answering(served, entry.limits),
    )


def answering(view: ModelView, *, tightened: bool = False) -> Answering:
    """What stands behind ``view``; ``tightened``: behind the stricter chain, if there is one.

    Raises:
        TypeError: the view is not of a data plane of this module's.
    """
    behind = view.answering
    if not isinstance(behind, Answering):
        raise TypeError("a view must come from the data plane that is asked")
    if tightened and behind.served.tightened is not None:
        return Answering(behind.served.tightened, behind.limits)
    return behind
