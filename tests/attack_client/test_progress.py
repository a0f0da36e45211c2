"""What a person sees of a running theft."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from attack_client.oracle import Tally
from attack_client.progress import watch_queries, watch_theft

TALLY = Tally(budget=3000, had=2000, replayed=500, queries=1500, resent=64, seconds=2.0)


def test_a_terminal_shows_the_rate_while_it_runs() -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with watch_theft(console) as watch:
        watch(TALLY)
    shown = screen.getvalue()
    assert "750 queries/s" in shown
    assert "2,000 queries" in shown
    assert "left" in shown


def test_a_log_gets_one_line_that_says_what_was_paid() -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=False, width=160)
    with watch_theft(console, "stealing toy") as watch:
        watch(TALLY)
        watch(replace(TALLY, repaired=4096))
    with watch_queries(console, "honest queries") as advance:
        advance(1, 2)
    assert screen.getvalue().strip() == (
        "stealing toy: 1,500 queries in 2.0 s (750/s), 500 answers were on disk already, "
        "4,096 bytes of a torn last record were cut off, 64 samples were sent again"
    )


def test_what_was_paid_is_said_after_a_failure_too() -> None:
    screen = StringIO()
    console = Console(file=screen, width=160)

    def fail() -> None:
        with watch_theft(console) as watch:
            watch(TALLY)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert "1,500 queries" in screen.getvalue()


def test_no_time_is_no_rate() -> None:
    assert Tally(budget=1).queries_per_second == 0
