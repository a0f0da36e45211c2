"""The inference service: the data plane that every protocol calls, made of batcher and engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from server.batches import Batches
from server.batching import Batcher
from server.dataplane import Explained, ModelView
from server.engine import Engine
from server.errors import (
    BadRequest,
    ConfigurationError,
    Draining,
    NotFound,
    ServiceError,
    TooLarge,
)
from server.metrics import Metrics
from server.served import ServedModel
from server.settings import Settings
from server.worker import Worker, WorkerError

__all__ = ["InferenceService"]


class InferenceService:
    """Answers queries for what is served on one engine; implements ``server.dataplane.DataPlane``.

    Args:
        models: what is served; of each name, oldest version first. The newest is the default.
        engine: computes; belongs to this service from now on.
        settings: limits, batching, drain.
        metrics: told what was answered and what was refused, and why.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        engine: Engine,
        *,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._models: dict[str, dict[str, ServedModel]] = {}
        for model in models:
            self._models.setdefault(model.name, {})[model.version] = model
        self._engine = engine
        self._limits = settings.limits
        self._batching = settings.batching
        self._drain_s = settings.drain_s
        self._metrics = metrics
        self._worker = Worker("intaglio-engine")
        self._batcher = Batcher(self._begin, settings=settings.batching, metrics=metrics)
        self._ready = False

    # -- life cycle ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Warm up every model through its chain, then accept queries.

        Raises:
            ConfigurationError: a model or its chain cannot compute anything.
        """
        await self._worker.call(self._engine.prepare)
        for versions in self._models.values():
            for model in versions.values():
                await self._warm_up(model)
                if model.tightened is not None:
                    await self._warm_up(model.tightened)
        self._become(ready=True)

    async def _warm_up(self, model: ServedModel) -> None:
        try:
            await self._worker.call(self._engine.warm_up, model, self._batching.max_batch_size)
        except WorkerError as error:
            if isinstance(error.__cause__, ConfigurationError):
                raise error.__cause__ from None
            raise ConfigurationError(
                f"models.{model.name}: cannot compute a batch of up to "
                f"batching.max_batch_size = {self._batching.max_batch_size} images ({error})"
            ) from error

    def refuse(self) -> None:
        """Be ready no more: what comes from now on is refused, what was accepted is finished."""
        self._become(ready=False)

    async def drain(self) -> bool:
        """Refuse what comes, finish what was accepted; then the service is over.

        Returns:
            Whether everything accepted was answered within ``drain_s``.
        """
        self.refuse()
        finished = await self._batcher.drain(self._drain_s)
        # What is still being computed, if anything, nobody waits for.
        self._worker.close(wait=False)
        return finished

    def _become(self, *, ready: bool) -> None:
        self._ready = ready
        self._metrics.ready(ready)

    # -- what is served ------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether queries are accepted: warmed up, and not draining."""
        return self._ready

    def models(self) -> tuple[ModelView, ...]:
        """The default version of every served model, by name."""
        return tuple(self.view(name) for name in sorted(self._models))

    def view(self, name: str, version: str | None = None) -> ModelView:
        """One served model; the newest version if none is named.

        Raises:
            NotFound: no such name or version.
        """
        served = self._find(name, version)
        return ModelView(
            name=served.name,
            version=served.version,
            versions=tuple(self._models[name]),
            input=served.card.input,
            labels=served.card.labels,
            maps=served.maps,
            map_extent=served.map_extent,
            explanation_cost=served.explanation_cost,
        )

    def _find(self, name: str, version: str | None) -> ServedModel:
        versions = self._models.get(name)
        if versions is None:
            raise NotFound(f"there is no model {name!r}")
        if version is None:
            version = next(reversed(versions))
        if version not in versions:
            raise NotFound(f"model {name!r} has no version {version!r}")
        return versions[version]

    def overload(self) -> ServiceError | None:
        """Why a query of one sample would be refused now; None if it would be accepted."""
        if not self._ready:
            return Draining(retry_after=1.0)
        return self._batcher.refusal(1, self._batching.deadline_s)

    # -- queries -------------------------------------------------------------------------------

    async def predict(
        self,
        name: str,
        version: str | None,
        images: NDArray[np.uint8],
        *,
        timeout_s: float | None = None,
        tightened: bool = False,
    ) -> NDArray[np.float32]:
        """Probabilities ``(n, K)`` for ``images`` ``(n, C, H, W)``, after the defense chain.

        Cancelling the awaiting task withdraws the work that has not begun. ``timeout_s`` is
        capped by ``batching.deadline_s``; none, or 0, means that. ``tightened`` takes the chain for
        suspicious callers, where the model has one.

        Raises:
            NotFound: no such model.
            BadRequest: wrong shape or type, or a timeout that is no duration.
            TooLarge: more than ``limits.max_request_samples`` images.
            QueueFull: the queue cannot take n more samples.
            Draining: not ready.
            DeadlinePassed: not computed in time.
            InternalFailure: a row broke an invariant of its chain, or the forward pass failed.
        """
        with self._counted(images):
            served, wait_s = self._accepted(name, version, images, timeout_s, tightened)
            if len(images) == 0:
                return np.empty((0, served.card.classes), dtype=np.float32)
            probabilities = await self._batcher.submit(served, images, timeout_s=wait_s)
        self._metrics.answered(name, len(images))
        return probabilities

    async def explain(
        self,
        name: str,
        version: str | None,
        images: NDArray[np.uint8],
        *,
        timeout_s: float | None = None,
        tightened: bool = False,
    ) -> Explained:
        """As ``predict``, with the same probabilities, and a map for each image.

        Raises:
            NotFound: no such model, or it has no explanations.
            TooLarge: n times the cost of an explanation is over ``limits.max_request_samples``.
            ServiceError: those of ``predict``.
        """
        with self._counted(images):
            served, wait_s = self._accepted(name, version, images, timeout_s, tightened)
            if served.maps is None:
                raise NotFound(f"model {name!r} has no explanations")
            self._check_cost(served, len(images))
            if len(images) == 0:
                none = np.empty((0, served.card.classes), dtype=np.float32)
                return Explained(none, np.empty((0, *served.maps), dtype=np.float32))
            cost = served.explanation_cost
            answer = await self._batcher.explain(served, images, timeout_s=wait_s, cost=cost)
        self._metrics.answered(name, len(images), explained=True)
        return answer

    @contextmanager
    def _counted(self, images: NDArray[np.uint8]) -> Iterator[None]:
        """Count what ends without an answer."""
        samples = len(images) if images.ndim else 0
        try:
            yield
        except ServiceError as error:
            self._metrics.refused(error.reason, samples)
            raise
        except asyncio.CancelledError:
            self._metrics.refused("cancelled", samples)
            raise

    def _accepted(
        self,
        name: str,
        version: str | None,
        images: NDArray[np.uint8],
        timeout_s: float | None,
        tightened: bool,
    ) -> tuple[ServedModel, float]:
        """Who answers behind which chain, and for how long the caller waits."""
        served = self._find(name, version)
        if tightened and served.tightened is not None:
            served = served.tightened
        granted = self._granted(timeout_s)
        self._check(served, images)
        if not self._ready:
            raise Draining(retry_after=1.0)
        return served, granted

    def _granted(self, timeout_s: float | None) -> float:
        longest = self._batching.deadline_s
        if timeout_s is None or timeout_s == 0:
            return longest
        if not timeout_s > 0:
            raise BadRequest(f"timeout must be positive, not {timeout_s:g} s")
        return min(timeout_s, longest)

    def _check(self, served: ServedModel, images: NDArray[np.uint8]) -> None:
        shape = served.card.input.shape
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
            wanted = ", ".join(map(str, shape))
            given = ", ".join(map(str, images.shape))
            raise BadRequest(f"images must be uint8 [n, {wanted}], not {images.dtype} [{given}]")
        if len(images) > self._limits.max_request_samples:
            raise TooLarge(
                f"a request may hold limits.max_request_samples = "
                f"{self._limits.max_request_samples} images, this one holds {len(images)}"
            )

    def _check_cost(self, served: ServedModel, samples: int) -> None:
        cost, limit = served.explanation_cost, self._limits.max_request_samples
        if samples * cost > limit:
            raise TooLarge(
                f"an explained image counts as {cost} samples, of which a request may ask for "
                f"limits.max_request_samples = {limit}; this one explains {samples} images"
            )

    def _begin(self, batches: Batches[ServedModel]) -> None:
        self._worker.compute(batches, self._engine.run)
