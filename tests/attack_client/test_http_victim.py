"""The victim over HTTP, in process and over a socket, when all is well and when not."""

from __future__ import annotations

import asyncio
import gzip
import traceback
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from attack_client.contract import Reply
from attack_client.errors import AttackError, OverBudget, ProtocolError, Refused, Unreachable
from attack_client.http_victim import HttpVictim
from attack_client.retry import RetryPolicy
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import CLASSES, SHAPE, Fault, LinearModel, Stub

slept: list[float] = []


async def no_sleep(seconds: float) -> None:
    slept.append(seconds)


@pytest.fixture(autouse=True)
def _no_memory() -> None:
    slept.clear()


def ask(stub: Stub, count: int = 3, **options: object) -> Reply:
    async def run() -> Reply:
        victim = HttpVictim(
            "http://victim:1",
            "toy",
            transport=httpx.ASGITransport(stub),
            sleep=no_sleep,
            **options,  # type: ignore[arg-type]
        )
        async with victim:
            return await victim.query(stub.model.images(count), key="k")

    return asyncio.run(run())


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
@pytest.mark.parametrize(("binary", "json_answers"), [(True, False), (True, True), (False, False)])
def test_answers_are_those_of_the_model(
    model: LinearModel, datatype: str, binary: bool, json_answers: bool
) -> None:
    stub = Stub(model, datatype=datatype, binary=binary, json_answers=json_answers)
    reply = ask(stub)
    np.testing.assert_array_equal(reply.probabilities, model(model.images(3)))
    assert reply.sends == 1
    assert stub.samples == 3


def test_facts_are_public_metadata(model: LinearModel) -> None:
    async def facts() -> tuple[object, ...]:
        transport = httpx.ASGITransport(Stub(model))
        async with HttpVictim("http://victim:1/", "toy", transport=transport) as victim:
            known = victim.facts
            return known.url, known.model, known.shape, known.classes

    assert asyncio.run(facts()) == ("http://victim:1", "toy", SHAPE, CLASSES)


def test_a_gateway_that_hides_the_server_is_spoken_to_in_json(model: LinearModel) -> None:
    stub = Stub(model, binary=False, server_metadata_status=404)
    np.testing.assert_array_equal(ask(stub).probabilities, model(model.images(3)))


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_victim_is_asked_again_with_the_same_key(model: LinearModel, status: int) -> None:
    stub = Stub(model)
    stub.faults.extend([Fault(status, headers=(("retry-after", "7"),)), Fault(status)])
    reply = ask(stub)
    assert reply.sends == 3
    assert stub.samples == 3
    assert [key for key, _ in stub.requests] == ["k", "k", "k"]
    assert slept[0] >= 7
    assert slept[1] <= RetryPolicy().base_s * (2 if status != 429 else 2**5)


def test_a_budget_that_is_used_up_for_good_is_not_asked_eight_times(model: LinearModel) -> None:
    stub = Stub(model)
    stub.faults.extend([Fault(429)] * 9)
    with pytest.raises(OverBudget, match="answered 429: no, after 4 attempts"):
        ask(stub)
    assert len(stub.requests) == 4


@pytest.mark.parametrize(
    "fault",
    [
        Fault(body=b"<html>welcome</html>", charged=True),
        Fault(body=b"{}", charged=True),
        Fault(headers=(("content-encoding", "gzip"),), body=b"not gzip", charged=True),
    ],
)
def test_a_garbled_answer_is_asked_for_once_more(model: LinearModel, fault: Fault) -> None:
    stub = Stub(model)
    stub.faults.append(fault)
    assert ask(stub).sends == 2
    stub.faults.extend([fault] * 2)
    with pytest.raises(ProtocolError, match="after 2 attempts"):
        ask(stub)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (400, "answered 400: no"),
        (403, "this key may not query this model"),
        (413, "lower --batch"),
        (500, "answered 500: no"),
    ],
)
def test_a_refusal_is_final_and_says_why(model: LinearModel, status: int, sentence: str) -> None:
    stub = Stub(model)
    stub.faults.append(Fault(status))
    with pytest.raises(Refused, match=sentence) as caught:
        ask(stub)
    assert caught.value.status == status
    assert len(stub.requests) == 1
    assert not slept


def test_a_wrong_key_is_a_sentence_that_does_not_repeat_it(model: LinearModel) -> None:
    stub = Stub(model, key="right")
    with pytest.raises(Refused, match="--api-key") as caught:
        ask(stub, api_key="wr0ng-secret")
    assert "wr0ng" not in str(caught.value)
    assert ask(stub, api_key="right").sends == 1
    assert "right" not in repr(HttpVictim("http://victim", "toy", api_key="right"))


@pytest.mark.parametrize(
    "key", ["s3cret\nx", "s3cret\r\nX-Admin: 1", " s3cret", "s3cret ", "s3crét", "s3cret\x7f", ""]
)
def test_a_key_that_no_header_carries_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(AttackError, match="must be printable ASCII") as caught:
        HttpVictim("http://victim", "toy", api_key=key)
    assert "s3cr" not in "".join(traceback.format_exception(caught.value))


def test_the_text_of_a_header_error_is_shown_nowhere() -> None:
    key = "".join(["s3", "cret"])  # not in a line of source that a traceback quotes

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.LocalProtocolError(
            f"Illegal header value {request.headers['Authorization'].encode()!r}"
        )

    async def run() -> None:
        transport = httpx.MockTransport(refuse)
        async with HttpVictim("http://victim", "toy", api_key=key, transport=transport):
            raise AssertionError("entered")

    with pytest.raises(Unreachable, match="an illegal request") as caught:
        asyncio.run(run())
    assert key not in "".join(traceback.format_exception(caught.value))


def test_a_spent_budget_is_not_waited_for_all_day(model: LinearModel) -> None:
    stub = Stub(model)
    stub.faults.append(Fault(429, headers=(("retry-after", "86400"),)))
    with pytest.raises(OverBudget, match="86400 s"):
        ask(stub)
    assert not slept


def test_an_unknown_model_is_named_by_its_server(model: LinearModel) -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(Stub(model))
        async with HttpVictim("http://victim", "other/2", transport=transport):
            raise AssertionError("entered")

    with pytest.raises(Refused, match="404: not found"):
        asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    [
        *("victim:80", "ftp://victim", "http://", "http://a:b", "http://user:pw@victim"),
        *(
            "http://exa\x00mple",
            "http://exa\nmple",
            "http://a b",
            "http://h/\x7f",
            "http://h/\udcff",
        ),
        *("http://xn--a", "http://\u2603.example", "http://256.256.256.256", "http://[zz]"),
    ],
)
def test_a_url_that_cannot_work_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(AttackError) as caught:
        HttpVictim(url, "toy")
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [httpx.ConnectError, httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError]
)
def test_a_lost_connection_is_tried_again_until_it_is_no_use(
    error: Callable[[str], Exception],
) -> None:
    def lose(request: httpx.Request) -> httpx.Response:
        del request
        raise error("gone")

    async def run() -> None:
        async with HttpVictim(
            "http://victim",
            "toy",
            transport=httpx.MockTransport(lose),
            retry=RetryPolicy(attempts=3),
            sleep=no_sleep,
        ):
            raise AssertionError("entered")

    with pytest.raises(Unreachable, match=r"does not answer \(gone\), after 3 attempts"):
        asyncio.run(run())
    assert len(slept) == 2


def test_jitter_is_seeded(model: LinearModel) -> None:
    def delays(seed: int) -> list[float]:
        slept.clear()
        stub = Stub(model)
        stub.faults.extend([Fault(503)] * 4)
        ask(stub, seed=seed)
        return list(slept)

    assert delays(1) == delays(1) != delays(2)


def test_images_that_do_not_fit_are_not_sent(model: LinearModel) -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(Stub(model))
        async with HttpVictim("http://victim", "toy", transport=transport) as victim:
            await victim.query(np.zeros((1, 3, 8, 8), dtype=np.uint8))

    with pytest.raises(ProtocolError, match=r"not uint8 \(n, 1, 8, 8\)"):
        asyncio.run(run())


def test_gzipped_answers_are_understood() -> None:
    model = LinearModel()

    async def zipped(scope: dict[str, object], receive: object, send: object) -> None:
        started: list[dict[str, object]] = []

        async def compress(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                started.append(message)
                return
            body = gzip.compress(message["body"])  # type: ignore[arg-type]
            [start] = started
            headers = [h for h in start["headers"] if h[0] != b"content-length"]  # type: ignore[attr-defined]
            start["headers"] = [*headers, (b"content-encoding", b"gzip")]
            await send(start)  # type: ignore[operator]
            await send({"type": "http.response.body", "body": body})  # type: ignore[operator]

        await Stub(model)(scope, receive, compress)  # type: ignore[arg-type]

    async def run() -> Reply:
        transport = httpx.ASGITransport(zipped)  # type: ignore[arg-type]
        async with HttpVictim("http://victim", "toy", transport=transport) as victim:
            return await victim.query(model.images(2))

    np.testing.assert_array_equal(asyncio.run(run()).probabilities, model(model.images(2)))


def test_over_a_socket_half_bodies_and_resets_are_survived(
    model: LinearModel, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    stub = Stub(model)
    stub.faults.extend([Fault(cut=True, body=b""), Fault(cut=True), Fault(503)])

    async def run(url: str) -> Reply:
        policy = RetryPolicy(base_s=0.01)
        async with HttpVictim(url, "toy", retry=policy) as victim:
            return await victim.query(model.images(70))

    with serve(stub) as url:
        reply = asyncio.run(run(url))
    np.testing.assert_array_equal(reply.probabilities, model(model.images(70)))
    assert reply.sends == 4
    assert stub.samples == 70


def test_nobody_there_is_a_sentence() -> None:
    async def run() -> None:
        policy = RetryPolicy(attempts=2, base_s=0)
        async with HttpVictim("http://127.0.0.1:9", "toy", retry=policy):
            raise AssertionError("entered")

    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9 does not answer"):
        asyncio.run(run())
