"""InI's forms: each is a recipe that trains, each is judged against the code's of the same seed."""

from __future__ import annotations

import pytest

from benchmarks.ini_forms import CODE, FORMS, SEEDS, Form, difference, rows_of, sentences, table_of
from benchmarks.ini_points import SCALE, Seen
from intaglio.objectives import trainable_of

CONTROLS = {"no defense", "outlier exposure"}


def seen(benign: float = 0.98, soft: float = 0.5, hard: float = 0.4) -> Seen:
    return Seen(validation=benign, benign=benign, soft=soft, hard=hard)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_a_recipe_of_its_own(name: str) -> None:
    recipe = Form(name).recipe(2, SCALE)
    trainable_of(recipe)
    assert recipe.plan.seed == 2
    assert recipe.architecture.name == "cnn5"  # batch norm is among what is varied
    assert (recipe.objective.kind == "ini") == (name not in CONTROLS)
    assert (recipe.data.ood == "kmnist_t10k") == (name != "no defense")
    others = [Form(other).recipe(2, SCALE) for other in FORMS if other != name]
    assert all((recipe.objective, recipe.plan) != (other.objective, other.plan) for other in others)
    assert len({Form(other).name for other in FORMS}) == len(FORMS)


def test_a_difference_is_named_only_if_every_seed_shows_it() -> None:
    found = {name: [seen()] * len(SEEDS) for name in FORMS}
    found["no isolation"] = [seen(soft=at) for at in (0.6, 0.7, 0.55)]
    found["no induction"] = [seen(soft=at) for at in (0.6, 0.4, 0.55)]
    found["induction: the text's, kl"] = [seen(benign=0.9, soft=0.3, hard=0.45)] * 3
    said = {line.rpartition(": ")[0]: line for line in sentences(found)}
    assert "no difference that holds with every seed" in said["no induction"]
    assert (
        "leaves a thief more with every seed (+10.0, +20.0, +5.0 points)." in said["no isolation"]
    )
    assert said["induction: the text's, kl"].endswith(
        "costs honest callers more with every seed (+8.0, +8.0, +8.0 points) and "
        "leaves a thief less with every seed (-5.0, -5.0, -5.0 points)."
    )
    assert CODE not in said
    assert difference(found["no isolation"], found[CODE], "soft") == pytest.approx([10, 20, 5])
    lines = {row[0]: row for row in table_of(found)["rows"]}
    assert lines[CODE][-1] == "-"
    assert lines["no isolation"][2] == "61.67 ± 7.64"
    assert len(list(rows_of(found))) == len(FORMS) * len(SEEDS) * 4
