"""The model's part of a query, and what the monitor sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from server.dataplane import DataPlane, ModelView
from server.routes.answer import Answer

__all__ = ["Asking"]

if TYPE_CHECKING:
    from server.monitor import QueryMonitor


class Asking:
    """Asks the data plane on behalf of callers.

    Args:
        plane: what answers.
        monitor: watches how callers ask; None: nobody does.
    """

    def __init__(self, plane: DataPlane, monitor: QueryMonitor | None) -> None:
        self._plane = plane
        self._monitor = monitor

    async def ask(
        self,
        view: ModelView,
        images: NDArray[np.uint8],
        *,
        explain: bool,
        timeout_s: float,
        caller: str,
    ) -> Answer:
        """What ``view`` says of ``images``.

        Args:
            view: the model.
            images: ``(n, C, H, W)`` uint8.
            explain: whether maps are asked for.
            timeout_s: how long that may take.
            caller: identity of whoever asks.

        Raises:
            ServiceError: any that the data plane raises.
        """
        tight = False
        if self._monitor is not None and self._plane.tightens(view):
            tight = self._monitor.tightens(caller, view.name, len(images))
        if explain:
            told = await self._plane.explain(
                view, images, timeout_s=timeout_s, tightened=tight, caller=caller
            )
            answer = Answer(view, told.probabilities, told.attributions)
        else:
            said = await self._plane.predict(
                view, images, timeout_s=timeout_s, tightened=tight, caller=caller
            )
            answer = Answer(view, said)
        if self._monitor is not None:
            self._monitor.observe(caller, view.name, view.version, images, answer.probabilities)
        return answer
