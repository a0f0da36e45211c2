"""InI's trade-off: settings are chosen by what they cost and by nothing else, figures add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ini_points import CURVES, FORMS, SCALE, Point, Seen
from benchmarks.ini_tradeoff import chosen
from benchmarks.ini_tradeoff_page import draw, rows_of, sentences, tables_of
from intaglio.objectives import trainable_of

NONE = Point("none", 0.0)
POINTS = [Point(curve, at) for curve, settings in CURVES.items() for at in settings]


def seen(cost: float = 0.0, clone: float = 0.8) -> Seen:
    return Seen(validation=0.98 - cost, benign=0.97 - cost, soft=clone, hard=clone - 0.1)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_every_point_is_a_recipe(point: Point) -> None:
    recipe = point.recipe(2, SCALE)
    trainable_of(recipe)
    assert (recipe.plan.seed, recipe.data.split_seed) == (2, 0)
    assert (recipe.data.ood == "kmnist_t10k") == (point != NONE)
    if point.curve == "ini-induction":
        assert recipe.objective.options["delta"] == 0.0
        assert recipe.objective.options["epsilon"] == 40.0 * point.setting
    assert point.curve in {*FORMS, "none", "am", "outlier-exposure"}


def test_the_dearest_setting_that_costs_little_is_chosen_whatever_it_leaves() -> None:
    first = {
        NONE: seen(),
        Point("ini", 0.3): seen(0.001, 0.1),
        Point("ini", 1.0): seen(0.004, 0.9),
        Point("ini", 3.0): seen(0.006, 0.0),
        Point("ini-ce_vc", 0.3): seen(0.1),
        Point("ini-ce_vc", 0.6): seen(0.2),
    }
    assert chosen("ini", first) == Point("ini", 1.0)
    assert chosen("ini-ce_vc", first) == Point("ini-ce_vc", 0.3)


def test_the_control_must_be_beaten_with_every_seed(tmp_path: Path) -> None:
    first = {point: seen() for point in POINTS}
    repeated = {
        point: [seen(clone=0.8)] * 3 for point in (Point(c, s[0]) for c, s in CURVES.items())
    }
    repeated[Point("ini", CURVES["ini"][0])] = [seen(clone=0.7)] * 3
    repeated[Point("ini-ce_vc", CURVES["ini-ce_vc"][0])] = [
        seen(clone=at) for at in (0.5, 0.9, 0.6)
    ]
    ini, paper, induction = sentences(repeated)
    assert "-10.0, -10.0, -10.0; less than its control with every seed." in ini
    assert "nothing is claimed" in paper
    assert "the paper's claim does not carry over here" in induction
    chosen_table, curves = tables_of(first, repeated)
    assert len(chosen_table["rows"]) == len(CURVES)
    assert len(curves["rows"]) == len(POINTS)
    assert chosen_table["rows"][1][-2:] == ["70.00 ± 0.00", "60.00 ± 0.00"]
    figures = list(rows_of(first, repeated))
    assert len(figures) == 4 * (len(POINTS) + 2 * len(CURVES))
    draw(first, repeated, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
