from __future__ import annotations

import pytest

from intaglio.costs import flops_of_training
from intaglio.recipe import load_recipe

SHAPE, CLASSES, IMAGES = (1, 28, 28), 10, 1000


def steps(recipe: str, *overrides: str) -> float:
    """What a step costs, in steps of plain training of the same network."""

    def flops(name: str, *more: str) -> float:
        same = ("plan.epochs=3", "architecture={name: lenet, arguments: {}}")
        found = flops_of_training(load_recipe(name, (*same, *more)), SHAPE, CLASSES, IMAGES)
        assert found is not None
        return found

    return flops(recipe, *overrides) / flops("digits-plain")


def test_costs_are_those_of_the_passes_that_are_taken() -> None:
    assert steps("digits-am") == pytest.approx(4)
    assert steps("digits-edm", "objective.ensemble={members: 4}") == pytest.approx(8)
    assert steps("fashion-lenet-stt") == pytest.approx(4 / 3)
    assert steps("digits-ini") == pytest.approx(6)
    assert steps("digits-ini", "objective.options.delta=0") == pytest.approx(6 - 7 / 3)
    plain = [f"objective.options.{term}=0" for term in ("gamma", "delta", "epsilon")]
    assert steps("digits-ini", *plain) == pytest.approx(2)


@pytest.mark.parametrize("combiner", ["pcgrad", "pcgrad-sum"])
def test_surgery_costs_a_backward_pass_for_each_loss_beyond_the_first(combiner: str) -> None:
    chosen = f"plan.combiner={combiner}"
    assert steps("digits-plain", chosen) == pytest.approx(1)
    assert steps("fashion-lenet-nasty", chosen) == pytest.approx(2)
    assert steps("digits-ini", chosen) == pytest.approx(6 + 4 / 3)
    together = "objective.options.ood_bn=concatenated"
    assert steps("digits-ini", together, chosen) == pytest.approx(6 + 4)
    assert steps("mnist-lenet-oe", together, chosen) == pytest.approx(2 + 4 / 3)
    apart = "objective.options.ood_bn=separate"
    assert steps("mnist-lenet-oe", apart, chosen) == pytest.approx(2)


def test_an_adversarial_set_is_counted_and_a_foreign_network_is_not() -> None:
    more = steps("fashion-lenet-ast", "objective.adversarial.iterations=40")
    less = steps("fashion-lenet-ast", "objective.adversarial.iterations=10")
    assert more - less == pytest.approx(30 * 2 / (3 * 3))
    foreign = load_recipe("digits-plain", ["architecture={name: 'net.py:make'}"])
    assert flops_of_training(foreign, SHAPE, CLASSES, IMAGES) is None
