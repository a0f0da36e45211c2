"""The inference service: the data plane that every protocol calls, made of batcher and engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from server.answer_cache import AnswerCache
from server.batches import Batches
from server.batching import Batcher
from server.catalogue import Catalogue
from server.dataplane import Explained, ModelView
from server.engine import Engine
from server.errors import ConfigurationError, Draining, ServiceError
from server.inference import Inference
from server.metrics import Metrics
from server.served import ServedModel
from server.settings import Settings
from server.shares import Shares
from server.statistics import Statistics
from server.unlisted_tiers import UnlistedTiers
from server.views import answering, view_of
from server.worker import Worker, WorkerError

__all__ = ["InferenceService"]

T = TypeVar("T")


class InferenceService:
    """Answers queries for what is served on one engine; implements ``server.dataplane.DataPlane``.

    Args:
        models: what is served; of each name, oldest version first. The newest is the default.
        engine: computes; belongs to this service from now on.
        settings: limits, batching, drain, and what it says of each model.
        metrics: told what was answered and what was refused, and why.
        cache: answers that were given before; None: everything is computed.

    Attributes:
        statistics: what each model has done.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        engine: Engine,
        *,
        settings: Settings,
        metrics: Metrics,
        cache: AnswerCache | None = None,
    ) -> None:
        self.statistics = Statistics()
        self._catalogue = Catalogue.of(models, settings)
        self._engine = engine
        self._batching = settings.batching
        self._drain_s = settings.drain_s
        self._metrics = metrics
        self._worker = Worker("intaglio-engine")
        self._batcher = Batcher(
            self._begin,
            settings=settings.batching,
            metrics=metrics,
            executed=self.statistics.executed,
        )
        self._inference = Inference(
            batcher=self._batcher,
            shares=Shares(self._batcher.seconds_until_room),
            cache=cache,
            metrics=metrics,
            statistics=self.statistics,
            ready=lambda: self._ready,
        )
        self._ready = self._over = False
        self._unlisted = UnlistedTiers()

    # -- life cycle ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Warm up every model through its chain, then accept queries.

        Raises:
            ConfigurationError: a model or its chain cannot compute anything.
        """
        await self._worker.call(self._engine.prepare)
        await self.warm_up(self._catalogue.models())
        self.switch(self._catalogue)
        self._become(ready=True)

    async def warm_up(self, models: Iterable[ServedModel]) -> None:
        """Compute with each of ``models``, between batches, so that no caller pays for firsts.

        Raises:
            ConfigurationError: a model or its chain cannot compute anything.
        """
        for model in models:
            await self._warm_up(model)
            if model.tightened is not None:
                await self._warm_up(model.tightened)

    async def _warm_up(self, model: ServedModel) -> None:
        try:
            await self.on_engine(self._engine.warm_up, model, self._batching.max_batch_size)
        except WorkerError as error:
            raise ConfigurationError(
                f"models.{model.name}: cannot compute a batch of up to "
                f"batching.max_batch_size = {self._batching.max_batch_size} images ({error})"
            ) from error

    async def on_engine(self, function: Callable[..., T], *arguments: object) -> T:
        """Call ``function`` in the thread that computes, between batches.

        Raises:
            ConfigurationError: it raised that.
            WorkerError: it raised anything else.
        """
        try:
            return await self._worker.call(function, *arguments)
        except WorkerError as error:
            if isinstance(error.__cause__, ConfigurationError):
                raise error.__cause__ from None
            raise

    def refuse(self) -> None:
        """Be ready no more: what comes from now on is refused, what was accepted is finished."""
        self._become(ready=False)

    def resume(self) -> None:
        """Be ready again after ``refuse``; does nothing once the service is over."""
        self._become(ready=not self._over)

    async def drain(self) -> bool:
        """Refuse what comes, finish what was accepted; then the service is over.

        Returns:
            Whether everything accepted was answered within ``drain_s``.
        """
        self._over = True
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
    def catalogue(self) -> Catalogue:
        """What is served now."""
        return self._catalogue

    def switch(self, catalogue: Catalogue) -> None:
        """Serve ``catalogue`` from now on; who was shown a view before is answered by that one.

        Everything in it must be warm.
        """
        self._catalogue = catalogue
        self.statistics.keep(catalogue.models())

    @property
    def ready(self) -> bool:
        """Whether queries are accepted: warmed up, and not draining."""
        return self._ready

    def models(self, tier: str | None = None) -> tuple[ModelView, ...]:
        """The default version of every served model, by name, as callers of ``tier`` see it."""
        return tuple(self.view(entry.name, tier=tier) for entry in self._catalogue)

    def view(self, name: str, version: str | None = None, *, tier: str | None = None) -> ModelView:
        """One served model as callers of ``tier`` see it; the default version if none is named.

        Raises:
            NotFound: no such name or version.
        """
        entry = self._catalogue.entry(name)
        served = entry.find(version, tier)
        if tier not in (None, served.tier):
            self._unlisted.note(entry, tier)
        return view_of(entry, served)

    def tightens(self, view: ModelView) -> bool:
        """Whether ``view`` has a stricter chain for callers under suspicion."""
        return answering(view).served.tightened is not None

    def overload(self) -> ServiceError | None:
        """Why a query of one sample would be refused now; None if it would be accepted."""
        if not self._ready:
            return Draining(retry_after=1.0)
        return self._batcher.refusal(1, self._batching.deadline_s)

    # -- queries -------------------------------------------------------------------------------

    def weights(self, view: ModelView) -> str:
        """See ``DataPlane``."""
        return answering(view).served.weights

    async def predict(
        self,
        view: ModelView,
        images: NDArray[np.uint8],
        *,
        timeout_s: float | None = None,
        tightened: bool = False,
        caller: str = "",
    ) -> NDArray[np.float32]:
        """See ``DataPlane``. ``timeout_s`` is capped by the model's deadline, and so is None or 0.

        Raises:
            ServiceError: those of ``DataPlane.predict``.
        """
        who = answering(view, tightened=tightened)
        said = await self._inference.query(
            who, images, timeout_s=timeout_s, caller=caller, explain=False
        )
        return said.probabilities

    async def explain(
        self,
        view: ModelView,
        images: NDArray[np.uint8],
        *,
        timeout_s: float | None = None,
        tightened: bool = False,
        caller: str = "",
    ) -> Explained:
        """See ``DataPlane``.

        Raises:
            ServiceError: those of ``DataPlane.explain``.
        """
        who = answering(view, tightened=tightened)
        told = await self._inference.query(
            who, images, timeout_s=timeout_s, caller=caller, explain=True
        )
        assert told.attributions is not None
        return Explained(told.probabilities, told.attributions)

    def _begin(self, batches: Batches[ServedModel]) -> None:
        self._worker.compute(batches, self._engine.run)
