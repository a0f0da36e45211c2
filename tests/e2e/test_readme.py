"""The README's commands, in its order, in an empty directory."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def background(script: str, url: str, cwd: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run ``script``, whose last command serves, until the block ends."""
    process = subprocess.Popen(
        ["bash", "-e", "-c", script.replace("\nintaglio serve", "\nexec intaglio serve")],
        cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert "ready" in process.stdout.readline()
        patience = time.monotonic() + 30
        while time.monotonic() < patience:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/v2/health/ready").status_code == 200:
                    break
        yield
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    port, admin = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "INTAGLIO_PORT": str(port),
        "INTAGLIO_ADMIN_PORT": str(admin),
        "INTAGLIO_SECRET_FILE": str(tmp_path / "secret"),
        "OMP_NUM_THREADS": "1",
    }
    Image.fromarray(np.zeros((28, 28), dtype=np.uint8)).save(tmp_path / "digit.png")
    blocks = [
        (kind, text.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
        for kind, text in BLOCK.findall(README.read_text(encoding="utf-8"))
    ]
    assert sum("intaglio serve" in text for _, text in blocks) == 2

    def run(kind: str, text: str) -> str:
        command = ["bash", "-e", "-c", text] if kind == "bash" else [sys.executable, "-c", text]
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"{text}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    with contextlib.ExitStack() as serving:
        for kind, text in blocks:
            if "intaglio serve" in text:
                script = "\n" + text.replace("benign_cost: 0.01", "benign_cost: 0.3")
                serving.pop_all().close()
                serving.enter_context(background(script, url, tmp_path, environment))
                continue
            # The commands are what is tested here, not how well a full training does.
            quick = text.replace("--out bundles", "--out bundles --set plan.epochs=6")
            out = run(kind, quick)
            if "curl" in text:
                assert '"predictions"' in out
    assert (tmp_path / "runs" / "attack" / "report.json").is_file()
    assert (tmp_path / "bundles" / "digits-am" / "1" / "card.json").is_file()
