"""Committed results say what was run in words that mean something on another machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_result_names_its_command_and_machine_and_no_place_on_it(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["schema"] == 1
    assert document["rows"] or document["victim"]
    assert {"torch", "cpus", "device"} <= document["environment"].keys()
    commands = document["command"]
    for command in commands if isinstance(commands[0], list) else [commands]:
        assert [word for word in command if word.startswith(("/", "~"))] == []
