"""The examples in the documentation are programs; they run here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "CONTRIBUTING.md", ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Examples that talk to a server on port 8000 run in tests/e2e, with a server.
NEEDS_SERVER = re.compile(r"127\.0\.0\.1:8000")


def examples() -> list[ParameterSet]:
    """Every Python block of every page, named by page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if NEEDS_SERVER.search(match.group(1)):
                continue
            line = text.count("\n", 0, match.start()) + 2
            found.append(pytest.param(page, line, match.group(1), id=f"{page.name}:{line}"))
    return found


@pytest.mark.parametrize(("page", "line", "source"), examples())
def test_example_runs(page: Path, line: int, source: str) -> None:
    code = compile("\n" * (line - 1) + source, str(page), "exec")
    exec(code, {"__name__": "example"})


def test_contributing_shows_all_three_extensions() -> None:
    pages = [str(parameter.values[0]) for parameter in examples()]
    assert sum(page.endswith("CONTRIBUTING.md") for page in pages) == 3
