"""From settings to a running server and back: bind, load, warm up, serve, drain, exit.

bind both ports       a taken port is reported at once, not after a minute of loading
load, warm up         connections are refused
serve                 one line on standard output says so
SIGHUP                configuration and bundles are read again; what is served changes, or does not
SIGTERM or SIGINT     readiness fails and queries are refused; the accepted ones finish
a second signal       nothing more is waited for
exit 0                (1 if something accepted could not be finished)
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal

import uvicorn
from prometheus_client import disable_created_metrics

from server.admin import create_admin_app
from server.answer_cache import AnswerCache
from server.answer_cache_setup import build_answer_cache
from server.app import create_app
from server.audit import AuditLog
from server.callers.assembly import Callers, build_callers
from server.decoder import build_decoder
from server.engine import Engine, choose_device
from server.errors import ConfigurationError
from server.evidence import Evidence
from server.hot_reload import HotReload
from server.logs import configure_logs
from server.metrics import Metrics
from server.repository import load_models
from server.repository_metrics import RepositoryMetrics
from server.secret import load_secret
from server.serving import InferenceService
from server.settings import Settings
from server.signals import Signals, reloading
from server.tracing import Traces
from server.weights import Weights

__all__ = ["run"]

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 75
"""Longer than the 60 s after which load balancers drop idle connections: they close first."""

SWITCH_S = 0.0005
"""How long the event loop may keep the interpreter from the engine, which needs it after every
operator of the network: at Python's 5 ms a small batch takes twice as long under load."""

LAST_WORDS_S = 5
"""How long written answers may take to reach their callers once everything is computed."""


def run(settings: Settings, read: Callable[[], Settings] | None = None) -> int:
    """Serve until a signal says otherwise.

    Args:
        settings: the configuration.
        read: reads it again for a reload; None: it stays as it is, and bundles alone are looked at.

    Returns:
        Exit status: 0 if everything accepted was answered. If not, the process ends here, with 1:
        a forward pass may still run in a thread that nothing can interrupt. So may the decoding of
        a picture for somebody who gave up: then it ends here, too, with what it would return.

    Raises:
        ConfigurationError: this configuration cannot be served; one sentence.
    """
    configure_logs(settings.log_level, settings.log_format)
    # Before anything is served there is nothing to reload, and the default is to die of it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if settings.open_to_all and not _loopback(settings.host):
        where = settings.host or "any address"
        logger.warning("anybody who reaches %s may ask: there are no API keys", where)
    sys.setswitchinterval(SWITCH_S)
    with (
        _bound("port", settings.host, settings.port) as callers,
        _bound("admin_port", settings.admin_host, settings.admin_port) as operator,
    ):
        # They double the page, and say what process_start_time_seconds says.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        metrics = Metrics()
        who = build_callers(settings, metrics.registry)
        device = choose_device(settings.device)
        secret = load_secret(settings)
        audit = _audit(settings, secret, who)
        evidence = None if audit is None else audit.evidence
        engine = Engine(
            device, secret=secret, metrics=metrics, threads=settings.threads, evidence=evidence
        )
        cache = build_answer_cache(
            settings, secret=secret, registry=metrics.registry, evidence=evidence
        )
        # What is imported by now stays: a collection after a reload need not look at it.
        gc.freeze()
        weights = Weights(device)
        models = load_models(settings, device, weights)
        logger.info("computing on %s", device)
        service = InferenceService(models, engine, settings=settings, metrics=metrics, cache=cache)
        del models
        told = RepositoryMetrics(metrics.registry)
        reloads = HotReload(service, weights, settings, read or (lambda: settings), told)
        traces = Traces(settings.tracing) if settings.tracing.endpoint is not None else None
        decoder = build_decoder(settings)
        app = create_app(
            service, settings, metrics, who, traces=traces, audit=audit, decoder=decoder
        )
        front = _Server(app, callers)
        back = _Server(create_admin_app(metrics, who.authority, service, reloads), operator)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            try:
                finished = runner.run(
                    _serve(service, front, back, who, reloads=reloads, cache=cache)
                )
            except BaseExceptionGroup as failures:  # of the two servers' tasks
                raise failures.exceptions[0] from failures
            finally:
                if traces is not None:
                    traces.close()
                if audit is not None:
                    audit.close()
            if finished and not decoder.busy:
                return 0
            logging.shutdown()
            os._exit(0 if finished else 1)


async def _serve(
    service: InferenceService,
    front: _Server,
    back: _Server,
    callers: Callers,
    *,
    reloads: HotReload,
    cache: AnswerCache | None,
) -> bool:
    """Serve both ports until the first signal; whether everything accepted was answered."""
    await callers.start()
    try:
        return await _serve_both(service, front, back, reloads)
    finally:
        await callers.close()
        if cache is not None:
            await cache.close()


async def _serve_both(
    service: InferenceService, front: _Server, back: _Server, reloads: HotReload
) -> bool:
    await service.start()
    signals = Signals()
    with signals.handled():
        async with asyncio.TaskGroup() as servers:
            servers.create_task(front.serve())
            servers.create_task(back.serve())
            await front.listening.wait()
            await back.listening.wait()
            sys.stdout.write(f"Intaglio is ready at {front.url} (metrics at {back.url}/metrics)\n")
            sys.stdout.flush()
            async with reloading(reloads, signals.hangup):
                await signals.first.wait()
            logger.info("stopping: what was accepted is finished, what comes is refused")
            finished = await _drain(service, signals.second)
            # Answers still have to be written; a caller that is in a hurry is not waited for.
            front.force_exit = back.force_exit = not finished and signals.second.is_set()
            front.should_exit = back.should_exit = True
    logger.info("stopped" if finished else "stopped before everything accepted was answered")
    return finished


async def _drain(service: InferenceService, hurry: asyncio.Event) -> bool:
    draining = asyncio.create_task(service.drain())
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if draining.done():
        return draining.result()
    draining.cancel()
    return False


class _Server(uvicorn.Server):
    """One port, in a loop that is not its own."""

    def __init__(self, app: Callable[..., Any], bound: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=LAST_WORDS_S,
                h11_max_incomplete_event_size=64 * 2**10,
                http=_protocol(),
            )
        )
        self.listening = asyncio.Event()
        self._bound = bound

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._bound.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve the bound socket until ``should_exit``."""
        await super().serve(sockets or [self._bound])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        try:
            await super().startup(sockets)
        except OSError as error:  # bound by two processes at once, and the other was first
            raise ConfigurationError(f"cannot listen at {self.url}: {error.strerror}") from error
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: a stop begins with a drain, which is not uvicorn's business."""
        yield


def _audit(settings: Settings, secret: bytes, callers: Callers) -> AuditLog | None:
    if settings.audit.directory is None:
        return None
    return AuditLog(settings.audit, Evidence(secret), callers.metrics)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def _bound(key: str, host: str, port: int) -> Iterator[socket.socket]:
    """A socket that has the address but does not listen yet."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ConfigurationError(f"{key}: cannot bind {host}:{port}: {error.strerror}") from error
    with bound:
        yield bound


def _protocol() -> type[asyncio.Protocol] | Literal["auto"]:
    try:
        from server.http_head import BoundedHeadProtocol
    except ImportError:  # httptools comes with uvicorn[standard], but not for every platform
        return "auto"
    return BoundedHeadProtocol


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # comes with uvicorn[standard], but not for every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
