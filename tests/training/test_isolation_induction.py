from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from defenses.errors import OptionError
from defenses.training.isolation_induction import IsolationInduction
from models.errors import NotFiniteError, TrainingError
from models.training.evaluate import accuracy, probabilities
from models.training.loop import fit
from models.training.objective import Batch
from tests.training.toys import (
    CLASSES,
    assert_same_bits,
    mixed,
    network,
    plan,
    problem,
    quadrants,
    weights,
)


def objective(victim: nn.Module, clone: nn.Module, **options: Any) -> IsolationInduction:
    return IsolationInduction(victim, clone, **options)


@pytest.mark.parametrize("second_order", [False, True])
def test_the_clone_is_never_changed(second_order: bool) -> None:
    victim, clone = network(1), network(2, dropout=0.5)
    before = weights({"clone": clone})
    data = problem(ood=True, count=100)
    fit(
        objective(victim, clone, second_order=second_order),
        data,
        plan(epochs=3, combiner="pcgrad"),  # twelve steps
    )
    assert_same_bits(weights({"clone": clone}), before)
    assert not clone.training
    assert all(p.grad is None and not p.requires_grad for p in clone.parameters())


def test_a_term_of_weight_zero_is_absent_and_the_clone_unused_without_its_terms() -> None:
    victim, clone = network(1), network(2)
    passes: list[int] = []
    clone.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    batch = mixed(torch.float32)
    wanted = {
        "gamma": {"cross_entropy", "isolation", "gradient_norm"},
        "delta": {"cross_entropy", "induction", "gradient_norm"},
        "epsilon": {"cross_entropy", "isolation", "induction"},
    }
    for weight, names in wanted.items():
        assert set(objective(victim, clone, **{weight: 0.0}).losses(batch)) == names
    passes.clear()
    losses = objective(victim, clone, gamma=0, delta=0, epsilon=0).losses(batch)
    assert set(losses) == {"cross_entropy"}
    assert passes == []


def test_each_clone_pass_is_shared_by_all_that_need_it() -> None:
    victim, clone = network(1), network(2)
    passes: list[int] = []
    clone.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    objective(victim, clone).losses(mixed(torch.float32))
    assert passes == [7, 7, 6, 6]  # images and strangers: once for both backward passes, one JVP


def test_soft_targets_and_labels_agree_where_the_former_are_one_hot() -> None:
    victim, clone, batch = network(1), network(2), mixed(torch.float32)
    soft = Batch(batch.images, functional.one_hot(batch.targets, CLASSES).float(), batch.ood)
    trained = objective(victim, clone)
    hard_losses, soft_losses = trained.losses(batch), trained.losses(soft)
    for name, value in hard_losses.items():
        assert torch.allclose(value, soft_losses[name], rtol=1e-4), name


def test_training_isolates_induces_and_still_classifies() -> None:
    victim, clone = network(1), network(2)
    trained = objective(victim, clone, epsilon=20.0)
    fitted = fit(trained, problem(ood=True, count=400), plan(epochs=10))
    images, labels = quadrants(200, 5)
    assert accuracy(probabilities(victim, images), labels) > 0.9
    first, last = fitted.history[0].losses, fitted.history[-1].losses
    assert last["isolation"] < 0.5 * first["isolation"]
    assert last["induction"] < 0.6 * first["induction"]
    assert last["gradient_norm"] < 0.5 * first["gradient_norm"]


def test_an_infinite_gradient_stops_the_run_at_the_term_it_comes_from() -> None:
    clone = network(2)
    with torch.no_grad():
        next(clone.parameters()).mul_(math.inf)
    with pytest.raises(NotFiniteError, match="'isolation' became nan in epoch 1, step 1"):
        fit(objective(network(1), clone), problem(ood=True), plan())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"gamma": -0.1}, "gamma: must be a finite number >= 0, not -0.1"),
        ({"delta": math.nan}, "delta: must be a finite number >= 0"),
        ({"epsilon": math.inf}, "epsilon: must be a finite number >= 0"),
        ({"isolation": "kl"}, "isolation: must be kl_cv or ce_vc, not 'kl'"),
        ({"induction": "l2"}, "induction: must be l1 or kl, not 'l2'"),
        ({"gradient_norm": "l1"}, "gradient_norm: must be mean_abs or l2, not 'l1'"),
        ({"ood_bn": "none"}, "ood_bn: must be separate, concatenated or frozen, not 'none'"),
    ],
)
def test_what_does_not_exist_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        objective(network(1), network(2), **wrong)
    assert str(caught.value).startswith(sentence)


def test_options_tell_the_effective_weights_and_forms() -> None:
    assert objective(network(1), network(2), delta=2).options() == {
        "gamma": 0.3,
        "delta": 2.0,
        "epsilon": 1000.0,
        "isolation": "kl_cv",
        "induction": "l1",
        "gradient_norm": "mean_abs",
        "ood_bn": "separate",
        "theft": 0.0,
        "second_order": False,
    }


def test_a_run_against_another_clone_is_another_run(tmp_path: Path) -> None:
    data, settled = problem(ood=True), plan(epochs=1)
    fit(objective(network(1), network(2)), data, settled, state=tmp_path)
    with pytest.raises(TrainingError, match="another run"):
        fit(objective(network(1), network(3)), data, settled, state=tmp_path)
