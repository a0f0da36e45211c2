"""``intaglio audit``."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from intaglio.audit_summary import Curve
from intaglio.cli import main

CURVES = Path(__file__).parents[2] / "benchmarks" / "results" / "demo.json"


def query(key: str, **given: Any) -> dict[str, Any]:
    return {
        "event": "query", "time": datetime.now(UTC).isoformat(), "request": "r", "key": key,
        "model": "digits", "version": "1", "samples": 2, "explain": False, "status": 200,
        "decision": "answered", "charged": 2, "replayed": False, "images": ["0a", "0b"],
        "confidence": [0.9, 0.3], **given,
    }  # fmt: skip


def watched(key: str, w: float, *, natural: bool) -> dict[str, Any]:
    return {
        "event": "test", "time": datetime.now(UTC).isoformat(), "key": key, "model": "digits",
        "version": "1", "w": w, "distances": 200, "natural": natural,
    }  # fmt: skip


def write(directory: Path, *records: dict[str, Any], tail: str = "") -> None:
    text = "".join(json.dumps(record) + "\n" for record in records)
    (directory / "audit-1.jsonl").write_text(text + tail)


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["audit", *arguments])
    assert result.exit_code == status, result.output
    return result


def test_callers_are_summed_up(tmp_path: Path) -> None:
    refused = {"status": 429, "decision": "over-limit", "charged": 0}
    write(
        tmp_path,
        query("key-a"),
        query("key-a", images=["0b", "0c"], confidence=[None, 0.99]),
        query("key-a", **refused),
        query("key-b", charged=0, replayed=True, confidence=[None, None]),
        watched("key-a", 0.95, natural=True),
        watched("key-a", 0.81, natural=False),
        tail='{"event": "query", "key": "key-a", "sam',
    )
    first, second = json.loads(run(str(tmp_path), "--json").stdout)
    assert (first["key"], first["samples"], first["distinct_images"]) == ("key-a", 4, 3)
    assert (first["charged"], first["refused"]) == (4, {"over-limit": 1})
    assert (first["judged_samples"], first["out_of_distribution_share"]) == (
        3,
        pytest.approx(1 / 3),
    )
    assert (first["prada_lowest_w"], first["prada_failed"], first["prada_tests"]) == (0.81, 1, 2)
    assert second["out_of_distribution_share"] is None
    assert second["prada_lowest_w"] is None
    assert second["charged"] == 0
    table = run(str(tmp_path)).stdout
    assert "key-a" in table
    assert "33.3%" in table


def test_a_line_that_is_no_record_is_named_and_skipped(tmp_path: Path) -> None:
    wrong = [
        query("key-b", time="noon"),
        query("key-b", time="2026-01-01T00:00:00"),  # of which zone?
        query("key-b", charged=None),
        query("key-b", images=["not hexadecimal"]),
        {**watched("key-b", 0.9, natural=True), "w": None},
        query("key-b", event="dream"),
    ]
    write(tmp_path, query("key-a"), *wrong, tail='["half a li')
    said = run(str(tmp_path), "--json")
    assert [found["key"] for found in json.loads(said.stdout)] == ["key-a"]
    lines = said.stderr.splitlines()
    file = tmp_path / "audit-1.jsonl"
    assert lines[0].startswith(f"Skipped {file}, line 2: query.time: input should be a valid date")
    assert "query.charged" in lines[2]
    assert "not hexadecimal" not in said.stderr
    assert lines[5:] == ["Skipped 2 more lines."]


def test_what_a_victim_that_overflows_was_asked_is_counted(tmp_path: Path) -> None:
    write(tmp_path, query("key-a", confidence=[float("nan")]))
    assert "NaN" in (tmp_path / "audit-1.jsonl").read_text()
    said = run(str(tmp_path), "--json")
    (found,) = json.loads(said.stdout)
    assert (found["key"], found["out_of_distribution_share"]) == ("key-a", None)
    assert said.stderr == ""


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "audit-1.jsonl").mkdir()
    said = run(str(tmp_path), status=2).stderr
    assert said == f"Error: {tmp_path / 'audit-1.jsonl'}: Is a directory\n"


def test_only_what_is_new(tmp_path: Path) -> None:
    old = (datetime.now(UTC) - timedelta(hours=5)).isoformat()
    write(tmp_path, query("key-a", time=old), query("key-b"))
    (only,) = json.loads(run(str(tmp_path), "--json", "--hours", "2").stdout)
    assert only["key"] == "key-b"


def test_leakage_is_read_off_a_published_curve(tmp_path: Path) -> None:
    names = [f"{number:x}" for number in range(300)]
    write(tmp_path, query("key-a", images=names, samples=300))
    options = (str(tmp_path), "--json", "--curves", str(CURVES), "--defense", "none")
    (summary,) = json.loads(run(*options).stdout)
    assert "%" in summary["estimated_fidelity"]
    assert "clone" in run(*options[:1], *options[2:]).stdout
    assert "has no 'nonsense', but " in run(*options[:-1], "nonsense", status=2).stderr
    rows = json.loads(CURVES.read_text())
    for row in rows["rows"]:
        row["defense"], row["fidelity"] = None, None
    unnamed = tmp_path / "unnamed.json"
    unnamed.write_text(json.dumps(rows))
    said = run(*options[:3], str(unnamed), *options[4:], status=2).stderr
    assert "has no 'none', but none that was named: attack with --defense NAME" in said
    for row in rows["rows"]:
        row["defense"] = "none"
    unnamed.write_text(json.dumps(rows))
    said = run(*options[:3], str(unnamed), *options[4:], status=2).stderr
    assert "has no fidelity of 'none': attack with --reference" in said
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    assert "is not a leakage report" in run(*options[:3], str(broken), status=2).stderr


def test_a_curve_between_and_beyond_its_budgets() -> None:
    rows: list[dict[str, Any]] = [
        {"budget": 1000, "fidelity": 0.6},
        {"budget": 100, "fidelity": 0.4},
        {"budget": 100, "fidelity": 0.3},
        {"budget": 10_000, "fidelity": 0.5},
        {"budget": 10_000, "fidelity": None},
    ]
    curve = Curve.of(rows)
    assert curve.fidelities == (0.4, 0.6, 0.6)
    found = [curve.at(samples) for samples in (0, 50, 100, 316, 1000, 2000, 20_000)]
    assert found == ["nothing", "< 40.0%", "40.0%", "50.0%", "60.0%", "60.0%", "> 60.0%"]
    with pytest.raises(ValueError, match="no row"):
        Curve.of([{"budget": 1, "fidelity": None}])


def test_nothing_is_said_to_be_nothing(tmp_path: Path) -> None:
    assert "There is no record" in run(str(tmp_path)).stdout


def test_a_log_shows_every_figure_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    model = "a-model-with-a-long-name/that-nothing-is-served-under"
    write(tmp_path, query("key-0123456789ab", model=model, samples=1_234_567))
    wide = run(str(tmp_path)).stdout
    assert "…" not in wide
    assert "1,234,567" in wide
    assert model in wide
    monkeypatch.setenv("COLUMNS", "40")
    narrow = run(str(tmp_path)).stdout
    assert "1,234,567" in narrow
    assert "key-0123456789ab" in narrow
    assert "…" not in narrow


def test_a_name_that_a_caller_made_up_is_no_markup(tmp_path: Path) -> None:
    write(tmp_path, query("key-a", model="[/red]\x1b[2J"))
    shown = run(str(tmp_path)).stdout
    assert "[/red]" in shown
    assert "\x1b" not in shown


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that name a store with one key, called alice."""
    for name in [name for name in os.environ if name.startswith("INTAGLIO_")]:
        monkeypatch.delenv(name)
    settings = ["--set", "callers.store=file", "--set", f"callers.file={tmp_path / 'keys.json'}"]
    made = CliRunner().invoke(main, ["keys", *settings, "create", "--name", "alice", "--json"])
    write(tmp_path, query(f"key-{json.loads(made.stdout)['id']}"), query("key-unheard"))
    return settings


def test_callers_have_names_where_their_keys_are_at_hand(
    tmp_path: Path, store: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {found["name"] for found in json.loads(run(str(tmp_path), *store, "--json").stdout)}
    assert named == {"alice", None}
    table = run(str(tmp_path), *store).stdout
    assert "alice" in table
    assert "name" in table
    assert "name" not in run(str(tmp_path)).stdout
    config = tmp_path / "server.yaml"
    config.write_text(f"callers: {{store: file, file: {tmp_path / 'keys.json'}}}\n")
    assert "alice" in run(str(tmp_path), "--config", str(config)).stdout
    monkeypatch.setenv("INTAGLIO_CALLERS__STORE", "file")
    monkeypatch.setenv("INTAGLIO_CALLERS__FILE", str(tmp_path / "keys.json"))
    assert "alice" in run(str(tmp_path)).stdout


def test_names_that_cannot_be_had_cost_no_figure(
    tmp_path: Path, store: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys.json").write_text("not keys")
    said = run(str(tmp_path), *store)
    assert said.stderr.startswith("The names of callers are not known: ")
    assert "key-unheard" in said.stdout
    assert "name" not in said.stdout
    there = "callers.shop: there is no such setting"
    assert there in run(str(tmp_path), "--set", "callers.shop=file", status=2).stderr
    monkeypatch.setenv("INTAGLIO_CALLERS__SHOP", "file")
    assert there in run(str(tmp_path)).stderr
