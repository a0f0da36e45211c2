"""What a link did wrong, in words, for the rehearsal before anybody is served."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from defenses.chain import Chain
from defenses.contract import Answers, Queries
from defenses.rounding import Rounding
from tests.defenses.test_chain import CLASSES, Change, Custom, asked, row


def told(*links: Custom | Rounding, queries: Queries | None = None) -> list[str]:
    heard: list[str] = []
    Chain(links).run(queries or asked(), heard.append)
    return heard


def missing(_: Tensor) -> Tensor:
    raise KeyError("no such table")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows * 1.1, "custom: rows sum to 1.1"),
        (row(3, float("nan")), "custom: holds NaN"),
        (row(3, float("inf")), "custom: holds an infinity"),
        (row(0, torch.tensor([1.5, -0.5] + [0.0] * 8)), "custom: holds -0.5, must be 0 or more"),
        (lambda rows: rows[:, :3], "custom: returned float32 of shape (8, 3), not float32 of"),
        (lambda rows: rows.double(), "custom: returned float64 of shape (8, 10), not float32"),
        (missing, "custom: raised KeyError('no such table')"),
    ],
)
def test_the_link_and_the_rule_are_named(change: Change, sentence: str) -> None:
    heard = told(Custom(lambda rows: rows), Custom(change))
    assert heard[0].startswith(sentence)


def test_a_promise_that_is_not_kept_is_named() -> None:
    heard = told(Custom(lambda rows: rows.roll(1, dims=1), keeps_top1=True))
    assert heard == ["custom: moved the top-1 though it promises to keep it"]
    assert told(Custom(lambda rows: rows.roll(1, dims=1))) == []


def test_a_map_that_is_not_finite_is_named() -> None:
    class Blind(Custom):
        def apply(self, queries: Queries, answers: Answers) -> Answers:
            maps = torch.full((len(queries.victim), 2, 2), float("nan"))
            return replace(answers, attributions=maps)

    queries = asked()
    wanted = replace(queries, explain=torch.ones_like(queries.explain))
    assert told(Blind(lambda rows: rows), queries=wanted) == [
        "custom: its attribution map is not finite"
    ]


def test_what_the_victim_broke_is_not_the_links() -> None:
    queries = asked()
    lost = replace(queries, victim=torch.full((8, CLASSES), float("nan")))
    assert told(Custom(lambda rows: rows), queries=lost)[0] == "the victim: holds NaN"


def test_a_chain_that_keeps_everything_says_nothing() -> None:
    assert told(Custom(lambda rows: rows), Rounding(decimals=3)) == []
