"""The callers' port as an ASGI application."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware import Middleware

from server.callers.assembly import Callers, build_callers
from server.dataplane import DataPlane
from server.decoder import ImageDecoder, build_decoder
from server.middleware.opaque_failures import OpaqueFailures
from server.middleware.request_id import RequestId
from server.middleware.request_metrics import RequestMetrics
from server.middleware.shed import ShedAtTheDoor
from server.middleware.traced import Traced
from server.openapi import Api
from server.protocol.error_bodies import install_error_bodies
from server.routes.explain import add_explain_routes
from server.routes.health import add_health_routes
from server.routes.query import QueryPath
from server.routes.usage import add_usage_route
from server.routes.v1 import add_v1_routes
from server.routes.v2 import add_v2_routes
from server.settings import Settings

if TYPE_CHECKING:
    from server.audit import AuditLog
    from server.metrics import Metrics
    from server.monitor import QueryMonitor
    from server.tracing import Traces

__all__ = ["create_app"]

logger = logging.getLogger(__name__)

SUMMARY = "Send an image, get its labels. Speaks the Open Inference Protocol V2 as well."


def create_app(
    plane: DataPlane,
    settings: Settings,
    metrics: Metrics | None = None,
    callers: Callers | None = None,
    *,
    traces: Traces | None = None,
    audit: AuditLog | None = None,
    decoder: ImageDecoder | None = None,
) -> FastAPI:
    """Build the application; starts nothing.

    Metrics, statistics and administration are not here: they have a port of their own.

    Args:
        plane: what answers; already knows its models, need not be ready.
        settings: of the whole server; the limits, the keys and ``docs`` are read here.
        metrics: where requests and refusals are counted.
        callers: who decides about callers, started by whoever runs the application; None: made
            here, which will do where nothing has to be started.
        traces: where traces of requests go; None: nowhere.
        audit: told of every query; None: nobody is.
        decoder: of all pictures; None: made here, for whoever need not know whether it is busy.
    """
    if callers is None:
        callers = build_callers(settings)
    # The schema is open to all, so it names a model only where anybody may list them anyway.
    example = next(iter(plane.models()), None) if settings.open_to_all else None
    if example is not None:
        # Shown for as long as the process lives; the model itself may be unloaded before.
        example = replace(example, answering=None)
    middleware = [
        Middleware(RequestId),  # outermost: a refusal at the door has a name too
        Middleware(ShedAtTheDoor, crowd=plane, recorder=metrics),
    ]
    if metrics is not None:
        middleware.append(Middleware(RequestMetrics, recorder=metrics))
    if traces is not None:
        middleware.append(Middleware(Traced, traces=traces))
    middleware.append(Middleware(OpaqueFailures))
    app = Api(
        example=example,
        title="Intaglio",
        summary=SUMMARY,
        docs_url="/docs" if settings.docs else None,
        openapi_url="/openapi.json" if settings.docs else None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        middleware=middleware,
    )
    install_error_bodies(app)
    monitor = _monitor(settings, metrics, audit)
    path = QueryPath(plane, settings, callers.admission, metrics, monitor, audit=audit)
    decoder = decoder or build_decoder(settings)
    add_health_routes(app, plane)
    add_v1_routes(app, path, decoder)
    add_explain_routes(app, path, decoder)
    add_usage_route(app, path)
    add_v2_routes(app, path)
    return app


def _monitor(
    settings: Settings, metrics: Metrics | None, audit: AuditLog | None
) -> QueryMonitor | None:
    if not settings.monitor.enabled:
        return None
    # Not before it is wanted: it brings SciPy's statistics along.
    from prometheus_client import CollectorRegistry

    from server.monitor import QueryMonitor
    from server.monitor_metrics import MonitorMetrics

    registry = metrics.registry if metrics is not None else CollectorRegistry()
    tightened = [
        name
        for name, model in settings.models.items()
        if any(offer.tighten is not None for offer in model.offers.values())
    ]
    monitor = QueryMonitor(settings.monitor, MonitorMetrics(registry), witness=audit)
    logger.info(
        "monitor: up to %d callers are followed, and suspected where W is below %g; models with a "
        "chain for suspects: %s",
        settings.monitor.callers,
        settings.monitor.threshold,
        ", ".join(tightened) or "none",
    )
    if settings.open_to_all:
        logger.warning("monitor: without API keys all callers are one, and suspected together")
    return monitor
