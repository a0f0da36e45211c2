"""Changing what is served without stopping: load, warm up, switch, and only then unload.

While something loads, or if it cannot be loaded, what was served before is served on. Requests
that came before the switch are answered by what they asked. A model that the new configuration
makes of the same things is not made again: neither its memory nor what it remembers is lost.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from server.assembly import assemble
from server.catalogue import Catalogue, Entry
from server.errors import ConfigurationError, Draining, NotFound, WorkerError
from server.ingredients import Ingredients, Order, gather
from server.logs import set_level
from server.repository import log_all, place_orders
from server.repository_metrics import RepositoryMetrics
from server.served import ServedModel
from server.serving import InferenceService
from server.settings import Settings
from server.weights import Weights

__all__ = ["Change", "HotReload"]

logger = logging.getLogger(__name__)

WHILE_RUNNING = frozenset({"models", "model_dir", "allow_factories", "log_level"})
"""Settings that a reload applies; every other needs a restart."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a change did, each model as ``NAME/VERSION`` and in that order.

    Attributes:
        loaded: made anew.
        kept: served before and after, as they were.
        unloaded: not served any more, in this form or at all.
    """

    loaded: tuple[str, ...]
    kept: tuple[str, ...]
    unloaded: tuple[str, ...]


class HotReload:
    """Makes one change at a time to what ``service`` serves; belongs to its event loop.

    Args:
        service: running.
        weights: remembers which networks are loaded.
        settings: of which ``service`` was made.
        read: reads the configuration again; raises ``ConfigurationError``.
        metrics: told what came of each change.
    """

    def __init__(
        self,
        service: InferenceService,
        weights: Weights,
        settings: Settings,
        read: Callable[[], Settings],
        metrics: RepositoryMetrics,
    ) -> None:
        self._service = service
        self._weights = weights
        self._settings = settings
        self._read = read
        self._metrics = metrics
        self._lock = asyncio.Lock()
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="intaglio-loader")
        self._reasons: dict[str, str] = {}
        self._closed = False

    async def reload(self) -> Change:
        """Serve what the configuration and the directory of bundles say now.

        What was unloaded by hand is loaded again, if they say so.

        Raises:
            ConfigurationError: that cannot be served, and what was served is served on.
        """
        async with self._lock:
            return await self._counted("reload", self._reload)

    async def load(self, name: str) -> Change:
        """Serve what the configuration says now of ``name``; the other models stay as they are.

        Raises:
            NotFound: it says nothing of that name.
            ConfigurationError: it cannot be served so; what was served is served on.
        """
        async with self._lock:
            try:
                change = await self._counted("load", lambda: self._load(name))
            except ConfigurationError as error:
                self._reasons[name] = str(error)
                raise
            return change

    async def unload(self, name: str) -> Change:
        """Serve ``name`` no more, until it is loaded again or everything is reloaded.

        Raises:
            NotFound: nothing is served under that name.
        """
        async with self._lock:
            return await self._counted("unload", lambda: self._unload(name))

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """The records of the protocol's repository index; ``ready``: only what is served."""
        catalogue = self._service.catalogue
        served = [
            {"name": entry.name, "version": version, "state": "READY", "reason": ""}
            for entry in catalogue
            for version in entry.versions
        ]
        if ready:
            return served
        known = {*self._settings.models, *self._reasons} - {entry.name for entry in catalogue}
        return served + [
            {"name": name, "state": "UNAVAILABLE", "reason": self._reasons.get(name, "unloaded")}
            for name in sorted(known)
        ]

    def close(self) -> None:
        """Make no more changes; one that is being made is left to itself."""
        self._closed = True
        self._loader.shutdown(wait=False, cancel_futures=True)

    # -- one change ----------------------------------------------------------------------------

    async def _reload(self) -> Change:
        settings = await self._configuration()
        models = await self._brought(settings, None)
        change = await self._switched(Catalogue.of(models, settings))
        if settings.log_level != self._settings.log_level:
            set_level(settings.log_level)
        self._settings = settings
        self._reasons.clear()
        return change

    async def _load(self, name: str) -> Change:
        settings = await self._configuration()
        models = await self._brought(settings, name)
        if not models:
            raise NotFound(f"the configuration says nothing of a model {name!r}")
        entry = Entry.of(name, models, settings)
        change = await self._switched(self._service.catalogue.with_entry(entry))
        self._reasons.pop(name, None)
        return change

    async def _unload(self, name: str) -> Change:
        self._service.catalogue.entry(name)
        change = await self._switched(self._service.catalogue.without(name))
        self._reasons[name] = "unloaded"
        return change

    async def _configuration(self) -> Settings:
        settings: Settings = await self._in_loader(self._read)
        for key in Settings.model_fields:
            same = getattr(settings, key) == getattr(self._settings, key)
            if not same and key not in WHILE_RUNNING:
                raise ConfigurationError(f"{key}: a change of this needs a restart")
        return settings

    async def _brought(self, settings: Settings, only: str | None) -> list[ServedModel]:
        """What ``settings`` want served, warm; made anew only where it is another than now."""
        orders = await self._in_loader(place_orders, settings, only)
        served = {
            (model.name, model.version, model.tier, model.digest): model
            for model in self._service.catalogue.models()
        }
        keys = [(order.name, order.version, order.tier, order.digest) for order in orders]
        new = [order for order, key in zip(orders, keys, strict=True) if key not in served]
        made = dict(
            zip(
                [key for key in keys if key not in served],
                await self._made(new),
                strict=True,
            )
        )
        return [served.get(key) or made[key] for key in keys]

    async def _made(self, orders: Sequence[Order]) -> list[ServedModel]:
        gathered: list[Ingredients] = await self._in_loader(
            lambda: [gather(order, self._weights) for order in orders]
        )
        # Where it computes: two models may share a network, and one of them is in use.
        models = [await self._service.on_engine(assemble, each) for each in gathered]
        await self._service.warm_up(models)
        log_all(models)
        return models

    async def _switched(self, catalogue: Catalogue) -> Change:
        before = set(self._service.catalogue.models())
        after = set(catalogue.models())
        self._service.switch(catalogue)
        change = Change(
            loaded=_titles(after - before),
            kept=_titles(after & before),
            unloaded=_titles(before - after),
        )
        del before, after
        # Modules may hold each other; what nobody uses any more must not wait for the collector.
        await self._in_loader(gc.collect)
        return change

    async def _counted(self, action: str, change: Callable[[], Any]) -> Change:
        if self._closed:
            raise Draining("the server is stopping")
        try:
            changed = await self._tried(action, change)
        except NotFound as error:
            logger.error("%s refused: %s", action, error)
            self._metrics.mistaken(action)
            raise
        except BaseException:
            self._metrics.changed(action, made=False)
            raise
        self._metrics.changed(action, made=True)
        logger.info(
            "%s: loaded %s; kept %s; unloaded %s",
            action,
            ", ".join(changed.loaded) or "nothing",
            ", ".join(changed.kept) or "nothing",
            ", ".join(changed.unloaded) or "nothing",
        )
        return changed

    async def _tried(self, action: str, change: Callable[[], Any]) -> Change:
        try:
            changed: Change = await change()
        except ConfigurationError as error:
            logger.error("%s refused: %s", action, error)
            raise
        except WorkerError as error:
            logger.exception("%s refused", action)
            raise ConfigurationError(f"a model cannot be made: {error}") from None
        except OSError as error:
            logger.exception("%s refused", action)
            raise ConfigurationError(f"model_dir: {error.strerror or error}") from None
        return changed

    async def _in_loader(self, function: Callable[..., Any], *arguments: object) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._loader, function, *arguments)


def _titles(models: Iterable[ServedModel]) -> tuple[str, ...]:
    return tuple(sorted({f"{model.name}/{model.version}" for model in models}))
