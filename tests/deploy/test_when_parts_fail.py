"""Parts of the stack die, hang and come back."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.deploy.stack import Stack, eventually


def test_a_restarted_server_gives_the_same_answers(stack: Stack, images: NDArray[np.uint8]) -> None:
    before = stack.probabilities(images[:50])
    started = stack.inspect(stack.container("server"))["State"]["StartedAt"]
    stack.compose("restart", "--timeout", "45", "server")
    stack.healthy("server")
    assert stack.inspect(stack.container("server"))["State"]["StartedAt"] != started
    np.testing.assert_allclose(stack.probabilities(images[:50]), before, atol=1.1e-3)


def test_a_server_that_is_stopped_answers_what_it_accepted_and_exits_with_0(
    stack: Stack, images: NDArray[np.uint8]
) -> None:
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                statuses.append(stack.ask(images[:8]).status_code)
            except (httpx.HTTPError, RuntimeError):
                return  # refused connections, once the port is gone

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    eventually(lambda: len(statuses) > 5, within_s=30)
    container = stack.container("server")
    stack.compose("stop", "--timeout", "45", "server")
    stop.set()
    for caller in callers:
        caller.join()
    assert set(statuses) <= {200, 503}
    assert 200 in statuses
    assert stack.inspect(container)["State"]["ExitCode"] == 0
    stack.compose("start", "server")
    stack.healthy("server")


def test_a_server_that_is_killed_is_started_again(stack: Stack, images: NDArray[np.uint8]) -> None:
    container = stack.container("server")
    restarts = stack.inspect(container)["RestartCount"]
    # From within, as a failure would come; `docker kill` counts as somebody's wish.
    stack.docker("exec", container, "python", "-c", KILL)
    eventually(lambda: stack.inspect(container)["RestartCount"] > restarts, within_s=30)
    stack.healthy("server")
    assert stack.ask(images[:1]).status_code == 200


KILL = """
import os, pathlib, signal
for place in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if b"serve" in place.read_bytes() and int(place.parent.name) not in (1, os.getpid()):
        os.kill(int(place.parent.name), signal.SIGKILL)
"""


def test_a_configuration_that_an_editor_replaced_is_served_after_a_reload(
    stack: Stack, images: NDArray[np.uint8], configuration: Path
) -> None:
    started = stack.inspect(stack.container("server"))["State"]["StartedAt"]
    fine = stack.probabilities(images[:8]) * 100
    assert np.abs(fine - fine.round()).max() > 0.05
    # As editors and git do: a new file takes the name of the old one.
    coarser = configuration.with_name(".server.yaml.new")
    coarser.write_text(configuration.read_text().replace("decimals: 3", "decimals: 2"))
    coarser.chmod(0o644)
    coarser.rename(configuration)
    # Not by the engine's own signal: after that, a container counts as stopped by hand.
    stack.docker("exec", stack.container("server"), "sh", "-c", "kill -HUP 1")

    def coarse() -> bool:
        hundredths = stack.probabilities(images[:8]) * 100
        np.testing.assert_allclose(hundredths, hundredths.round(), atol=0.01)
        return True

    eventually(coarse, within_s=30)
    container = stack.container("server")
    assert stack.inspect(container)["State"]["StartedAt"] == started
    stack.docker("exec", container, "python", "-c", KILL)
    eventually(lambda: stack.inspect(container)["State"]["StartedAt"] != started, within_s=30)
    stack.healthy("server")


@pytest.fixture
def replicas(stack: Stack) -> Stack:
    """The same stack with two servers behind the balancer."""
    wide = Stack(stack.project, ("docker-compose.yml", "compose.replicas.yaml"))
    wide.environment.update(stack.environment)
    wide.compose("up", "-d", "--no-build", "--scale", "server=2")
    wide.healthy("server")
    return wide


def test_replicas_behind_a_balancer(
    stack: Stack, replicas: Stack, images: NDArray[np.uint8]
) -> None:
    def served() -> bool:
        return replicas.ask(images[:1], service="balancer").status_code == 200

    eventually(served, within_s=60)
    # Both are scraped, each as itself, and their counters add up to what was asked.
    eventually(lambda: stack.value("count(intaglio_ready == 1)") == 2, within_s=60)

    def counts() -> dict[str, float]:
        rows = stack.measure("sum by (instance) (intaglio_samples_total)")
        return {row["metric"]["instance"]: float(row["value"][1]) for row in rows}

    stack.scraped()
    before = counts()
    for start in range(0, 120, 10):
        replicas.probabilities(images[start : start + 10], service="balancer")

    stack.scraped()
    after = counts()
    gained = {name: after[name] - before.get(name, 0.0) for name in after}
    assert sum(gained.values()) == 120, gained
    assert all(gained.values()), gained

    # One dies while callers ask: none of them is told.
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(replicas.ask(images[:4], service="balancer").status_code)

    callers = [threading.Thread(target=ask) for _ in range(2)]
    for caller in callers:
        caller.start()
    eventually(lambda: len(statuses) > 5, within_s=30)
    stack.docker("stop", "--time", "45", replicas.containers("server")[-1])
    asked = len(statuses)
    eventually(lambda: len(statuses) > asked + 5, within_s=30)
    stop.set()
    for caller in callers:
        caller.join()
    # What it accepted it answered; until the balancer looks again it refuses with 503.
    assert set(statuses) <= {200, 503}
    assert statuses[-1] == 200
    assert statuses.count(200) > 0.5 * len(statuses)


@pytest.fixture(scope="module")
def key(stack: Stack) -> dict[str, str]:
    """From here on the server asks for keys, which are in Redis: the headers of one who has one."""
    stack.environment["INTAGLIO_CALLERS"] = "redis"
    stack.compose("up", "-d", "--no-build", "server")
    stack.healthy("server")
    made = stack.compose(
        *("exec", "-T", "server", "intaglio", "keys", "create", "--name", "drill", "--json"),
        *("--per-day", "5000", "--lifetime", "5000"),
    )
    return {"authorization": f"Bearer {json.loads(made)['key']}"}


def test_redis_is_killed_and_comes_back(
    stack: Stack, images: NDArray[np.uint8], key: dict[str, str]
) -> None:
    settings = stack.docker("exec", stack.container("redis"), "sh", "-c", SETTINGS).split()
    assert settings[1::2] == ["yes", "always", "noeviction"]
    assert stack.ask(images[:1]).status_code == 401
    assert stack.ask(images[:1], headers=key).status_code == 200
    eventually(lambda: stack.value("min(intaglio_redis_up)") == 1, within_s=60)
    assert stack.ask(images[:37], headers=key).status_code == 200
    before = used(stack, key)
    assert before[0] == before[1] >= 38
    stack.compose("kill", "-s", "KILL", "redis")

    def refused() -> bool:
        started = time.monotonic()
        answer = stack.ask(images[:1], headers=key)
        assert time.monotonic() - started < 5
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        return True

    eventually(refused, within_s=10)
    eventually(lambda: stack.value("min(intaglio_redis_up)") == 0, within_s=60)
    eventually(lambda: firing(stack, "IntaglioRedisAway"), within_s=120)
    stack.compose("start", "redis")
    stack.healthy("redis")
    # The key is known and its budget as it was, since what Redis acknowledged was on disk; what was
    # refused meanwhile cost nothing. Nothing else was restarted.
    eventually(lambda: used(stack, key) == before, within_s=15)
    assert stack.ask(images[:1], headers=key).status_code == 200
    assert used(stack, key) == (before[0] + 1, before[1] + 1)
    eventually(lambda: stack.value("min(intaglio_redis_up)") == 1, within_s=60)


def test_a_paused_redis_costs_a_moment_and_no_hang(
    stack: Stack, images: NDArray[np.uint8], key: dict[str, str]
) -> None:
    assert stack.ask(images[:1], headers=key).status_code == 200
    stack.compose("pause", "redis")
    try:
        for _ in range(5):
            started = time.monotonic()
            assert stack.ask(images[:1], headers=key).status_code == 503
            # 250 ms of redis.timeout_ms, and what a busy machine adds.
            assert time.monotonic() - started < 3
    finally:
        stack.compose("unpause", "redis")
    eventually(lambda: stack.ask(images[:1], headers=key).status_code == 200, within_s=15)


def used(stack: Stack, key: dict[str, str]) -> tuple[int, int]:
    """What a caller has used of its budgets, today and ever."""
    answer = httpx.get(f"{stack.url('server', 8000)}/v1/usage", headers=key, timeout=30)
    answer.raise_for_status()
    usage = answer.json()
    return usage["today"]["used"], usage["lifetime"]["used"]


SETTINGS = """
export REDISCLI_AUTH=$(cat /secrets/redis/password)
for name in appendonly appendfsync maxmemory-policy; do redis-cli config get $name; done
"""


def firing(stack: Stack, name: str) -> bool:
    """Whether the alert ``name`` fires, by Prometheus' own series of alerts."""
    return bool(stack.measure(f'ALERTS{{alertname="{name}", alertstate="firing"}}'))
