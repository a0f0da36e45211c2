"""The evidence for defended training: every command is one that can run, every figure adds up."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from attack_client.cli import attack
from attack_client.report import Row
from benchmarks.defended_page import Finding, result, spread, worth_by_teacher
from benchmarks.defended_picture import draw_trade_off
from benchmarks.defended_pieces import FORMS, SCALES, WEIGHTS, Piece, available, ini_at
from benchmarks.defended_teachers_picture import draw_teachers
from defenses.registry import kinds
from intaglio.objectives import OBJECTIVES
from intaglio.recipe import load_recipe

ALL = (*available(), *(ini_at(name, weight) for name in FORMS for weight in WEIGHTS))


def row(piece: Piece, *, seed: int, accuracy: float, attack: str, labels: str = "soft") -> Row:
    given: dict[str, Any] = {
        "dataset": "mnist", "victim": piece.name, "pool": "fashion_mnist", "clone": "lenet",
        "defense": piece.defense, "attack": attack, "labels": labels, "budget": 100,
        "queries": 100, "unique_queries": 100, "sent": 100, "seed": seed, "victim_accuracy": 0.9,
        "benign_accuracy": 0.8, "benign_l1": None, "latency_p50_ms": None, "latency_p99_ms": None,
        "evaluation_queries": 10, "clone_accuracy": accuracy, "relative_accuracy": None,
        "fidelity": None, "fidelity_served": None,
    }  # fmt: skip
    return Row(**given)


@pytest.mark.parametrize("piece", ALL, ids=lambda piece: piece.name)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_what_is_trained_is_a_recipe_and_what_is_served_a_defense(
    piece: Piece, scale: Any, tmp_path: Path
) -> None:
    command = piece.train(tmp_path, scale, 2)
    overrides = [part for before, part in pairwise(command) if before == "--set"]
    recipe = load_recipe(command[1], overrides)
    OBJECTIVES[recipe.objective.kind].check(recipe.objective.options)
    assert f"{recipe.name}/{recipe.version}" == piece.bundle
    assert recipe.plan.seed == 2
    assert recipe.data.split_seed == 0, "seeds must not move the images that choose"
    assert recipe.data.ood in {None, "kmnist_t10k"}
    assert {link["kind"] for link in piece.chain} <= kinds().keys()


@pytest.mark.parametrize("piece", ALL, ids=lambda piece: piece.name)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_every_attack_is_a_command_that_parses(piece: Piece, scale: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.npz"
    command = piece.attack(tmp_path / "models", tmp_path / "out", scale, 0, own)
    assert (f"npz:{own}" in command) == (piece.family == "fashion")
    result = CliRunner().invoke(
        attack, [*command[1:], "--url", "http://127.0.0.1:1", "--data-root", str(tmp_path)],
        env={"INTAGLIO_DATA_ROOT": None},
    )  # fmt: skip
    # Every option is known; what is missing is the reference, the first thing that is opened.
    assert result.exit_code == 2
    assert "lenet/1" in result.output.replace("\n", "")
    assert "Usage:" not in result.output


def test_a_spread_is_over_seeds_and_unknown_is_a_dash() -> None:
    assert spread([0.5, 0.7]) == "60.00 ± 14.14"
    assert spread([0.5]) == "50.00"
    assert spread([0.5, None]) == "-"
    assert spread([]) == "-"


def test_the_tables_hold_means_over_seeds_the_curve_and_the_worth_of_a_distillation(
    tmp_path: Path,
) -> None:
    plain = next(piece for piece in ALL if piece.name == "mnist-none")
    nasty = next(piece for piece in ALL if piece.defense == "nasty")
    findings = [
        Finding(
            piece=plain,
            seed=seed,
            rows=(
                row(plain, seed=seed, accuracy=0.6 + 0.1 * seed, attack="knockoff"),
                row(plain, seed=seed, accuracy=0.4, attack="knockoff", labels="hard"),
            ),
            validation=0.95,
            verdict=None,
        )
        for seed in (0, 1)
    ]
    students = [{"accuracy": 0.80}, {"accuracy": 0.60}, {"accuracy": 0.85}]
    taught = Finding(
        piece=nasty,
        seed=0,
        rows=(row(nasty, seed=0, accuracy=0.8, attack="scratch", labels="hard"),),
        validation=0.9,
        verdict={"students": students, "taught": students[2], "value": 0.85},
    )
    ini = ini_at("ini", 0.3)
    point = Finding(
        piece=ini,
        seed=0,
        rows=(row(ini, seed=0, accuracy=0.3, attack="knockoff"),),
        validation=0.93,
        verdict=None,
    )
    scale = SCALES["small"]
    document = result(
        "mnist", findings, [point], commands=[["x"]], weights={"ini": 0.3}, scale=scale
    )
    stolen, curve = document["tables"][:2]
    assert stolen["rows"] == [
        ["none", "2", "80.00 ± 0.00", "10.00 ± 0.00", "65.00 ± 7.07", "40.00 ± 0.00"]
    ]
    assert curve["rows"] == [["ini-x0.3", "2.00", "10.00", "30.00", "-"]]
    assert len(document["rows"]) == 4
    other = result("fashion", [taught], [], commands=[["x"]], weights={}, scale=scale)
    distilled, _ = other["tables"]
    assert distilled["rows"] == [["nasty", "1", "80.00", "80.00", "85.00", "60.00", "85.00"]]
    assert len(other["rows"]) == 1
    drawn = worth_by_teacher([taught])
    assert drawn == {
        "nasty": {
            "teacher": [0.8],
            "student of the labels alone": [0.8],
            "student of the teacher": [0.85],
        }
    }
    draw_teachers(drawn, tmp_path / "new" / "teachers.png")
    assert (tmp_path / "new" / "teachers.png").stat().st_size > 5_000
    tables = (*document["tables"], *other["tables"])
    assert all(len(r) == len(t["header"]) for t in tables for r in t["rows"])


def test_the_trade_off_is_drawn(tmp_path: Path) -> None:
    rows = [row(ALL[0], seed=0, accuracy=0.9, attack="knockoff")]
    curve = [
        row(ini_at("ini", weight), seed=0, accuracy=0.5, attack="knockoff") for weight in WEIGHTS
    ]
    draw_trade_off(rows, curve, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
