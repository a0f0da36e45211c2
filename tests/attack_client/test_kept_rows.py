"""One theft, several commands, one report: what is kept, replaced, and never mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from attack_client.report import (
    REPORT,
    Report,
    Row,
    Theft,
    read_json,
    summarise,
    with_earlier_rows,
)
from attack_client.report.files import to_markdown, write_json
from attack_client.report.html import to_html
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import LinearModel, Stub
from tests.attack_client.test_cli import knockoff, plain_bundle, run, sentence
from tests.attack_client.test_report import a_row

THEFT = Theft(id=UUID(int=1), test="a", reference=None, learning="l")


def report(*rows: Row, theft: Theft | None = THEFT, command: str = "now") -> Report:
    return Report(command=(command,), environment={}, rows=rows, theft=theft)


def merged(now: Report, before: Report, place: Path) -> tuple[Report, str | None]:
    write_json(before, place / REPORT)
    return with_earlier_rows(now, place / REPORT)


def test_rows_that_are_measured_again_replace_the_old_ones_in_their_place(tmp_path: Path) -> None:
    before = report(a_row(accuracy=0.1), a_row(labels="hard"), command="first")
    renamed = a_row(accuracy=0.9).model_copy(update={"defense": "what it is called now"})
    now = report(renamed, a_row(attack="knockoff+sharpen"))
    found, note = merged(now, before, tmp_path)
    new = {"defense": "what it is called now"}
    kept, added = (row.model_copy(update=new) for row in (before.rows[1], now.rows[1]))
    assert found.rows == (now.rows[0], kept, added)
    assert found.commands == (("first",), ("now",))
    assert note == "1 rows of earlier commands with this theft are kept in the report"
    again, _ = merged(now, found, tmp_path)
    assert (again.rows, again.commands) == (found.rows, found.commands), "the same command again"
    for text in (to_markdown(found), to_html(found, title="t")):
        assert "first\nnow" in text


def test_what_is_all_measured_again_is_nothing_new(tmp_path: Path) -> None:
    now = report(a_row(accuracy=0.9))
    assert merged(now, report(a_row(accuracy=0.1)), tmp_path) == (now, None)
    assert with_earlier_rows(now, tmp_path / "none.json") == (now, None)
    assert "earlier_commands" not in (tmp_path / REPORT).read_text()


@pytest.mark.parametrize(
    "other",
    [
        None,
        THEFT.model_copy(update={"id": UUID(int=2)}),
        THEFT.model_copy(update={"test": "b"}),
        THEFT.model_copy(update={"reference": "c"}),
        THEFT.model_copy(update={"learning": "m"}),
        THEFT.model_copy(update={"learning": None}),
    ],
)
def test_rows_of_another_theft_never_mix(tmp_path: Path, other: Theft | None) -> None:
    now = report(a_row())
    found, note = merged(now, report(a_row(labels="hard"), theft=other), tmp_path)
    assert found == now
    assert note is not None
    assert "held 1 rows of another theft, test set, reference or way to train clones" in note


def test_two_reports_that_do_not_say_how_clones_were_trained_never_mix(tmp_path: Path) -> None:
    silent = THEFT.model_copy(update={"learning": None})
    now = report(a_row(), theft=silent)
    assert merged(now, report(a_row(labels="hard"), theft=silent), tmp_path)[0] == now


def test_rows_that_took_no_knowledge_stand_beside_those_that_did(tmp_path: Path) -> None:
    one, two = (THEFT.model_copy(update={"knowledge": told}) for told in ("one", "two"))
    recovered = report(a_row(attack="knockoff+recover"), theft=one)
    plain = report(a_row())
    for now, before in ((recovered, plain), (plain, recovered)):
        both, _ = merged(now, before, tmp_path)
        assert len(both.rows) == 2
        assert both.theft == one
        other = report(a_row(attack="knockoff+sharpen"), theft=two)
        assert merged(other, both, tmp_path)[0] == other


def test_kept_and_new_rows_make_one_line_with_all_that_is_known_of_the_victim(
    tmp_path: Path,
) -> None:
    unknown: dict[str, Any] = dict.fromkeys(
        ["benign_accuracy", "benign_l1", "latency_p50_ms", "latency_p99_ms", "fidelity_served"]
    )
    unmeasured = a_row(None, victim="v", evaluation_queries=0, **unknown)
    measured = a_row("am", "hard", victim="v", served_ece=0.25)
    for now, before in ((measured, unmeasured), (unmeasured, measured)):
        found, _ = merged(report(now), report(before), tmp_path)
        [line] = summarise(found.rows)
        assert line.cells()[:4] == ("am", "+1.0", "0.050", "1.25/3.5")
        filled, own = line.soft[0], line.hard[0]
        assert own == measured
        assert (filled.served_ece, filled.evaluation_queries) == (0.25, 600)
        assert filled.fidelity_served is None, "of a clone that nobody compared"


def test_a_latency_alone_is_filled_in_and_other_figures_stay(tmp_path: Path) -> None:
    busy = a_row(benign_accuracy=0.5, latency_p50_ms=None, latency_p99_ms=None)
    timed = a_row(labels="hard", evaluation_queries=700)
    found, _ = merged(report(timed), report(busy), tmp_path)
    row = found.rows[0]
    assert (row.benign_accuracy, row.latency_p50_ms, row.evaluation_queries) == (0.5, 1.25, 700)


def test_what_is_no_report_is_replaced_with_a_word(tmp_path: Path) -> None:
    (tmp_path / REPORT).write_text("{}")
    found, note = with_earlier_rows(report(a_row()), tmp_path / REPORT)
    assert found == report(a_row())
    assert note is not None
    assert "is not a leakage report" in note


def test_one_theft_serves_several_commands_and_one_report(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    stub = Stub(model)
    sharpen = ("--budget", "40", "--adapt", "sharpen:temperature=0.5", "--resume")
    with serve(stub) as url:
        first = knockoff(url, npz_root, out, "--budget", "20,40", "--labels", "soft,hard")
        assert run(first).exit_code == 0
        before = read_json(out / REPORT)
        paid = stub.samples
        second = run(knockoff(url, npz_root, out, *sharpen))
        assert second.exit_code == 0, second.output
        assert "4 rows of earlier commands with this theft are kept" in second.output
        both = read_json(out / REPORT)
        assert both.rows[:4] == before.rows
        assert [row.attack for row in both.rows[4:]] == ["knockoff+sharpen(temperature=0.5)"]
        assert both.theft == before.theft
        for name in ("report.md", "report.html"):
            page = (out / name).read_text()
            assert page.count("sharpen(temperature=0.5)") >= 2
            assert page.count("<td>hard</td>") + page.count("| hard |") >= 2
        assert second.output.count("toy:") == 3, "a title, and two lines"
        assert "…" not in second.output, "no figure is cut short"

        bundle = plain_bundle(tmp_path / "bundles", model)
        third = run(knockoff(url, npz_root, out, *sharpen, "--reference", str(bundle)))
        assert (
            "held 5 rows of another theft, test set, reference or way to train clones"
            in " ".join(third.output.split())
        )
        assert len(read_json(out / REPORT).rows) == 1
        assert stub.samples == paid
        longer = run(knockoff(url, npz_root, out, "--budget", "40", "--resume", "--epochs", "3"))
        assert "held 1 rows of another theft" in " ".join(longer.output.split())
        assert len(read_json(out / REPORT).rows) == 1
        other = knockoff(url, npz_root, out, "--budget", "40", "--resume", "--seed", "1")
        assert "belongs to another theft" in sentence(run(other))
