"""Requests made up from our OpenAPI page, right and wrong ones: answered, never with a 5xx."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.server.http.fakes import COLOURS, DIGITS, EXPLAINED, FakePlane, app_for

with warnings.catch_warnings():
    # Of the libraries it brings along, not ours.
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import Case
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

APP = app_for(FakePlane(DIGITS, COLOURS, EXPLAINED))
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.filterwarnings("ignore::Warning")
@SCHEMA.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_route_answers_whatever_is_sent(case: Case[Any]) -> None:
    case.call_and_validate(checks=CHECKS)
