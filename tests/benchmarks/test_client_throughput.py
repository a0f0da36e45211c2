"""What ``benchmarks.client_throughput`` says of its own figures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest

from attack_client.contract import Pool
from attack_client.http_victim import HttpVictim
from benchmarks import client_throughput
from tests.attack_client.stub import LinearModel, Stub


@pytest.mark.parametrize(("ours", "verdict"), [([95.0, 96.0], "met"), ([50.0, 96.0], "missed")])
def test_the_notes_hold_every_round_and_the_verdict(ours: list[float], verdict: str) -> None:
    found = {"wrk": [100.0, 100.0], "attack client": ours}
    (rounds, _) = client_throughput.notes(found, load=0.1, seconds=20)
    assert f"of wrk: 100, 100; of the attack client: {ours[0]}, {ours[1]}." in rounds
    assert f"the target of 90% is {verdict}" in rounds


def test_a_busy_machine_is_named() -> None:
    found = {"wrk": [100.0], "attack client": [99.0]}
    assert "load of 50.0" in client_throughput.notes(found, load=50.0, seconds=20)[-1]


def test_a_theft_is_cut_off_and_what_is_on_disk_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LinearModel()
    stub = Stub(model, delay_s=0.05)

    class Victim(HttpVictim):
        def __init__(self, url: str, name: str) -> None:
            super().__init__(url, name, transport=httpx.ASGITransport(stub))

    monkeypatch.setattr(client_throughput, "HttpVictim", Victim)
    monkeypatch.setattr(client_throughput, "MODEL", "toy")
    images = model.images(20_000)
    pool = Pool("noise", images, np.zeros(len(images), dtype=np.int64))
    rate = asyncio.run(client_throughput.by_client("http://victim", pool, tmp_path / "t", 1.0))
    assert 0 < rate < len(images)
    assert stub.samples < len(images)
