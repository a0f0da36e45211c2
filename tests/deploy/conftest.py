"""A stack that is started once, for the tests of ``make test-deploy``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.datasets.digits import digits
from tests.deploy.stack import ROOT, Stack


@pytest.fixture(scope="session")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of docker/server/server.yaml, which the server reads, to be changed by tests."""
    directory = tmp_path_factory.mktemp("configuration")
    directory.chmod(0o755)  # the server reads it as another user
    path = directory / "server.yaml"
    path.write_text((ROOT / "docker/server/server.yaml").read_text())
    path.chmod(0o644)
    return path


@pytest.fixture(scope="session")
def stack(configuration: Path) -> Iterator[Stack]:
    """Everything of docker-compose.yml but Grafana, freshly started from empty volumes."""
    if "INTAGLIO_TEST_STACK" not in os.environ:
        pytest.skip("make test-deploy builds and starts the containers that this looks at")
    stack = Stack("intaglio-test")
    stack.environment["INTAGLIO_CONFIG"] = str(configuration.parent)
    try:
        stack.compose("up", "-d", "--no-build")
        stack.healthy("server", "redis", "prometheus", "alertmanager")
        yield stack
    finally:
        # pytest shows this where a test failed.
        sys.stdout.write(stack.compose("ps", check=False))
        sys.stdout.write(stack.compose("logs", "--no-color", "--tail=60", check=False)[-12_000:])
        stack.compose("down", "-v", "--timeout", "5", "--remove-orphans", check=False)


@pytest.fixture(scope="session")
def images() -> NDArray[np.uint8]:
    """Digits that nothing was trained on: ``(397, 1, 28, 28)``."""
    return digits().test_images


@pytest.fixture(scope="session")
def labels() -> NDArray[np.int64]:
    """Which digits those are."""
    return digits().test_labels
