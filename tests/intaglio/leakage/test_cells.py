"""Digests: equal where the result is, different where anything decides it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intaglio.leakage.cells import Cell, cells_of, digest, theft_digest
from intaglio.leakage.kept import Kept, Result
from intaglio.leakage.matrix import Matrix
from tests.intaglio.leakage.conftest import matrix_of, row
from tests.models.builders import edit_card, tiny_bundle

CELL = Cell(0, "none", 40, "knockoff", "soft")


def served(**changes: Any) -> Matrix:
    values: dict[str, Any] = {
        "victims": {"plain": {"recipe": "digits-plain"}},
        "reference": "plain",
        "defenses": {"none": {"victim": "plain", "chain": [{"kind": "top-k", "k": 3}]}},
    }
    return matrix_of("", **(values | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"defenses": {"none": {"victim": "plain", "chain": [{"kind": "top-k", "k": 2}]}}},
        {"victims": {"plain": {"recipe": "digits-plain", "set": ["plan.epochs=3"]}}},
        {"victims": {"plain": {"recipe": "digits-ini"}}},
        {"clone": {"architecture": "cnn-small", "epochs": 2}},
        {"pool": "task"},
        {"test": "noise"},
        {"attacks": {"knockoff": {"augment": "shift"}}},
        {"attacks": {"knockoff": {"options": {"seed": 9}}}},
        {"attacks": {"knockoff": {"adapt": ["sharpen"]}}},
    ],
)
def test_what_decides_a_result_decides_its_digest(changes: dict[str, Any]) -> None:
    assert digest(served(**changes), CELL) != digest(served(), CELL)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"description": "words"},
        {"latency_requests": 9},
        {"budgets": [40, 80]},
        {"gate": {"fail_above": 0.5}},
        {"price_per_thousand": 2.0},
    ],
)
def test_what_does_not_decide_it_leaves_it_alone(changes: dict[str, Any]) -> None:
    assert digest(served(**changes), CELL) == digest(served(), CELL)


def test_all_of_a_bundle_that_decides_answers_decides_its_digest(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)

    def found() -> str:
        return digest(served(victims={"plain": {"bundle": str(bundle)}}), CELL)

    before = found()
    edit_card(bundle, lambda card: card.update(description="words"))
    edit_card(bundle, lambda card: card["networks"]["victim"].pop("measured"))
    assert found() == before
    edit_card(bundle, lambda card: card["networks"]["victim"]["normalisation"].update(mean=[0.4]))
    assert found() != before


def test_a_running_server_is_what_its_release_is_called() -> None:
    def found(**more: str) -> str:
        entry = {"url": "http://a", "model": "m", **more}
        return digest(matrix_of("", defenses={"none": entry}), CELL)

    assert found() == found()
    assert len({found(), found(release="1"), found(release="2")}) == 3


def test_soft_and_hard_and_every_budget_come_from_one_theft() -> None:
    matrix = served(attacks={"knockoff": {}, "sharp": {"attack": "knockoff", "adapt": ["sharpen"]}})
    assert len({theft_digest(matrix, cell) for cell in cells_of(matrix)}) == 1
    assert len({digest(matrix, cell) for cell in cells_of(matrix)}) == 8


def test_seeds_are_different_victims() -> None:
    matrix = served(seeds=[0, 1])
    assert len({theft_digest(matrix, cell) for cell in cells_of(matrix)}) == 2


def test_a_slow_defense_is_asked_less() -> None:
    matrix = matrix_of("", defenses={"slow": {"url": "http://a", "model": "m", "budget_limit": 30}})
    assert [(cell.budget, cell.labels) for cell in cells_of(matrix)] == [
        (20, "soft"),
        (20, "hard"),
        (30, "soft"),
        (30, "hard"),
    ]


def test_a_strangers_words_hold_no_control_characters(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keep_reason(CELL, "0" * 12, "answered 500:\x1b[2J\x00 no\nreally")
    assert kept.reason(CELL, "0" * 12) == "answered 500:\ufffd[2J\ufffd no\nreally"


def test_a_result_is_whole_or_not_there(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    key = digest(served(), CELL)
    assert kept.result(CELL, key) is None
    kept.keep_reason(CELL, key, "no route to host")
    assert kept.reason(CELL, key) == "no route to host"
    result = Result(cell=str(CELL), rows=(row("none", 0.5),), seconds=1.0)
    kept.keep(CELL, key, result)
    assert kept.result(CELL, key) == result
    assert kept.reason(CELL, key) is None
    (file,) = (tmp_path / "cells" / "none").iterdir()
    whole = file.read_bytes()
    for cut in range(0, len(whole), 97):
        file.write_bytes(whole[:cut])
        assert kept.result(CELL, key) is None
