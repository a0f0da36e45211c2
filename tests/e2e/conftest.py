"""Bundles trained once, and a server process for whoever needs one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from intaglio.processes import Running, serving
from intaglio.recipe import load_recipe
from intaglio.training import train_recipe

SERVED = {
    "none": {"victim": "digits-plain/1"},
    "digits": {
        "victim": "digits-plain/1",
        "explanations": {"interpreter": "grad-cam", "unprotected": True},
    },
    "stingy": {"victim": "digits-plain/1", "defenses": [{"kind": "stingy", "ratio": 0.2}]},
    "am": {"victim": "digits-am/1", "defenses": [{"kind": "am", "threshold": 0.6}]},
    "chain": {
        "victim": "digits-am/1",
        "defenses": [
            {"kind": "am", "threshold": 0.6},
            {"kind": "reverse-sigmoid"},
            {"kind": "rounding", "decimals": 2},
        ],
    },
}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain victim and an Adaptive Misinformation pair on digits, a few epochs each."""
    root = tmp_path_factory.mktemp("bundles")
    for name, epochs in (("digits-plain", 6), ("digits-am", 3)):
        train_recipe(load_recipe(name, (f"plan.epochs={epochs}",)), out=root)
    return root


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that serves one name per chain."""
    path = tmp_path_factory.mktemp("config") / "serve.yaml"
    secret = path.with_name("secret")
    path.write_text(yaml.safe_dump({"models": SERVED, "secret_file": str(secret), "threads": 1}))
    return path


@pytest.fixture(scope="session")
def server(bundles: Path, config: Path) -> Iterator[Running]:
    """The server as a process, with every chain of ``SERVED``."""
    with serving(bundles, "--config", str(config)) as running:
        yield running
