"""Reports: the envelope, the summary, the page, the picture."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from pydantic import ValidationError
from rich.console import Console

from attack_client.errors import ReportError
from attack_client.report import (
    Labels,
    Report,
    Row,
    describe_command,
    describe_environment,
    draw_curves,
    read_json,
    render_table,
    summarise,
    to_markdown,
    write_curves,
    write_json,
    write_markdown,
)
from attack_client.report.html import to_html
from attack_client.report.summary import milliseconds
from attack_client.report.svg import WIDTH, lines

PROMISED = {
    *("dataset", "victim", "pool", "clone", "defense", "attack", "labels", "budget", "queries"),
    *("unique_queries", "seed", "victim_accuracy", "benign_accuracy", "benign_l1"),
    *("latency_p50_ms", "latency_p99_ms", "clone_accuracy", "relative_accuracy"),
    *("fidelity", "fidelity_served"),
}


def a_row(
    defense: str | None = "none",
    labels: Labels = "soft",
    budget: int = 1000,
    accuracy: float = 0.8,
    **changes: Any,
) -> Row:
    values: dict[str, Any] = {
        "dataset": "digits",
        "victim": f"digits-{defense}",
        "pool": "letters",
        "clone": "cnn-small",
        "defense": defense,
        "attack": "knockoff",
        "labels": labels,
        "budget": budget,
        "queries": budget,
        "unique_queries": budget,
        "sent": budget,
        "seed": 0,
        "victim_accuracy": 0.98,
        "benign_accuracy": 0.97,
        "benign_l1": 0.05,
        "latency_p50_ms": 1.25,
        "latency_p99_ms": 3.5,
        "evaluation_queries": 600,
        "clone_accuracy": accuracy,
        "relative_accuracy": accuracy / 0.98,
        "fidelity": accuracy - 0.01,
        "fidelity_served": accuracy - 0.02,
    }
    return Row(**(values | changes))


def many_rows() -> tuple[Row, ...]:
    kinds: tuple[Labels, ...] = ("soft", "hard")
    return tuple(
        a_row(defense, labels, budget, accuracy=0.2 + budget / 10_000 - 0.02 * place)
        for place, defense in enumerate(("none", "top-k", "am"))
        for budget in (500, 1500, 6000)
        for labels in kinds
    )


def a_report() -> Report:
    return Report(command=("intaglio", "attack"), environment={"torch": "2.15"}, rows=many_rows())


def test_the_file_is_the_envelope_that_people_script_against(tmp_path: Path) -> None:
    write_json(a_report(), tmp_path / "new" / "report.json")
    document = json.loads((tmp_path / "new" / "report.json").read_text())
    assert list(document) == ["schema", "command", "environment", "rows"]
    assert document["schema"] == 1
    assert document["command"] == ["intaglio", "attack"]
    assert PROMISED.issubset(document["rows"][0])
    assert read_json(tmp_path / "new" / "report.json") == a_report()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    "changes",
    [
        {"clone_accuracy": 1.5},
        {"clone_accuracy": float("nan")},
        {"labels": "firm"},
        {"budget": 0},
        {"surprise": 1},
    ],
)
def test_a_row_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        a_row(**changes)


def test_a_file_that_is_no_report_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="No such file"):
        read_json(tmp_path / "report.json")
    (tmp_path / "report.json").write_text('{"schema": 2}')
    with pytest.raises(ReportError, match="is not a leakage report: schema"):
        read_json(tmp_path / "report.json")


def test_the_summary_shows_the_largest_budget_of_each_victim() -> None:
    lines = summarise(many_rows())
    assert [line.name for line in lines] == ["none", "top-k", "am"]
    assert all(row.budget == 6000 for line in lines for row in line.soft)
    assert lines[0].cells() == (
        "none",
        "+1.0",
        "0.050",
        "1.25/3.5",
        "80.0",
        "80.0",
        "0.82",
        "79.0",
        "6,000",
    )


def test_the_summary_leaves_out_what_is_not_known() -> None:
    unknown: dict[str, Any] = dict.fromkeys(
        (
            "victim_accuracy",
            "benign_l1",
            "latency_p50_ms",
            "latency_p99_ms",
            "relative_accuracy",
            "fidelity",
        )
    )
    [line] = summarise([a_row(None, "hard", **unknown)])
    assert line.cells() == (
        "digits-None",
        "-",
        "-",
        "-",
        "-",
        "80.0",
        "-",
        "78.0",
        "1,000",
    )


def test_the_better_clone_gives_relative_accuracy_and_fidelity() -> None:
    [line] = summarise([a_row(accuracy=0.4), a_row(labels="hard", accuracy=0.7)])
    assert [row.labels for row in line.best] == ["hard"]
    assert line.cells()[7] == "69.0"


def test_the_summary_is_a_mean_over_seeds() -> None:
    [line] = summarise([a_row(accuracy=0.4), a_row(accuracy=0.6).model_copy(update={"seed": 1})])
    assert len(line.soft) == 2
    assert line.cells()[4] == "50.0"


def test_the_page_holds_every_row_and_how_it_was_made(tmp_path: Path) -> None:
    write_markdown(a_report(), tmp_path / "report.md", picture="curves.png")
    page = (tmp_path / "report.md").read_text()
    assert page == to_markdown(a_report(), picture="curves.png")
    assert "![Clone accuracy and fidelity against queries](curves.png)" in page
    assert "intaglio attack" in page
    assert "torch 2.15" in page
    rows = [line for line in page.splitlines() if re.match(r"\| (none|top-k|am) \|", line)]
    assert len(rows) == 3 + 2 * 18
    widths = {line.count("|") for line in page.splitlines() if line.startswith("| none")}
    assert widths == {10, 12, 13}
    assert "Not measured." in page, "no class was looked at"


MEASURED: dict[str, Any] = {
    "class_accuracy": (0.91, None, 0.625),
    "victim_class_accuracy": (0.99, None, 0.875),
    "clone_ece": 0.111,
    "victim_ece": 0.022,
    "served_ece": 0.333,
    "sent": 1234,
    "paid": 987,
    "published_queries": 4567,
    "theft_seconds": 71.5,
    "training_seconds": 7200.0,
    "cost": 5.25,
}


def cells(page: str, head: str) -> list[list[str]]:
    """Lines of the Markdown table that has a column ``head``, its headings included."""
    tables = [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]
        for part in page.split("\n\n")
        if part.startswith("|")
    ]
    [found] = [table for table in tables if head in table[0]]
    return [found[0], *found[2:]]


def test_both_pages_hold_everything_that_was_measured() -> None:
    rows = (a_row(**MEASURED), a_row(labels="hard", accuracy=0.7, **MEASURED))
    report = Report(command=("intaglio",), environment={}, rows=rows)
    page = to_markdown(report)
    heads, first, _ = cells(page, "ECE served")
    assert dict(zip(heads, first, strict=True)) == {
        **{"defense": "none", "attack": "knockoff", "labels": "soft", "budget": "1,000"},
        **{"seed": "0", "clone %": "80.00", "relative": "0.816", "fidelity %": "79.00"},
        **{"served %": "78.00", "ECE clone": "0.111", "ECE victim": "0.022"},
        "ECE served": "0.333",
    }
    heads, first, _ = cells(page, "published")
    assert dict(zip(heads, first, strict=True)) == {
        **{"defense": "none", "attack": "knockoff", "labels": "soft", "budget": "1,000"},
        **{"seed": "0", "queries": "1,000", "unique": "1,000", "sent": "1,234", "paid": "987"},
        **{"published": "4,567", "theft": "71.5 s", "training": "2.0 h", "price": "5.25"},
    }
    assert cells(page, "plain victim") == [
        ["class", "plain victim", "none, soft"],
        *(["0", "99.0", "91.0"], ["1", "-", "-"], ["2", "87.5", "62.5"]),
    ]
    html = to_html(report, title="digits")
    for head in ("ECE served", "paid", "published", "price"):
        assert f"<th>{head}</th>" in html
    for value in ("0.333", "987", "4,567", "1,234", "5.25"):
        assert f"<td>{value}</td>" in html


def test_a_student_who_asked_nobody_is_no_theft() -> None:
    scratch = a_row(attack="scratch", labels="hard", accuracy=0.95, queries=0, unique_queries=0)
    report = Report(command=("intaglio",), environment={}, rows=(scratch, a_row(accuracy=0.8)))
    html, page = to_html(report, title="digits"), to_markdown(report)
    assert "80.0 %" in html.split("best clone")[0]
    for text in (html, page):
        assert "stolen with scratch" not in text.replace("*", "")
        assert "600 honest queries" in text


def test_what_nobody_priced_or_published_has_no_column() -> None:
    [heads, *_] = cells(to_markdown(a_report()), "paid")
    assert not {"price", "published"} & set(heads)


def test_many_classes_are_left_to_programs() -> None:
    rows = (a_row(class_accuracy=(0.5,) * 41),)
    page = to_markdown(Report(command=("intaglio",), environment={}, rows=rows))
    assert "41 classes: see `class_accuracy` in `report.json`." in page


def test_the_table_fits_a_terminal() -> None:
    console = Console(width=80, record=True, file=StringIO())
    widest = a_row("reverse-sigmoid", budget=50_000, latency_p99_ms=120.0)
    console.print(render_table([*many_rows(), widest]))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    [last] = [line.split() for line in lines if "reverse-sigmoid" in line]
    assert last[1:] == ["+1.0", "0.050", "1.25/120", "80.0", "-", "0.82", "79.0", "50,000"]


def test_a_long_name_is_broken_and_no_figure_is() -> None:
    console = Console(width=80, record=True, file=StringIO())
    named = [a_row(), a_row(attack="knockoff+augmentation-averaging(n=5)+sharpen(temperature=0.5)")]
    slow = [row.model_copy(update={"latency_p99_ms": 12_000.0}) for row in named]
    console.print(render_table(slow, title="toy"))
    page = console.export_text()
    assert max(map(len, page.splitlines())) <= 80
    assert "…" not in page
    assert page.count("1.25/12,000") == 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0412, "0.0412"),
        (3.8449, "3.84"),
        (99.96, "100"),
        (120.4, "120"),
        (999.7, "1,000"),
        (1084.2, "1,080"),
        (61_234.0, "61,200"),
    ],
)
def test_milliseconds_are_read_without_powers_of_ten(value: float, shown: str) -> None:
    assert milliseconds(value) == shown
    row = a_row("reverse-sigmoid", latency_p50_ms=1.25, latency_p99_ms=value)
    report = Report(command=("intaglio",), environment={}, rows=(row,))
    console = Console(width=80, record=True, file=StringIO())
    console.print(render_table(report.rows))
    for text in (console.export_text(), to_markdown(report), to_html(report, title="digits")):
        assert f"1.25/{shown}" in text
        assert "e+0" not in text


def test_curves_are_comparable_and_every_defense_has_its_line(tmp_path: Path) -> None:
    figure = draw_curves(many_rows())
    axes = figure.get_axes()
    assert [axis.get_title() for axis in axes] == ["soft labels", "hard labels", "", ""]
    assert {axis.get_ylim() for axis in axes} == {(0.0, 100.0)}
    assert len({axis.get_xlim() for axis in axes}) == 1
    assert {axis.get_xscale() for axis in axes} == {"log"}
    for axis in axes:
        curves = [line for line in axis.get_lines() if line.get_linestyle() == "-"]
        assert len(curves) == 3
        assert len({(to_hex(line.get_color()), line.get_marker()) for line in curves}) == 3
        assert [list(line.get_xdata()) for line in curves] == [[500, 1500, 6000]] * 3  # type: ignore[arg-type]
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "none",
        "top-k",
        "am",
        "plain victim",
    ]
    write_curves(many_rows(), tmp_path / "curves.png")
    first = (tmp_path / "curves.png").read_bytes()
    write_curves(many_rows(), tmp_path / "curves.png")
    assert first.startswith(b"\x89PNG")
    assert (tmp_path / "curves.png").read_bytes() == first


def test_curves_of_an_unknown_victim_show_what_is_known() -> None:
    unknown: dict[str, Any] = dict.fromkeys(["victim_accuracy", "fidelity", "relative_accuracy"])
    figure = draw_curves([a_row(None, "hard", **unknown)])
    accuracy, fidelity = figure.get_axes()
    assert fidelity.get_ylabel() == "fidelity to what was served, %"
    assert list(fidelity.get_lines()[0].get_ydata()) == [pytest.approx(78.0)]  # type: ignore[arg-type]
    assert len(accuracy.get_lines()) == 1
    with pytest.raises(ReportError, match="no rows"):
        draw_curves([])


def test_secrets_and_places_stay_out_of_reports() -> None:
    command = ["/home/u/bin/intaglio", "attack", "--api-key", "s3cret", "--operator-key=t0p"]
    assert describe_command([*command, "--seed", "1"]) == (
        "intaglio",
        "attack",
        "--api-key",
        "***",
        "--operator-key=***",
        "--seed",
        "1",
    )
    assert describe_command(["/x/attack_client/__main__.py", "show"]) == (
        "python",
        "-m",
        "attack_client",
        "show",
    )
    environment = describe_environment()
    assert {"python", "torch", "cpus", "intaglio", "device"} <= set(environment)
    assert "/" not in json.dumps(environment)


@pytest.mark.parametrize("most", [40, 4_000, 50_000, 10_000_000])
def test_the_largest_budget_is_read_whole_at_the_edge_of_a_chart(most: int) -> None:
    chart = lines({"none": [(1, 10, 10, 10), (most, 90, 90, 90)]}, title="clone", across="queries")
    found = re.search(rf'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">{most:,}</text>', chart)
    assert found is not None
    assert float(found.group(1)) + len(f"{most:,}") * 6 / 2 <= WIDTH
