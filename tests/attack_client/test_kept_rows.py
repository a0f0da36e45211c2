"""One theft, several commands, one report: what is kept, replaced, and never mixed."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from attack_client.report import REPORT, Report, Row, Theft, read_json, with_earlier_rows
from attack_client.report.files import to_markdown, write_json
from attack_client.report.html import to_html
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import LinearModel, Stub
from tests.attack_client.test_cli import knockoff, plain_bundle, run, sentence
from tests.attack_client.test_report import a_row

THEFT = Theft(id=UUID(int=1), test="a", reference=None)


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
    assert found.rows == (now.rows[0], before.rows[1], now.rows[1])
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
        Theft(id=UUID(int=2), test="a", reference=None),
        Theft(id=UUID(int=1), test="b", reference=None),
        Theft(id=UUID(int=1), test="a", reference="c"),
    ],
)
def test_rows_of_another_theft_never_mix(tmp_path: Path, other: Theft | None) -> None:
    now = report(a_row())
    found, note = merged(now, report(a_row(labels="hard"), theft=other), tmp_path)
    assert found == now
    assert note is not None
    assert "held 1 rows of another theft, test set or reference" in note


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
        assert "held 5 rows of another theft, test set or reference" in " ".join(
            third.output.split()
        )
        assert len(read_json(out / REPORT).rows) == 1
        assert stub.samples == paid
        other = knockoff(url, npz_root, out, "--budget", "40", "--resume", "--seed", "1")
        assert "belongs to another theft" in sentence(run(other))
