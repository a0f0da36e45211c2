"""An attacker who asks for maps, against the real application without a socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from attack_client.attacks.attribution import Attribution
from attack_client.attacks.order import drawn_order
from attack_client.contract import Pool
from attack_client.errors import ProtocolError
from attack_client.http_victim import HttpVictim
from attack_client.theft import steal
from server.app import create_app
from server.engine import Engine
from server.metrics import Metrics
from server.repository import load_models
from server.serving import InferenceService
from server.settings import Settings
from tests.server.core.conftest import write

NOISE = np.random.default_rng(2).integers(0, 256, (20, 1, 12, 12), dtype=np.uint8)
SHOWN = {"interpreter": "relevance-cam", "unprotected": True}


def test_the_client_gets_the_maps_that_the_server_makes(tmp_path: Path) -> None:
    write(tmp_path, "digits", "1", "victim", seed=1)
    models = {"shown": {"victim": "digits", "explanations": SHOWN}, "digits": {}}
    settings = Settings(model_dir=tmp_path, secret="a secret of some length", models=models)
    cpu = torch.device("cpu")
    metrics = Metrics()
    engine = Engine(cpu, secret=b"a secret of some length", metrics=metrics)
    plane = InferenceService(load_models(settings, cpu), engine, settings=settings, metrics=metrics)

    async def ask() -> None:
        await plane.start()
        transport = httpx.ASGITransport(create_app(plane, settings, metrics))
        async with HttpVictim("http://server", "shown", transport=transport) as victim:
            told = await victim.explain(NOISE)
            said = await victim.query(NOISE)
            pool = Pool(name="noise", images=NOISE, labels=np.zeros(20, dtype=np.int64))
            stolen = await steal(victim, pool, Attribution(), budget=20, out=tmp_path / "theft")
        with stolen:
            order = drawn_order(20, seed=0)
            np.testing.assert_array_equal(stolen.maps(0, 20), told.attributions[order])
            np.testing.assert_array_equal(stolen.prefix(20)[1], told.probabilities[order])
        here = await plane.explain(plane.view("shown"), NOISE)
        np.testing.assert_array_equal(told.attributions, here.attributions)
        np.testing.assert_array_equal(told.probabilities, said.probabilities)
        assert told.attributions.shape == (20, *(plane.view("shown").maps or ()))
        async with HttpVictim("http://server", "digits", transport=transport) as victim:
            with pytest.raises(ProtocolError, match="'digits' at http://server announces no maps"):
                await victim.explain(NOISE)
        await plane.drain()

    asyncio.run(ask())
