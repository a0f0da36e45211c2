"""Who asks, and may they."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping

import pytest

from server.admission import Caller, Grant, Once, OpenAdmission, StaticKeys
from server.errors import CallerOverLimit, Unauthorized
from server.routes.query import QueryPath
from tests.server.http.fakes import (
    DIGITS,
    CountingMetrics,
    FakePlane,
    app_for,
    call,
    encoded,
    error_of,
    picture,
    settings,
)


def identify(admission: OpenAdmission | StaticKeys, headers: Mapping[str, str]) -> Caller:
    return asyncio.run(admission.identify(headers))


def test_without_keys_anybody_may_ask_and_nobody_is_told_apart() -> None:
    assert identify(OpenAdmission(), {}) == identify(OpenAdmission(), {"x-api-key": "me"})


def test_a_key_is_somebody_and_its_name_does_not_give_it_away() -> None:
    admission = StaticKeys(["alpha", "beta"])
    alpha = identify(admission, {"authorization": "Bearer alpha"})
    assert alpha == identify(admission, {"x-api-key": "alpha"})
    assert alpha != identify(admission, {"x-api-key": "beta"})
    assert "alpha" not in repr(alpha)
    assert "alpha" not in repr(vars(admission))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Basic alpha"},
        {"authorization": "alpha"},
        {"authorization": "Bearer alph"},
        {"authorization": "Bearer alphaa"},
        {"authorization": "Bearer älpha"},
        {"authorization": "Bearer \udcff"},
        {"x-api-key": ""},
        {"x-api-key": "ALPHA"},
    ],
)
def test_anything_but_a_key_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized):
        identify(StaticKeys(["alpha"]), headers)


def test_an_empty_key_opens_nothing() -> None:
    with pytest.raises(Unauthorized):
        identify(StaticKeys([""]), {"x-api-key": ""})


def test_every_key_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bool] = []
    compare = hmac.compare_digest

    def watched(left: bytes, right: bytes) -> bool:
        compared.append(compare(left, right))
        return compared[-1]

    monkeypatch.setattr(hmac, "compare_digest", watched)
    identify(StaticKeys(["a", "b", "c"]), {"x-api-key": "a"})
    assert compared == [True, False, False]


def test_nobody_reads_the_body_of_a_stranger() -> None:
    plane = FakePlane()
    app = app_for(plane, api_keys=("k",), limits={"max_body_bytes": 10})
    # Too large, and of the wrong type: but first of all from nobody.
    error_of(call(app, "POST", "/v1/models/digits/predict", content=bytes(99)), 401)


def test_admission_is_asked_with_the_samples_before_the_plane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Caller, int]] = []

    class Limited(OpenAdmission):
        async def admit(
            self,
            caller: Caller,
            samples: int,
            once: Once | None = None,
            *,
            patience_s: float = 10.0,
        ) -> Grant:
            asked.append((caller, samples))
            raise CallerOverLimit(retry_after=60)

    monkeypatch.setattr("server.callers.assembly.OpenAdmission", Limited)
    plane, metrics = FakePlane(), CountingMetrics()
    files = [("images", (str(seed), encoded(picture(DIGITS, seed)))) for seed in range(3)]
    app = app_for(plane, metrics=metrics)
    response = call(app, "POST", "/v1/models/digits/predict", files=files)
    error_of(response, 429)
    assert response.headers["retry-after"] == "60"
    assert asked == [(Caller("anonymous"), 3)]
    assert not plane.asked
    assert metrics.refusals == [("over-limit", 3)]


def test_what_nobody_expected_is_counted_as_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("a bug")

    monkeypatch.setattr("server.routes.v1.encode_predictions", fail)
    metrics = CountingMetrics()
    files = [("images", (str(seed), encoded(picture(DIGITS, seed)))) for seed in range(3)]
    app = app_for(FakePlane(), metrics=metrics)
    error_of(call(app, "POST", "/v1/models/digits/predict", files=files), 500)
    assert metrics.refusals == [("failed", 3)]


def test_a_query_path_counts_nothing_without_a_recorder() -> None:
    path = QueryPath(FakePlane(), settings(), OpenAdmission())
    with pytest.raises(Exception, match="at least one image"):
        path.check_samples(0)
