"""The whole server as a process: ready line, both ports, drain on a signal, exit status."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from intaglio.processes import serving
from server import lifecycle
from server.settings import Settings

SLOW = """
import os, time
import torch
from defenses.contract import Defense, Stage
from defenses import registry

class Slow(Defense):
    kind, stage = "slow", Stage.PERTURB
    def apply(self, queries, answers):
        # Warm-up is shown batches of 1 and 4; a request of 3 takes its time.
        if len(queries.images) == 3:
            time.sleep(float(os.environ["SLEEP"]))
        return answers

registry.BUILT_IN = {**registry.BUILT_IN, "slow": Slow}
import server.cli
server.cli.serve()
"""

READY = re.compile(
    r"Intaglio is ready at (http://127\.0\.0\.1:\d+) \(metrics at (http://127\.0\.0\.1:\d+)/metrics\)\n"
)
IMAGES = np.random.default_rng(1).integers(0, 256, (3, 1, 12, 12), dtype=np.uint8)


class Process:
    """A running server."""

    def __init__(self, models_root: Path, tmp_path: Path, sleep_s: float) -> None:
        environment = {**os.environ, "SLEEP": str(sleep_s), "OMP_NUM_THREADS": "1"}
        self.popen = subprocess.Popen(
            [
                *(sys.executable, "-W", "error", "-c", SLOW),
                *("--models", str(models_root), "--port", "0", "--admin-port", "0"),
                *("--set", f"secret_file={tmp_path / 'secret'}"),
                *("--set", "models.m={victim: digits, defenses: [{kind: slow}]}"),
                *("--set", "batching.max_batch_size=4", "--log-format", "json"),
                *("--device", "cpu", "--threads", "1"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        ready = READY.fullmatch(line)
        if ready is None:
            self.popen.kill()
            raise AssertionError(f"not ready: {line!r} {self.popen.communicate()[1]}")
        self.url, self.admin_url = ready.groups()

    def infer(self, samples: int) -> httpx.Response:
        body = {
            "inputs": [
                {
                    "name": "images",
                    "shape": [samples, 1, 12, 12],
                    "datatype": "UINT8",
                    "data": IMAGES[:samples].flatten().tolist(),
                }
            ]
        }
        return httpx.post(f"{self.url}/v2/models/m/infer", json=body, timeout=20)

    def ready(self) -> int:
        return httpx.get(f"{self.url}/v2/health/ready", timeout=5).status_code

    def in_flight(self) -> float:
        page = httpx.get(f"{self.admin_url}/metrics", timeout=5).text
        found = re.search(r"^intaglio_in_flight_samples (\S+)$", page, re.MULTILINE)
        assert found is not None
        return float(found[1])

    def wait_for_work(self) -> None:
        deadline = time.monotonic() + 10
        while self.in_flight() < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def start(models_root: Path, tmp_path: Path) -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.popen.kill()
        process.popen.communicate()


def test_it_serves_both_ports_and_drains_on_sigterm(
    start: list[Process], models_root: Path, tmp_path: Path
) -> None:
    server = Process(models_root, tmp_path, sleep_s=1.0)
    start.append(server)
    assert server.ready() == 200
    assert server.infer(1).status_code == 200
    assert httpx.get(f"{server.url}/metrics", timeout=5).status_code == 404
    assert "_created" not in httpx.get(f"{server.admin_url}/metrics", timeout=5).text

    answers: list[httpx.Response] = []
    accepted = threading.Thread(target=lambda: answers.append(server.infer(3)))
    accepted.start()
    server.wait_for_work()
    server.popen.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert server.ready() == 503
    refused = server.infer(1)
    assert (refused.status_code, list(refused.json())) == (503, ["error"])
    assert "retry-after" in refused.headers
    accepted.join(10)
    assert answers[0].status_code == 200
    assert answers[0].json()["outputs"][0]["shape"] == [3, 10]

    stdout, stderr = server.popen.communicate(timeout=10)
    assert (server.popen.returncode, stdout) == (0, "")
    assert '"message": "stopped"' in stderr
    assert "Traceback" not in stderr


def test_sighup_reads_the_configuration_again_and_refuses_a_bad_one(
    models_root: Path, tmp_path: Path
) -> None:
    config = tmp_path / "serve.yaml"
    log = tmp_path / "log"

    def configure(text: str) -> None:
        config.write_text(f"secret_file: {tmp_path / 'secret'}\nthreads: 1\n{text}\n")

    def until(what: str, times: int = 1) -> None:
        deadline = time.monotonic() + 60
        while log.read_text().count(what) < times:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)

    configure("models: {m: {victim: digits/2}}")
    with serving(models_root, "--config", str(config), "--device", "cpu", log=log) as server:

        def versions() -> Any:
            return httpx.get(f"{server.url}/v2/models/m", timeout=20).json()["versions"]

        assert versions() == ["2"]
        configure("models: {m: {victim: digits/10}}")
        os.kill(server.pid, signal.SIGHUP)
        until("reload: loaded m/10; kept nothing; unloaded m/2")
        assert versions() == ["10"]
        for bad, sentence in (
            ("models: {m: {victim: digits/3}}", "models.m.victim: there is no bundle 'digits/3'"),
            ("models: {m: {victims: digits}}", "models.m.victims: there is no such setting"),
            ("models: [", "config:"),
            ("drain_s: 3", "drain_s: a change of this needs a restart"),
        ):
            configure(bad)
            os.kill(server.pid, signal.SIGHUP)
            until(f"reload refused: {sentence}")
            assert versions() == ["10"]
        until("what was served before is served on", times=4)


def test_a_second_signal_waits_for_nothing(
    start: list[Process], models_root: Path, tmp_path: Path
) -> None:
    server = Process(models_root, tmp_path, sleep_s=15.0)
    start.append(server)

    def ask() -> None:
        with pytest.raises(httpx.HTTPError):
            server.infer(3).raise_for_status()

    left = threading.Thread(target=ask)
    left.start()
    server.wait_for_work()
    began = time.monotonic()
    server.popen.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert server.popen.poll() is None
    server.popen.send_signal(signal.SIGINT)
    server.popen.communicate(timeout=10)
    assert server.popen.returncode == 1
    assert time.monotonic() - began < 8
    left.join(10)


STUCK = """
import time
import server.decoder

def stuck(image, spec, **options):
    print("decoding", flush=True)
    time.sleep(600)

server.decoder.decode_image = stuck
import server.cli
server.cli.serve()
"""


def test_a_picture_that_is_decoded_for_nobody_does_not_keep_the_process(
    models_root: Path, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-W", "error", "-c", STUCK, "--models", str(models_root)),
        *("--port", "0", "--admin-port", "0", "--device", "cpu", "--threads", "1"),
        *("--set", f"secret_file={tmp_path / 'secret'}", "--set", "batching.deadline_s=0.2"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            ready = READY.fullmatch(process.stdout.readline())
            assert ready is not None
            late = httpx.post(
                f"{ready[1]}/v1/models/digits/predict",
                content=b"a picture",
                headers={"content-type": "image/png"},
                timeout=20,
            )
            assert late.status_code == 504
            assert process.stdout.readline() == "decoding\n"
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert log.rstrip().endswith("stopped")


def test_a_taken_port_is_one_sentence(models_root: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "server", "--models", str(models_root)),
                *("--port", str(port), "--admin-port", "0"),
                *("--set", f"secret_file={tmp_path / 'secret'}"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"Error: port: cannot bind 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [
        ("127.0.0.1", (), False),
        ("::1", (), False),
        ("localhost", (), False),
        ("0.0.0.0", ("key",), False),
        ("0.0.0.0", (), True),
        ("::", (), True),
        ("", (), True),
    ],
)
def test_a_server_that_is_open_to_others_says_so(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    host: str,
    keys: tuple[str, ...],
    warned: bool,
) -> None:
    class BoundError(Exception):
        pass

    def bound(*address: object) -> None:
        raise BoundError(address)

    monkeypatch.setattr(lifecycle, "_bound", bound)
    monkeypatch.setattr(lifecycle, "configure_logs", lambda *_: None)
    monkeypatch.setattr("sys.setswitchinterval", lambda _: None)
    with caplog.at_level("WARNING"), pytest.raises(BoundError):
        lifecycle.run(Settings(model_dir=Path("unused"), host=host, api_keys=keys))
    assert [record.getMessage() for record in caplog.records] == (
        [f"anybody who reaches {host or 'any address'} may ask: there are no API keys"]
        if warned
        else []
    )
