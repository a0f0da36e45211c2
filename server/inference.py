"""One query of the data plane, from a view to an answer: checked, recalled or computed, counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
from numpy.typing import NDArray

from server.answer_cache import AnswerCache
from server.batching import Batcher
from server.errors import DeadlinePassed, Draining, NotFound, QueueFull, ServiceError
from server.metrics import Metrics
from server.served import ServedModel
from server.shares import Shares
from server.statistics import Statistics
from server.views import Answering
from server.waiting import Filled

__all__ = ["Inference"]


class Inference:
    """Answers queries, with maps or without.

    Args:
        batcher: computes.
        shares: bounds how much of the queue each model takes.
        cache: answers that were given before; None: everything is computed.
        metrics: told what was answered and what was refused, and why.
        statistics: told what each model has done.
        ready: whether queries are accepted.
    """

    def __init__(
        self,
        *,
        batcher: Batcher[ServedModel],
        shares: Shares,
        cache: AnswerCache | None,
        metrics: Metrics,
        statistics: Statistics,
        ready: Callable[[], bool],
    ) -> None:
        self._batcher = batcher
        self._shares = shares
        self._cache = cache
        self._metrics = metrics
        self._statistics = statistics
        self._ready = ready

    async def query(
        self,
        who: Answering,
        images: NDArray[np.uint8],
        *,
        timeout_s: float | None,
        caller: str,
        explain: bool,
    ) -> Filled:
        """What ``who`` says to ``images`` ``(n, C, H, W)``, n at least 0.

        Args:
            who: answers, within its limits.
            images: of one request.
            timeout_s: capped by the model's deadline, and so is None or 0.
            caller: identity of who asks.
            explain: whether maps are asked for; only then there are some.

        Raises:
            ServiceError: those of ``DataPlane.explain`` or, without maps, ``DataPlane.predict``.
        """
        served = who.served
        cost = served.explanation_cost if explain else 1
        with self._counted(who, images, timeout_s):
            wait_s = self._accepted(who, images, timeout_s)
            if explain:
                if served.maps is None:
                    raise NotFound(f"model {served.name!r} has no explanations")
                who.check_cost(len(images))
            if len(images) == 0:
                return _nothing(served, explain=explain)

            async def compute(asked: NDArray[np.uint8]) -> Filled:
                with self._share(who, len(asked) * cost):
                    if not explain:
                        said = await self._batcher.submit(served, asked, timeout_s=wait_s)
                        return Filled(said, None)
                    told = await self._batcher.explain(served, asked, timeout_s=wait_s, cost=cost)
                    return Filled(told.probabilities, told.attributions)

            return await self._answered(served, images, compute, caller, explain=explain)

    def _accepted(
        self, who: Answering, images: NDArray[np.uint8], timeout_s: float | None
    ) -> float:
        """For how long the caller waits, if what it asks can be answered."""
        granted = who.granted(timeout_s)
        who.check(images)
        if not self._ready():
            raise Draining(retry_after=1.0)
        return granted

    async def _answered(
        self,
        served: ServedModel,
        images: NDArray[np.uint8],
        compute: Callable[[NDArray[np.uint8]], Awaitable[Filled]],
        caller: str,
        *,
        explain: bool,
    ) -> Filled:
        """What was kept of earlier answers to ``caller``, and ``compute`` of the rest."""
        began = time.perf_counter_ns()
        if self._cache is None or not self._cache.keeps(served):
            answer = await compute(images)
        else:
            looked_up = self._statistics.looked_up
            answer = await self._cache.answer(
                served, images, compute, caller=caller, explain=explain, looked_up=looked_up
            )
        self._metrics.answered(served.name, len(images), explained=explain)
        self._statistics.answered(served, len(images), began_ns=began)
        return answer

    @contextmanager
    def _counted(
        self, who: Answering, images: NDArray[np.uint8], timeout_s: float | None
    ) -> Iterator[None]:
        """Count what ends without an answer."""
        samples = len(images) if images.ndim else 0
        began = time.perf_counter_ns()
        try:
            yield
        except (ServiceError, asyncio.CancelledError) as error:
            reason = error.reason if isinstance(error, ServiceError) else "cancelled"
            if isinstance(error, DeadlinePassed | QueueFull) and who.impatient(timeout_s):
                reason = "impatient"  # says nothing of the server's capacity
            self._metrics.refused(reason, samples)
            self._statistics.failed(who.served, began_ns=began)
            raise

    def _share(self, who: Answering, samples: int) -> AbstractContextManager[None]:
        limit = who.limits.queue_samples
        return self._shares.hold(who.served.name, samples, at_most=limit)


def _nothing(served: ServedModel, *, explain: bool) -> Filled:
    """The answer to no image."""
    none = np.empty((0, served.card.classes), dtype=np.float32)
    maps = served.maps if explain else None
    return Filled(none, None if maps is None else np.empty((0, *maps), dtype=np.float32))
