"""Tables on narrow terminals, in pipes and in logs."""

from __future__ import annotations

import io

import pytest
from rich import box
from rich.console import Console
from rich.table import Column, Table

from models.console import UNBOUNDED, open_console, print_table


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "LINES", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_has_no_edge_unless_somebody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert open_console().width == UNBOUNDED
    monkeypatch.setenv("COLUMNS", "50")
    assert open_console().width == 50
    monkeypatch.delenv("COLUMNS")
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "dumb")):  # as in many a CI
        monkeypatch.setenv(name, value)
        assert open_console().width == UNBOUNDED


def test_a_terminal_is_as_wide_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    assert open_console().width < UNBOUNDED


def printed(table: Table, width: int) -> list[str]:
    screen = io.StringIO()
    # As `intaglio leakage` has it: its sentences are wrapped by the terminal, its tables are not.
    print_table(Console(file=screen, width=width, soft_wrap=True), table)
    return screen.getvalue().splitlines()


def figures() -> Table:
    table = Table(
        Column("name", overflow="fold"),
        *(Column(f"figure {number}", justify="right") for number in range(8)),
        box=box.SIMPLE_HEAD,
    )
    table.add_row("a-name-without-a-single-blank", *(f"0.00{number}12345" for number in range(8)))
    return table


@pytest.mark.parametrize("width", [20, 60, 80, 100, 140, UNBOUNDED])
def test_no_figure_and_no_heading_is_cut(width: int) -> None:
    lines = printed(figures(), width)
    for number in range(8):
        assert any(f" 0.00{number}12345" in line for line in lines)
    assert "…" not in "".join(lines)
    assert sum(line.count("figure") for line in lines) == 8
    name = "".join(line[:31].split(" 0.")[0].strip() for line in lines if "figure" not in line)
    assert name.endswith("a-name-without-a-single-blank")


def test_names_give_way_before_figures_do() -> None:
    lines = printed(figures(), 130)
    assert max(map(len, lines)) <= 130
    assert not any("a-name-without-a-single-blank" in line for line in lines)


def test_what_fits_is_printed_as_ever() -> None:
    screen = io.StringIO()
    Console(file=screen, width=200).print(figures())
    assert printed(figures(), 200) == screen.getvalue().splitlines()


def test_a_fixed_width_is_kept_and_its_heading_wraps() -> None:
    table = Table(Column("benign cost", width=6), Column("clone soft %", width=6), padding=0)
    table.add_row("+12.34", "98.765")
    for width in (8, 200):
        lines = printed(table, width)
        assert any("+12.34" in line and "98.765" in line for line in lines)
        assert not any("benign cost" in line for line in lines)
