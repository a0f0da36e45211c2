"""Add-ons together: names, order, and nonsense that is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attack_client.adaptive.adaptations import Adaptations
from attack_client.adaptive.contract import PLAIN, Knowledge, Seam
from attack_client.adaptive.known import KnownDefense
from attack_client.attacks.knockoff import Knockoff
from attack_client.errors import AdaptationError

IMAGES = np.zeros((6, 1, 2, 2), dtype=np.uint8)


def test_none_at_all_changes_nothing() -> None:
    none, attack = Adaptations.of([]), Knockoff()
    assert not none
    assert none.adapt(attack) is attack
    assert none.title("knockoff") == "knockoff"
    assert none.per_image == 1
    answers = np.full((6, 2), 0.5, dtype=np.float32)
    harvest = none.harvest(IMAGES, answers, Knowledge(classes=2))
    assert harvest.images is IMAGES
    assert harvest.answers is answers
    assert none.tuition(Knowledge(classes=2)) is PLAIN


def test_they_work_in_the_order_given() -> None:
    answers = np.array(
        [[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.1, 0.9]], dtype=np.float32
    )
    both = Adaptations.of(["repeat-averaging:n=2", "filter-confidence:least=0.75", "sharpen"])
    assert both.seams == {Seam.ASKING, Seam.ANSWERS}
    harvest = both.harvest(IMAGES, answers, Knowledge(classes=2))
    assert harvest.positions.tolist() == [0, 2]
    np.testing.assert_allclose(harvest.answers[0], [0.64 / 0.68, 0.04 / 0.68], rtol=1e-5)
    other = Adaptations.of(["repeat-averaging:n=2", "sharpen", "filter-confidence:least=0.65"])
    assert other.harvest(IMAGES, answers, Knowledge(classes=2)).positions.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("adapt", "sentence"),
    [
        (["sharpen", "sharpen"], "sharpen is given twice"),
        (["recover", "partial-bayes"], "recover and partial-bayes are two ways to do one thing"),
        (["repeat-averaging", "augmentation-averaging"], "two ways to do one thing"),
        (["sharpen", "repeat-averaging"], "repeat-averaging works before sharpen does"),
        (["semi-supervised", "sharpen"], "sharpen works before semi-supervised does"),
        (["sparse-repair", "no-such"], "there is no add-on 'no-such'"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(adapt: list[str], sentence: str) -> None:
    with pytest.raises(AdaptationError, match=sentence):
        Adaptations.of(adapt)


@pytest.mark.parametrize(
    ("adapt", "given", "sentence"),
    [
        ("sharpen", {"labels": ["soft", "hard"]}, "changes nothing about hard labels"),
        ("sparse-repair", {"labels": ["hard"]}, "changes nothing about hard labels"),
        ("recover", {}, "--known-defense, or a service with --shadow-url"),
        ("partial-bayes", {}, "with --known-defense$"),
        ("partial-bayes", {"shadow": True}, "partial-bayes must know"),
        ("sharpen", {"known": True}, "no add-on makes use of it"),
        ("dirichlet-recover", {"known": True, "shadow": True}, "--shadow-url is given, but no"),
        ("semi-supervised", {"budgets": [5, 50]}, "leaves none of the pool's 50"),
        ("repeat-averaging:n=9", {"budgets": [8, 40]}, "costs 9 queries .* budget of 8"),
    ],
)
def test_what_is_lacking_is_named_before_a_query(
    adapt: str, given: dict[str, object], sentence: str
) -> None:
    asked = {"labels": ["soft"], "budgets": [40], "pool": 50, **given}
    with pytest.raises(AdaptationError, match=sentence):
        Adaptations.of([adapt]).check(**asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("adapt", "given"),
    [
        (["recover"], {"known": True}),
        (["recover"], {"shadow": True}),
        (["partial-bayes"], {"known": True}),
        (["filter-confidence"], {}),
        (["repeat-averaging:n=2", "semi-supervised"], {"labels": ["hard"], "budgets": [80]}),
    ],
)
def test_what_is_there_is_enough(adapt: list[str], given: dict[str, object]) -> None:
    asked = {"labels": ["soft"], "budgets": [40], "pool": 50, **given}
    Adaptations.of(adapt).check(**asked)  # type: ignore[arg-type]


def test_a_known_defense_is_a_factory_that_the_attacker_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "def mix(*, classes, share=0.5):\n"
        "    return lambda said: (1 - share) * said + share / classes\n"
        "def wide(*, classes):\n"
        "    return lambda said: np.ones((len(said), classes + 1))\n"
        "def failing(*, classes):\n"
        "    return lambda said: 1 / 0\n"
        "def nothing(*, classes):\n"
        "    return None\n"
    )
    said = np.array([[1.0, 0.0]], dtype=np.float32)
    served = KnownDefense(f"{file}:mix", {"share": 0.2}).load(2)(said)
    np.testing.assert_allclose(served, [[0.9, 0.1]], rtol=1e-6)
    assert served.dtype == np.float32
    for name, sentence in (
        ("wide", r"of shape \(2, 2\), not \(2, 3\)"),
        ("failing", "division by zero"),
        ("nothing", "did not return a function"),
        ("absent", "no callable 'absent'"),
    ):
        with pytest.raises(AdaptationError, match=sentence):
            KnownDefense(f"{file}:{name}").load(2)
    with pytest.raises(AdaptationError, match="unexpected keyword"):
        KnownDefense(f"{file}:mix", {"shares": 1}).load(2)
    with pytest.raises(AdaptationError, match="cannot be imported"):
        KnownDefense("no.such.module:mix").load(2)
