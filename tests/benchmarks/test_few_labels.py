"""What is said of teachers follows from the figures, and every teacher is one that is trained."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.few_labels import LESSONS, PLAN, SEEDS, TEACHERS, rows_of, sentences, table_of
from intaglio.objectives import trainable_of
from intaglio.recipe import load_recipe

NAMES = [lesson.name for lesson in LESSONS]


def figures(taught: float) -> Mapping[str, float]:
    return {"teacher": 0.86, **dict.fromkeys(NAMES, taught), "scratch": 0.7}


def test_a_teacher_must_teach_less_with_every_seed() -> None:
    found = {
        "none": [figures(0.76)] * 3,
        "nasty": [figures(0.75), figures(0.74), figures(0.755)],
        "stt": [figures(0.75), figures(0.77), figures(0.7)],
        "ast": [figures(0.69), figures(0.65), figures(0.7)],
    }
    plain, nasty, against, stt, _, ast, _ = sentences(found)
    assert plain.endswith("so that here there is something to defend.")
    assert nasty == "`nasty` adds +5.0, +4.0, +5.5 points: less than a plain one with every seed."
    lessons = ", ".join(f"-1.2 with {name}" for name in NAMES[1:])
    assert against.endswith(f"by the same lesson, mean over seeds: {lessons}.")
    assert "**not less than a plain one with every seed**" in stt
    assert ast.endswith("less than a plain one with every seed: the student does better without.")


def test_a_plain_teacher_that_adds_nothing_is_said_to_be_so() -> None:
    assert "nothing is to be seen here" in sentences({"none": [figures(0.7)] * 3})[0]


def test_every_figure_is_in_the_result() -> None:
    found = {name: [figures(0.76)] * len(SEEDS) for name in TEACHERS}
    assert len(rows_of(found)) == len(TEACHERS) * len(SEEDS) * (1 + len(LESSONS))
    assert table_of(found)["rows"] == [
        [
            name,
            "86.00 ± 0.00",
            *("70.00 ± 0.00" if n == "scratch" else "76.00 ± 0.00" for n in NAMES),
        ]
        for name in TEACHERS
    ]


def test_every_teacher_is_a_recipe_of_one_network() -> None:
    for name, (recipe, changes) in TEACHERS.items():
        loaded = load_recipe(recipe, [*PLAN, *changes])
        assert trainable_of(loaded).roles == ("victim",)
        assert loaded.architecture.name == "lenet"
        assert trainable_of(loaded).base == (name != "none")
