"""Every panel, asked of a real Prometheus that scrapes the real server."""

from __future__ import annotations

import itertools
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from intaglio.processes import Running, serving
from tests.deploy.dashboard import panel_queries
from tests.deploy.stack import eventually
from tests.server.core.conftest import write

ROOT = Path(__file__).parents[2]
RULES = ("recording.yml", "alerts.yml")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a defense, maps and the monitor."""
    root = tmp_path_factory.mktemp("dashboard")
    write(root / "models", "digits", "1", "victim")
    model = {
        "defenses": [{"kind": "modelguard-w", "epsilon": 0.5}],
        "explanations": {"interpreter": "grad-cam", "unprotected": True},
    }
    config = root / "serve.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "models": {"digits": model},
                "monitor": {"enabled": True},
                "cache": {"backend": "memory", "shared": True},
                "secret_file": str(root / "secret"),
                "threads": 1,
                "device": "cpu",
            }
        )
    )
    with serving(root / "models", "--config", str(config)) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus with our rules, which looks at the server twice a second while somebody asks."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("there is no prometheus here; the Debian package of that name has it")
    root = tmp_path_factory.mktemp("prometheus")
    for name in RULES:
        shutil.copy(ROOT / "docker/prometheus" / name, root)
    target = server.metrics_url.removeprefix("http://").removesuffix("/metrics")
    job = {"job_name": "intaglio", "static_configs": [{"targets": [target]}]}
    config = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(root / name) for name in RULES],
        "scrape_configs": [{**job, "scrape_timeout": "500ms"}],
    }
    (root / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            *(binary, f"--config.file={root / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={root / 'data'}", f"--web.listen-address=127.0.0.1:{port}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stop = threading.Event()
    caller = threading.Thread(target=_ask, args=(server.url, stop))
    caller.start()
    try:
        eventually(lambda: httpx.get(f"{url}/-/ready").status_code == 200, within_s=60)
        yield url
    finally:
        stop.set()
        caller.join()
        process.terminate()
        process.wait(30)


def _ask(url: str, stop: threading.Event) -> None:
    draws = np.random.default_rng(0)
    for count in itertools.count(1):
        if stop.wait(0.1):
            return
        images = draws.integers(0, 256, (1 + count % 8, 1, 12, 12))
        tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
        body = {
            "inputs": [{**tensor, "data": images.ravel().tolist()}],
            "outputs": [{"name": "probabilities"}, {"name": "attributions"}],
        }
        httpx.post(f"{url}/v2/models/digits/infer", json=body).raise_for_status()


@pytest.mark.parametrize(("title", "query"), panel_queries(), ids=lambda value: value[:40])
def test_every_panel_shows_something(prometheus: str, title: str, query: str) -> None:
    del title

    def shown() -> bool:
        answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", answer
        return bool(answer["data"]["result"])

    eventually(shown, within_s=60)


def test_what_a_panel_shows_is_what_the_server_says(prometheus: str, server: Running) -> None:
    query = 'sum(intaglio_served_distortion_l1_count{model="digits"})'

    def close() -> bool:
        page = httpx.get(server.metrics_url).text
        (line,) = (line for line in page.splitlines() if line.startswith(COUNT))
        said = float(line.rpartition(" ")[2])
        answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}).json()
        seen = float(answer["data"]["result"][0]["value"][1])
        assert 0 < seen <= said
        assert said - seen < 200  # asked since the last look
        return True

    eventually(close, within_s=30)


COUNT = 'intaglio_served_distortion_l1_count{model="digits"}'
