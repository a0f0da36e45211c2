from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from models.errors import NotFiniteError, TrainingError
from models.training.cross_entropy import CrossEntropy
from models.training.data import TrainingData
from models.training.evaluate import accuracy, probabilities
from models.training.loop import fit
from models.training.objective import Batch, Objective
from models.training.plan import Adam, Sgd
from tests.training.toys import (
    Interrupting,
    assert_same_bits,
    network,
    plan,
    problem,
    quadrants,
    weights,
)


def test_a_toy_problem_is_learned() -> None:
    module = network()
    fitted = fit(CrossEntropy(module), problem(count=400), plan(epochs=6))
    images, labels = quadrants(200, 9)
    assert accuracy(probabilities(module, images), labels) > 0.95
    assert [record.epoch for record in fitted.history] == [1, 2, 3, 4, 5, 6]
    assert fitted.history[-1].loss < fitted.history[0].loss
    assert fitted.epoch == 6
    assert not module.training


def test_same_seed_same_weights_and_another_seed_others() -> None:
    runs = []
    for seed in (7, 7, 8):
        module = network(dropout=0.3)
        fit(CrossEntropy(module), problem(), plan(seed=seed))
        runs.append(weights({"victim": module}))
    assert_same_bits(runs[0], runs[1])
    assert not torch.equal(runs[0]["victim/0.weight"], runs[2]["victim/0.weight"])


def test_training_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fit(CrossEntropy(network(dropout=0.5)), problem(), plan(epochs=1))
    assert torch.equal(torch.rand(4), expected)


def test_sgd_steps_are_those_written_out_by_hand() -> None:
    images, labels = quadrants(8, 1)
    linear = nn.Linear(64, 4)
    module = nn.Sequential(nn.Flatten(), linear)
    start, bias = linear.weight.detach().clone(), linear.bias.detach().clone()
    settings = {"epochs": 2, "batch_size": 8, "augment": "none"}
    optimiser = {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    schedule = {"kind": "step", "every": 1, "factor": 0.5}
    fit(
        CrossEntropy(module),
        TrainingData(images, labels),
        plan(**settings, optimiser=optimiser, schedule=schedule),
    )

    flat = images.flatten(1).float() / 255
    w, b = start, bias
    vw, vb = torch.zeros_like(w), torch.zeros_like(b)
    for rate in (0.1, 0.05):
        error = (flat @ w.T + b).softmax(dim=1) - torch.nn.functional.one_hot(labels, 4)
        vw = 0.9 * vw + error.T @ flat / 8 + 0.01 * w
        vb = 0.9 * vb + error.mean(dim=0) + 0.01 * b
        w, b = w - rate * vw, b - rate * vb
    assert torch.allclose(linear.weight, w, atol=1e-6)
    assert torch.allclose(linear.bias, b, atol=1e-6)


def test_best_on_validation_restores_the_best_epoch() -> None:
    class Spoiled(CrossEntropy):
        """Learns, and from the third epoch on unlearns."""

        steps = 0

        def losses(self, batch: Batch) -> Mapping[str, Tensor]:
            self.steps += 1
            sign = 1.0 if self.steps <= 26 else -1.0
            return {name: sign * loss for name, loss in super().losses(batch).items()}

    settings = {"epochs": 5, "schedule": {"kind": "constant"}}
    data = problem(count=400)
    module = network()
    last = fit(Spoiled(module), data, plan(**settings))
    scores = [record.accuracy or 0.0 for record in last.history]
    assert scores[-1] < max(scores)

    module = network()
    best = fit(Spoiled(module), data, plan(**settings, selection="best-on-validation"))
    assert best.epoch == 1 + scores.index(max(scores))
    assert data.validation_images is not None
    assert data.validation_targets is not None
    regained = accuracy(probabilities(module, data.validation_images), data.validation_targets)
    assert regained == max(scores)


def test_clip_norm_bounds_every_step() -> None:
    module = network()
    before = weights({"victim": module})
    settings = {"epochs": 1, "batch_size": 150, "clip_norm": 1e-3}
    fit(
        CrossEntropy(module),
        problem(),
        plan(**settings, optimiser={"kind": "sgd", "lr": 1.0, "momentum": 0.0}),
    )
    moved = sum(
        float((parameter.detach() - before[f"victim/{name}"]).square().sum())
        for name, parameter in module.named_parameters()
    )
    assert 0 < math.sqrt(moved) <= 1e-3 * 1.001


def test_soft_targets_train_like_labels_where_they_are_one_hot() -> None:
    data = problem()
    hard, soft = network(), network()
    fit(CrossEntropy(hard), data, plan(epochs=1))
    targets = torch.nn.functional.one_hot(data.targets, 4).float()
    fit(CrossEntropy(soft), TrainingData(data.images, targets), plan(epochs=1))
    ours, theirs = weights({"": hard}), weights({"": soft})
    for name, tensor in ours.items():
        assert torch.allclose(tensor.double(), theirs[name].double(), atol=1e-5), name


def test_a_loss_that_is_not_finite_names_term_epoch_and_step() -> None:
    class Broken(CrossEntropy):
        steps = 0

        def losses(self, batch: Batch) -> Mapping[str, Tensor]:
            self.steps += 1
            losses = dict(super().losses(batch))
            factor = math.nan if self.steps == 7 else 0.0
            return losses | {"regulariser": losses["cross_entropy"] * factor}

    module = network()
    reporter = Interrupting()
    with pytest.raises(NotFiniteError, match=r"'regulariser' became nan in epoch 2, step 2"):
        fit(Broken(module), problem(), plan(), reporter=reporter)
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    assert reporter.calls[-1] == "stop"


def test_weights_lost_in_the_last_step_are_not_saved(tmp_path: Path) -> None:
    class Steep(CrossEntropy):
        def losses(self, batch: Batch) -> Mapping[str, Tensor]:
            return {name: 1e25 * loss for name, loss in super().losses(batch).items()}

    data = problem()
    # One step: its loss is finite, and only the weights that it leaves are not.
    wild = plan(epochs=1, batch_size=len(data.images)).model_copy(
        update={"optimiser": Sgd(lr=1e25, momentum=0.0)}
    )
    with pytest.raises(NotFiniteError, match="of the victim is no longer finite after epoch 1"):
        fit(Steep(network()), data, wild, state=tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_what_cannot_work_is_refused_before_the_first_step() -> None:
    class Hungry(CrossEntropy):
        kind: ClassVar[str] = "hungry"
        needs_ood: ClassVar[bool] = True

    class Nameless(Objective):
        kind: ClassVar[str] = "nameless"

        @property
        def networks(self) -> Mapping[str, nn.Module]:
            return {"hash": network()}

        def losses(self, batch: Batch) -> Mapping[str, Tensor]:
            raise AssertionError("never reached")

    images, labels = quadrants(20, 1)
    bare = TrainingData(images, labels)
    module = network()
    with pytest.raises(TrainingError, match="needs out-of-distribution images"):
        fit(Hungry(module), bare, plan())
    with pytest.raises(TrainingError, match="no use for out-of-distribution"):
        fit(CrossEntropy(module), problem(ood=True), plan())
    with pytest.raises(TrainingError, match="no validation data"):
        fit(CrossEntropy(module), bare, plan(selection="best-on-validation"))
    with pytest.raises(TrainingError, match="called victim or clone"):
        fit(Nameless(), problem(), plan())
    with pytest.raises(TrainingError, match="4 epochs"):
        fit(CrossEntropy(module), bare, plan(schedule={"kind": "cosine", "warmup_epochs": 4}))


def test_data_that_does_not_fit_together_is_refused() -> None:
    images, labels = quadrants(20, 1)
    with pytest.raises(TrainingError, match="uint8"):
        TrainingData(images.float(), labels)
    with pytest.raises(TrainingError, match="20 images but 19 targets"):
        TrainingData(images, labels[1:])
    with pytest.raises(TrainingError, match="come together"):
        TrainingData(images, labels, images)
    with pytest.raises(TrainingError, match=r"out-of-distribution images are \(1, 6, 8\)"):
        TrainingData(images, labels, ood=images[:, :, 2:])
    with pytest.raises(TrainingError, match="int64 labels"):
        TrainingData(images, labels.int())


def test_channels_last_changes_the_layout_only() -> None:
    ours, theirs = network(), network()
    settings = {"epochs": 1, "optimiser": Adam(lr=0.003)}
    fit(CrossEntropy(ours), problem(), plan(**settings))
    fit(CrossEntropy(theirs), problem(), plan(**settings, channels_last=True))
    assert theirs.state_dict()["0.weight"].is_contiguous()
    images, _ = quadrants(30, 4)
    gap = (probabilities(ours, images) - probabilities(theirs, images)).abs().max()
    assert gap < 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_a_gpu_agrees_with_the_cpu() -> None:
    ours, theirs = network(), network()
    fit(CrossEntropy(ours), problem(), plan(epochs=1))
    fit(CrossEntropy(theirs), problem(), plan(epochs=1), device="cuda")
    images, _ = quadrants(30, 4)
    there = probabilities(theirs, images, device="cuda")
    assert torch.allclose(probabilities(ours, images), there, atol=0.02)
