"""What is refused before the first query."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attack_client.clone import CloneRecipe
from attack_client.errors import AttackError
from attack_client.preflight import (
    check_clone,
    check_holdout,
    check_schedule,
    choose_split_seed,
)
from attack_client.reference import split_seed_of
from models.card import Card, InputSpec, NetworkCard, Normalisation, TrainingCard
from models.errors import ArchitectureError
from models.training.plan import Step


def card(recipe: dict[str, Any] | None, *, role: str = "victim") -> Card:
    """Of a network trained on ``digits`` by ``recipe``; None is from elsewhere."""
    training = None
    if recipe is not None:
        training = TrainingCard(
            objective="plain", data="digits", seed=0, epochs=1, selection="last", recipe=recipe
        )
    network = NetworkCard(
        architecture="lenet",
        outputs=2,
        normalisation=Normalisation(mean=(0.5,), std=(0.5,)),
        file=f"{role}.safetensors",
        sha256="0" * 64,
        parameters=1,
        training=training,
    )
    spec = InputSpec(channels=1, height=8, width=8)
    return Card(name="a", version="1", input=spec, labels=("0", "1"), networks={role: network})


SPLIT_BY_3 = card({"data": {"train": "digits", "split_seed": 3}})


@pytest.mark.parametrize(
    ("given", "test", "reference", "chosen"),
    [
        (None, "digits", None, 0),
        (4, "digits", None, 4),
        (None, "digits", SPLIT_BY_3, 3),
        (3, "digits", SPLIT_BY_3, 3),
        (0, "folder:mine", SPLIT_BY_3, 0),
        (4, "digits", card(None), 4),
        (None, "digits", card(None), 0),
    ],
)
def test_the_split_is_the_one_asked_for_or_the_references(
    given: int | None, test: str, reference: Card | None, chosen: int
) -> None:
    assert choose_split_seed(given, test=test, reference=reference) == chosen


def test_no_victim_is_tested_on_what_it_was_trained_on() -> None:
    with pytest.raises(AttackError, match=r"--split-seed is 0.*digits split by 3"):
        choose_split_seed(0, test="digits", reference=SPLIT_BY_3)


@pytest.mark.parametrize(
    "recipe", [{}, {"data": "digits"}, {"data": {}}, {"data": {"split_seed": "x"}},
               {"data": {"split_seed": -1}}, {"data": {"split_seed": True}}],
)  # fmt: skip
def test_a_card_that_does_not_tell_its_split_is_not_guessed(recipe: dict[str, Any]) -> None:
    assert split_seed_of(card(recipe)) is None
    assert split_seed_of(card({"data": {"split_seed": 3}}, role="other")) is None


def test_a_holdout_of_the_smallest_budget_is_at_least_one_answer() -> None:
    recipe = CloneRecipe(architecture="lenet", holdout=0.1)
    check_holdout(recipe, (10, 300))
    with pytest.raises(AttackError, match="a budget of 9 queries"):
        check_holdout(recipe, (9, 300))
    check_holdout(recipe, (20, 300), per_image=2)
    with pytest.raises(AttackError, match="holdout"):
        check_holdout(recipe, (19, 300), per_image=2)
    check_holdout(CloneRecipe(architecture="lenet"), (1,))


def test_the_learning_rate_of_a_clone_drops_while_it_is_trained() -> None:
    steps = Step(milestones=(5, 10))
    check_schedule(CloneRecipe(architecture="lenet", epochs=11, schedule=steps), (10, 300))
    with pytest.raises(
        AttackError, match=r"schedule\.milestones .* 10 epochs, but .* for 10: raise"
    ):
        check_schedule(CloneRecipe(architecture="lenet", epochs=10, schedule=steps), (10, 300))
    # 300,000 images shown: 15 epochs of 20,000 answers, and 10 of 30,000.
    by_budget = CloneRecipe(architecture="lenet", schedule=steps)
    check_schedule(by_budget, (300, 20_000))
    check_schedule(by_budget, (40_000,), per_image=2)
    with pytest.raises(AttackError, match="trained for 10"):
        check_schedule(by_budget, (300, 30_000))
    with pytest.raises(AttackError, match="trained for 3: raise --budget"):
        check_schedule(replace(by_budget, per_epoch=10), (30,))


def test_a_clone_is_built_for_the_victims_images() -> None:
    check_clone(CloneRecipe(architecture="lenet"), shape=(3, 28, 28), classes=10)
    with pytest.raises(ArchitectureError):
        check_clone(CloneRecipe(architecture="lenet"), shape=(1, 2, 2), classes=10)
