"""A stub victim, in process and on a loopback socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from attack_client.contract import Pool, VictimFacts
from attack_client.provenance import Provenance
from tests.attack_client.stub import CLASSES, SHAPE, LinearModel, Stub

Serve = Callable[[Stub], AbstractContextManager[str]]

FORMS = pytest.mark.parametrize(
    "form",
    [
        pytest.param({}, id="bytes"),
        pytest.param({"datatype": "FP32", "binary": False}, id="json-of-floats"),
    ],
)
"""What a server takes and gives: binary tensors of uint8, or nothing but JSON, pixels in [0, 1]."""


@pytest.fixture
def model() -> LinearModel:
    return LinearModel()


@pytest.fixture
def pool(model: LinearModel) -> Pool:
    return Pool(name="noise", images=model.images(400), labels=np.zeros(400, dtype=np.int64))


@pytest.fixture
def provenance(pool: Pool) -> Provenance:
    from attack_client.attacks.knockoff import Knockoff

    facts = VictimFacts(url="http://victim", model="toy", shape=SHAPE, classes=CLASSES)
    return Provenance.of(facts, pool, Knockoff(seed=3))


@pytest.fixture
def serve() -> Serve:
    """``with serve(stub) as url:`` runs a stub under uvicorn on a free loopback port."""

    @contextmanager
    def running(stub: Stub) -> Iterator[str]:
        config = uvicorn.Config(stub, port=0, log_level="critical", ws="none", loop="asyncio")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline, "the stub did not start"
            time.sleep(0.01)
        try:
            port = server.servers[0].sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)

    return running


@pytest.fixture
def npz_root(tmp_path: Path, model: LinearModel) -> Path:
    """A data root with ``noise`` (a pool) and ``task`` (labelled by the model itself)."""
    root = tmp_path / "data"
    root.mkdir()
    channels_last = (0, 2, 3, 1)
    for name, seed in (("noise", 1), ("task", 2)):
        train, test = model.images(600, seed=seed), model.images(100, seed=seed + 10)
        np.savez(
            root / f"{name}.npz",
            x_train=train.transpose(channels_last)[..., 0],
            y_train=model(train).argmax(axis=1).astype(np.uint8),
            x_test=test.transpose(channels_last)[..., 0],
            y_test=model(test).argmax(axis=1).astype(np.uint8),
        )
    return root
