"""What tests of the server's core share: tiny bundles on disk, settings, devices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.architectures import build
from models.bundle import NetworkSource, write_bundle
from models.card import InputSpec, Normalisation, TrainingCard
from server.engine import Engine
from server.hot_reload import HotReload
from server.metrics import Metrics
from server.repository import load_models
from server.repository_metrics import RepositoryMetrics
from server.serving import InferenceService
from server.settings import BatchingSettings, Settings
from server.weights import Weights
from tests.server.core.running import Running

DIGITS = tuple("0123456789")
NORMALISATION = Normalisation(mean=(0.5,), std=(0.5,))


def write(
    root: Path,
    name: str,
    version: str,
    *roles: str,
    size: int = 12,
    labels: tuple[str, ...] = DIGITS,
    objective: str = "plain",
    seed: int = 0,
) -> Path:
    """A bundle of untrained networks, one per role, each different."""
    networks = {}
    for offset, role in enumerate(roles):
        torch.manual_seed(seed + offset)
        network = build(
            "cnn-small",
            channels=1,
            size=(size, size),
            outputs=len(labels),
            normalisation=NORMALISATION,
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(2.0)  # answers that differ from image to image
        networks[role] = NetworkSource(
            module=network,
            architecture="cnn-small",
            normalisation=NORMALISATION,
            training=TrainingCard(
                objective=objective,
                data="noise",
                seed=seed,
                epochs=1,
                selection="last",
                recipe={},
            ),
        )
    return write_bundle(
        root,
        name=name,
        version=version,
        description="for tests",
        input=InputSpec(channels=1, height=size, width=size),
        labels=labels,
        networks=networks,
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def models_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles: digits 2 and 10 (plain), defended 1 (am, with its misinformation network)."""
    root = tmp_path_factory.mktemp("models")
    write(root, "digits", "2", "victim", seed=1)
    write(root, "digits", "10", "victim", seed=2)
    write(root, "defended", "1", "victim", "misinformation", objective="am", seed=3)
    return root


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def settings(models_root: Path) -> Callable[..., Settings]:
    """Builds settings from keyword arguments alone."""

    def build_settings(**given: Any) -> Settings:
        return Settings(**{"model_dir": models_root, "secret": "a secret of some length", **given})

    return build_settings


@pytest.fixture
def batching() -> Callable[..., BatchingSettings]:
    def build_settings(**given: Any) -> BatchingSettings:
        return BatchingSettings(**{"max_batch_size": 4, "queue_samples": 16, **given})

    return build_settings


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda:0",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
            ],
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def two_models(tmp_path: Path) -> Path:
    """Bundles of a test's own: digits 1 and letters 1."""
    write(tmp_path, "digits", "1", "victim", seed=1)
    write(tmp_path, "letters", "1", "victim", seed=5)
    return tmp_path


@pytest.fixture
async def running(
    settings: Callable[..., Settings], two_models: Path, metrics: Metrics
) -> AsyncIterator[Running]:
    """A service of every bundle there is, and what reloads it."""
    given: dict[str, Any] = {"model_dir": two_models}
    first, weights = settings(**given), Weights(torch.device("cpu"))
    engine = Engine(
        torch.device("cpu"), secret=b"a secret of some length", metrics=metrics, threads=1
    )
    service = InferenceService(
        load_models(first, torch.device("cpu"), weights), engine, settings=first, metrics=metrics
    )
    await service.start()
    told = RepositoryMetrics(metrics.registry)
    reloads = HotReload(service, weights, first, lambda: settings(**given), told)
    yield Running(service, reloads, weights, given, metrics.registry)
    reloads.close()
    await service.drain()
