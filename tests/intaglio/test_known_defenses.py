"""Our defenses as functions, and attackers who know them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attack_client.adaptive.contract import Harvest, Knowledge
from attack_client.adaptive.known import KnownDefense
from attack_client.adaptive.partial_bayes import PartialBayes
from attack_client.adaptive.recover import Recover
from attack_client.clone import CloneRecipe, train_clone
from attack_client.errors import AdaptationError
from attack_client.predictions import agreement, hard_labels, predict
from defenses.contract import Answers
from defenses.reverse_sigmoid import ReverseSigmoid
from intaglio.known_defenses import chain, mad, reverse_sigmoid, stingy
from models.simplex import GRID, round_to_grid
from tests.attack_client.stub import LinearModel
from tests.defenses.toys import queries

Floats = NDArray[np.float32]


def test_a_function_is_what_the_service_does() -> None:
    said = np.random.default_rng(0).dirichlet(np.ones(10), size=50).astype(np.float32)
    canonical = round_to_grid(torch.from_numpy(said), GRID)
    asked = queries(canonical)
    expected = ReverseSigmoid(beta=0.7).apply(asked, Answers(canonical)).probabilities
    served = reverse_sigmoid(classes=10, beta=0.7)(said)
    np.testing.assert_allclose(served, expected.numpy(), atol=1e-6)
    both = chain(
        classes=10, links=[{"kind": "reverse-sigmoid", "beta": 0.7}, {"kind": "top-k", "k": 2}]
    )(said)
    assert ((both > 0).sum(axis=1) == 2).all()
    assert (stingy(classes=10)(said) > 0).sum(axis=1).max() == 2
    assert np.abs(mad(classes=10, epsilon=0.5)(said) - said).sum(axis=1).max() <= 0.5 + 1e-4


@pytest.mark.parametrize(
    ("links", "sentence"),
    [
        ([{"kind": "am", "threshold": 0.5}], "am is not a function of posteriors"),
        ([{"kind": "mad", "epsilon": 1.0, "surrogate": "network"}], "service's own surrogate"),
        ([{"kind": "no-such"}], "no-such"),
        ([{"kind": "top-k", "k": 0}], "k"),
    ],
)
def test_what_is_no_function_of_posteriors_is_refused(
    links: list[dict[str, object]], sentence: str
) -> None:
    with pytest.raises(AdaptationError, match=sentence):
        KnownDefense("intaglio.known_defenses:chain", {"links": links}).load(10)


LINEAR = "tests.attack_client.adaptive.linear:linear"


@pytest.fixture(scope="module")
def toy() -> LinearModel:
    return LinearModel((1, 8, 8), 10)


def fidelity(toy: LinearModel, images: NDArray[np.uint8], targets: Floats) -> float:
    """Of a clone that could be the victim exactly."""
    recipe = CloneRecipe(architecture=LINEAR, epochs=15, allow_factories=(LINEAR,))
    clone = train_clone(images, targets, classes=10, recipe=recipe, seed=0)
    test = toy.images(500, seed=9)
    return agreement(predict(clone, test), hard_labels(toy(test)))


@pytest.mark.parametrize(
    "add_on", [Recover(samples=20_000, epochs=20), PartialBayes(samples=20_000)], ids=repr
)
def test_reverse_sigmoid_is_recovered_to_near_the_undefended_clone(
    toy: LinearModel, add_on: Recover | PartialBayes
) -> None:
    """An attacker who fails at this is broken, and says nothing of any defense."""
    images, defense = toy.images(1500), reverse_sigmoid(classes=10)
    said = toy(images)
    served = defense(said)
    knowledge = Knowledge(classes=10, seed=0, known=defense)
    recovered = add_on.apply(Harvest.of(images, served), knowledge).answers
    assert np.abs(recovered - said).sum() < 0.3 * np.abs(served - said).sum()
    undefended, defended = fidelity(toy, images, said), fidelity(toy, images, served)
    assert undefended - defended > 0.08
    assert fidelity(toy, images, recovered) > defended + 0.4 * (undefended - defended)


def test_at_full_strength_it_is_most_of_what_the_thief_lost(toy: LinearModel) -> None:
    images, defense = toy.images(1500), reverse_sigmoid(classes=10, beta=1.0)
    served = defense(toy(images))
    knowledge = Knowledge(classes=10, seed=0, known=defense)
    recovered = Recover(samples=20_000, epochs=20).apply(Harvest.of(images, served), knowledge)
    assert fidelity(toy, images, served) < 0.3
    assert fidelity(toy, images, recovered.answers) > 0.65
