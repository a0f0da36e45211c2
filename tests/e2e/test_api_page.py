"""The examples of docs/api.md, pasted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intaglio.processes import Running

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str]]:
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "text"), examples())
def test_example_of_the_api_page(server: Running, tmp_path: Path, kind: str, text: str) -> None:
    for name in ("seven.png", "three.jpg"):
        Image.fromarray(np.zeros((40, 30), dtype=np.uint8)).save(tmp_path / name)
    asked = text.replace("http://127.0.0.1:8000", server.url)
    asked = asked.replace("127.0.0.1:8000", server.url.removeprefix("http://"))
    command = ["bash", "-e", "-c", asked] if kind == "bash" else [sys.executable, "-c", asked]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert '"error"' not in ended.stdout, ended.stdout
    assert ended.stdout, "an example shows something"
