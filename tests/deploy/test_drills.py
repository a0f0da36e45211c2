"""Parts of the stack die, hang and come back."""

from __future__ import annotations

import threading
import time

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
    time.sleep(2)
    container = stack.container("server")
    stack.compose("stop", "--timeout", "45", "server")
    stop.set()
    for caller in callers:
        caller.join()
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) > 4
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


@pytest.fixture
def replicas(stack: Stack) -> Stack:
    """The same stack with two servers behind the balancer."""
    wide = Stack(stack.project, ("docker-compose.yml", "compose.replicas.yaml"))
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

    def settled() -> dict[str, float]:
        first = counts()
        time.sleep(11)
        assert counts() == first
        return first

    before = eventually(settled, within_s=60)
    for start in range(0, 120, 10):
        replicas.probabilities(images[start : start + 10], service="balancer")

    def all_counted() -> bool:
        after = counts()
        gained = {name: after[name] - before.get(name, 0.0) for name in after}
        assert sum(gained.values()) == 120, gained
        assert all(gained.values()), gained
        return True

    eventually(all_counted, within_s=60)

    # One dies while callers ask: none of them is told.
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(replicas.ask(images[:4], service="balancer").status_code)

    callers = [threading.Thread(target=ask) for _ in range(2)]
    for caller in callers:
        caller.start()
    time.sleep(2)
    stack.docker("stop", "--time", "45", replicas.containers("server")[-1])
    time.sleep(3)
    stop.set()
    for caller in callers:
        caller.join()
    assert len(statuses) > 10
    # What it accepted it answered; until the balancer looks again it refuses with 503.
    assert set(statuses) <= {200, 503}
    assert statuses[-1] == 200
    assert statuses.count(200) > 0.5 * len(statuses)
