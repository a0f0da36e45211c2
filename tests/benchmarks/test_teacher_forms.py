"""Teachers' forms: each is a recipe that trains, each is judged against the shipped one's seeds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from benchmarks.teacher_forms import LESSONS, entropy
from benchmarks.teacher_forms_page import alphas_of, rows_of, sentences, table_of
from benchmarks.teacher_forms_picture import draw_alphas
from benchmarks.teacher_forms_pieces import AST, FORMS, NASTY, PLAIN, Found, Seen
from intaglio.objectives import trainable_of


def seen(benign: float = 0.86, student: float = 0.76) -> Seen:
    return Seen(benign=benign, entropy=0.1, student=student, lesson=LESSONS[1].name, scratch=0.7)


def found() -> dict[str, list[Seen | None]]:
    return {name: [seen()] * 3 for name in FORMS}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_a_recipe_of_its_own(name: str) -> None:
    form = FORMS[name]
    recipe = form.trained("own", 2)
    assert trainable_of(recipe).base == (recipe.objective.kind != "plain")
    assert recipe.objective.base == (None if recipe.objective.kind == "plain" else "plain/1")
    assert (recipe.plan.seed, recipe.architecture.name) == (2, "lenet")
    others = [
        (other.trained("own", 2), other.served) for key, other in FORMS.items() if key != name
    ]
    assert (recipe, form.served) not in others
    against = FORMS[form.against]
    assert against.changes == ()
    assert form.against == PLAIN or against.recipe == form.recipe


def test_a_change_matters_only_if_every_seed_shows_it() -> None:
    given: Found = found() | {
        "ast: alpha 0.6": [seen(benign=at) for at in (0.80, 0.81, 0.79)],
        "ast: KL for EPD": [seen(student=at) for at in (0.77, 0.75, 0.78)],
        "nasty: divergence as printed": [seen(), None, seen()],
        AST: [seen(student=at) for at in (0.75, 0.74, 0.73)],
    }
    first, *rest = sentences(given)
    assert first == "A plain teacher adds +6.0, +6.0, +6.0 points to 200 labels, by seed."
    said = {line.partition(", against")[0]: line for line in rest}
    assert said["ast: alpha 0.6"].endswith(
        "is less accurate with every seed (-6.0, -5.0, -7.0 points) and "
        "leaves a student more with every seed (+1.0, +2.0, +3.0 points)."
    )
    assert "leaves a student less with every seed (-1.0, -2.0, -3.0 points)" in said[AST]
    assert said[NASTY].endswith("no difference that holds with every seed.")
    assert said[NASTY].startswith(f"{NASTY}, against plain")
    lost = "nasty: divergence as printed: training did not survive with seed 1."
    assert lost in rest
    assert len(rest) == len(FORMS) - 1


def test_a_plain_teacher_who_adds_nothing_leaves_nothing_to_defend() -> None:
    given = found() | {PLAIN: [seen(student=0.7), seen(), seen()]}
    assert "nothing to defend" in sentences(given)[0]


def test_the_table_has_a_line_for_the_student_without_a_teacher() -> None:
    given = found() | {"ast: tau 2": [None, seen(), seen()]}
    lines = {line[0]: line[1:] for line in table_of(given)["rows"]}
    assert lines[PLAIN] == ["86.00 ± 0.00", "76.00 ± 0.00", "+0.0, +0.0, +0.0", "0.10 ± 0.00"]
    assert lines["the labels alone"] == ["-", "70.00 ± 0.00", "-6.0, -6.0, -6.0", "-"]
    assert lines["ast: tau 2"] == ["lost"] * 4
    assert len(rows_of(given)) == (len(FORMS) * 3 - 1) * 4


def test_the_curve_is_of_alpha_alone(tmp_path: Path) -> None:
    curve = alphas_of(found())
    assert list(curve) == [0.05, 0.15, 0.3, 0.6]
    pairs = {alpha: [(one.benign, one.student) for one in of] for alpha, of in curve.items()}
    draw_alphas(pairs, {"plain": [0.8]}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_entropy_is_base_ten() -> None:
    assert entropy(torch.full((3, 10), 0.1)) == pytest.approx(1.0)
    assert entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx(math.log10(2) / 2)
