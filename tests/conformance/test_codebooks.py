"""What a chain with a codebook that grows promises: one answer for all callers, for good."""

from __future__ import annotations

import multiprocessing
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from benchmarks.redis_server import RedisServer
from defenses.codebook import Codebook
from defenses.codebook_memory import MemoryCodebook, share
from defenses.codebook_redis import RedisCodebook
from defenses.errors import OptionError
from defenses.modelguard_s import ModelGuardS
from models.simplex import GRID, round_to_grid, top1
from tests.defenses.toys import apply

EPSILON = 0.6
CLASSES = 10


def rows(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, CLASSES, generator=generator)
    return round_to_grid(logits.softmax(dim=1), GRID)


def shared(server: RedisServer, capacity: int = 4096) -> RedisCodebook:
    return RedisCodebook(server.url, name="toy/1:0.6", capacity=capacity)


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest) -> Callable[..., Codebook]:
    """Makes codebooks of one kind; where they are shared, all are the same one."""
    if request.param == "memory":
        return MemoryCodebook
    server: RedisServer = request.getfixturevalue("redis_server")
    return partial(shared, server)


def served(codebook: Codebook, said: Tensor) -> Tensor:
    return apply(ModelGuardS(epsilon=EPSILON, codebook=codebook), said)


def test_promises_are_kept(make: Callable[..., Codebook]) -> None:
    said = rows(300)
    given = served(make(), said)
    assert ((given - said).abs().sum(dim=1) <= EPSILON + 1e-6).all()
    assert torch.equal(top1(given), top1(said))
    assert ((given.double().sum(dim=1) - 1).abs() <= 1e-6).all()
    assert len(torch.unique(given, dim=0)) < len(said) / 2


def test_the_same_image_twice_whatever_was_asked_between(make: Callable[..., Codebook]) -> None:
    codebook = make()
    first = served(codebook, rows(64))
    for seed in range(1, 8):
        served(codebook, rows(64, seed))
    assert torch.equal(served(codebook, rows(64)), first)
    alone = [served(codebook, row[None]) for row in rows(64)]
    assert torch.equal(torch.cat(alone), first)


def test_a_batch_is_its_rows_in_their_order(make: Callable[..., Codebook]) -> None:
    said = rows(100)
    one_by_one = MemoryCodebook()
    expected = torch.cat([served(one_by_one, row[None]) for row in said])
    assert torch.equal(served(make(), said), expected)


def test_a_full_class_gets_no_more_words_and_still_keeps_its_promises(
    make: Callable[..., Codebook],
) -> None:
    codebook, said = make(capacity=20), rows(400)
    given = served(codebook, said)
    words = torch.unique(given[(given == said).all(dim=1)], dim=0)
    assert 0 < len(words) <= CLASSES * share(20, CLASSES)
    assert ((given - said).abs().sum(dim=1) <= EPSILON + 1e-6).all()
    assert torch.equal(served(codebook, said), given)


def test_callers_at_once_get_one_answer(make: Callable[..., Codebook]) -> None:
    codebook, said = make(), rows(200)
    found: dict[int, Tensor] = {}

    def ask(caller: int) -> None:
        order = torch.randperm(200, generator=torch.Generator().manual_seed(caller))
        for part in torch.split(order, 20):
            served(codebook, said[part])
        found[caller] = served(codebook, said)

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[caller], found[0]) for caller in range(4))


def test_memory_forgets_at_a_restart() -> None:
    said = rows(200)
    before = served(MemoryCodebook(), said)
    after = MemoryCodebook()
    served(after, said.flip(0))
    assert not torch.equal(served(after, said), before)


def replica(url: str, seed: int) -> list[list[float]]:
    """What another process answers, having been asked in an order of its own."""
    torch.set_num_threads(1)
    codebook = RedisCodebook(url, name="toy/1:0.6")
    order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
    for part in torch.split(order, 10):
        served(codebook, rows(200)[part])
    answers: list[list[float]] = served(codebook, rows(200)).tolist()
    return answers


def test_two_replicas_on_one_store_give_one_answer(redis_server: RedisServer) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply_async(replica, (redis_server.url, 1))
        here = replica(redis_server.url, 2)
        assert there.get(timeout=120) == here


def test_words_outlive_replicas_and_redis(redis_server: RedisServer) -> None:
    said = rows(200)
    before = served(shared(redis_server), said)
    served(shared(redis_server), rows(100, seed=3))
    assert torch.equal(served(shared(redis_server), said.flip(0)).flip(0), before)
    redis_server.stop()
    redis_server.start()
    assert torch.equal(served(shared(redis_server), said.flip(0)).flip(0), before)


def test_an_outage_costs_new_words_and_nothing_else(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    codebook, said, strange = shared(redis_server), rows(100), rows(100, seed=9)
    known = served(codebook, said)
    redis_server.stop()
    given = served(codebook, strange)
    assert ((given - strange).abs().sum(dim=1) <= EPSILON + 1e-6).all()
    assert torch.equal(served(codebook, said), known), "copied words are words"
    assert served(codebook, strange).equal(given)
    assert caplog.text.count("out of reach") == 1
    redis_server.start()
    monkeypatch.setattr(codebook, "_leave_alone_until", 1e-9)
    served(codebook, strange)
    assert "in reach again" in caplog.text


class Slow(socketserver.StreamRequestHandler):
    """Takes its time for every reply, holds no words, and tells every writer that it was late."""

    REPLIES: ClassVar[Mapping[bytes, bytes]] = {
        b"GET": b"$1\r\ng\r\n",
        b"LLEN": b":0\r\n",
        b"LRANGE": b"*0\r\n",
        b"EVAL": b":-1\r\n",
    }

    def handle(self) -> None:
        while line := self.rfile.readline():
            parts = []
            for _ in range(int(line[1:])):
                parts.append(self.rfile.read(int(self.rfile.readline()[1:])))
                self.rfile.readline()
            if parts[0] in self.REPLIES:
                time.sleep(0.1)
            self.wfile.write(self.REPLIES.get(parts[0], b"+OK\r\n"))


def test_a_slow_store_does_not_stop_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("redis")
    said = rows(4)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        codebook = RedisCodebook(
            f"redis://127.0.0.1:{server.server_address[1]}/0", name="toy/1:0.6"
        )
        began = time.monotonic()
        given = served(codebook, said)
        assert time.monotonic() - began < 4
        server.shutdown()
        codebook._client.close()
    assert ((given - said).abs().sum(dim=1) <= EPSILON + 1e-6).all()
    assert not (given == said).all(dim=1).any(), "none leaves as it was"
    assert "out of reach: it took more than 1 s for one batch" in caplog.text


def test_a_store_that_lost_its_words_begins_anew(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    old, said = shared(redis_server), rows(200)
    served(old, said)
    redis_server.client().flushall()
    new = shared(redis_server)
    expected = served(new, said.flip(0)).flip(0)
    served(old, rows(400, seed=5))  # something that it has no word for
    assert torch.equal(served(old, said), served(new, said))
    assert torch.equal(served(new, said), expected)


def test_without_redis_there_is_no_start(redis_server: RedisServer) -> None:
    redis_server.stop()
    with pytest.raises(OptionError, match=r"url: Redis at .* does not answer"):
        shared(redis_server).check(CLASSES)
