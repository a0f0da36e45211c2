"""Inference without a protocol: what the routes of every protocol call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.card import InputSpec
from models.explain import Extent
from server.errors import ServiceError

__all__ = ["DataPlane", "Explained", "ModelView"]


@dataclass(frozen=True, slots=True)
class Explained:
    """Answers with the maps that explain them.

    Attributes:
        probabilities: ``(n, K)`` float32.
        attributions: ``(n, h, w)`` float32 in [0, 1], of the top-1 of each row.
    """

    probabilities: NDArray[np.float32]
    attributions: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ModelView:
    """What a caller may know of a served model: inputs and outputs, and nothing else.

    Attributes:
        name: served name.
        version: this version.
        versions: all served versions of that name, oldest first.
        input: what the model is shown, and how an image becomes that.
        labels: K class names in the order of the probabilities.
        maps: height and width of attribution maps; None where none are served.
        map_extent: which part of an image, in pixels of the input, a map covers; None: all of it.
        explanation_cost: samples that one explained image counts as.
        max_request_samples: images in one request; None: only the server's own limit counts.
        deadline_s: the longest wait for an answer; None: only the server's own limit counts.
        answering: who answers, for the data plane alone. Whoever was shown this view is answered
            by it, whatever is loaded or unloaded meanwhile.
    """

    name: str
    version: str
    versions: tuple[str, ...]
    input: InputSpec
    labels: tuple[str, ...]
    maps: tuple[int, int] | None = None
    map_extent: Extent | None = None
    explanation_cost: int = 1
    max_request_samples: int | None = None
    deadline_s: float | None = None
    answering: object = field(default=None, repr=False, compare=False)


class DataPlane(Protocol):
    """The seam between protocols above and batching below."""

    @property
    def ready(self) -> bool:
        """Whether queries are accepted: warmed up, and not draining."""
        ...

    def overload(self) -> ServiceError | None:
        """Why a query of one sample would be refused now, whatever it asks; None if it would not.

        Cheap: it is asked before anything of a request is read.
        """
        ...

    def models(self, tier: str | None = None) -> tuple[ModelView, ...]:
        """The default version of every served model, by name, as callers of ``tier`` see it."""
        ...

    def view(self, name: str, version: str | None = None, *, tier: str | None = None) -> ModelView:
        """One served model as callers of ``tier`` see it; None: callers without one.

        Raises:
            NotFound: no such name or version.
        """
        ...

    def tightens(self, view: ModelView) -> bool:
        """Whether ``view`` has a stricter chain for callers under suspicion."""
        ...

    def weights(self, view: ModelView) -> str:
        """Which weights answer ``view``; for the audit alone, callers may not know."""
        ...

    async def predict(
        self,
        view: ModelView,
        images: NDArray[np.uint8],
        *,
        timeout_s: float | None = None,
        tightened: bool = False,
        caller: str = "",
    ) -> NDArray[np.float32]:
        """Probabilities ``(n, K)`` for ``images`` ``(n, C, H, W)``, after the defense chain.

        Cancelling the awaiting task withdraws the work that has not begun. ``tightened`` takes the
        chain for suspicious callers, where the model has one. ``caller`` is the identity of who
        asks, whose answers may be kept for it.

        Raises:
            BadRequest: wrong shape.
            TooLarge: more than ``max_request_samples`` images.
            QueueFull: the queue, or the model's share of it, cannot take n more samples.
            Draining: not ready.
            DeadlinePassed: not computed within ``timeout_s`` (capped by the settings).
            InternalFailure: a row broke an invariant of its chain, or the forward pass failed.
        """
        ...

    async def explain(
        self,
        view: ModelView,
        images: NDArray[np.uint8],
        *,
        timeout_s: float | None = None,
        tightened: bool = False,
        caller: str = "",
    ) -> Explained:
        """As ``predict``, with the same probabilities, and a map for each image.

        Raises:
            NotFound: the model has no explanations.
            TooLarge: n times ``explanation_cost`` is over ``max_request_samples``.
            ServiceError: those of ``predict``.
        """
        ...
