from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from defenses.training.adaptive_misinformation import AdaptiveMisinformation
from defenses.training.isolation_induction import IsolationInduction
from models.errors import NotFiniteError, TrainingError
from models.training.cross_entropy import CrossEntropy
from models.training.data import TrainingData
from models.training.evaluate import accuracy, probabilities
from models.training.loop import fit
from models.training.objective import Batch
from models.training.plan import OneCycle, Plan
from models.training.precision import computing_in
from models.training.schedule import learning_rate
from tests.training.toys import (
    Interrupted,
    Interrupting,
    assert_same_bits,
    network,
    plan,
    problem,
    quadrants,
    weights,
)


def test_one_cycle_rises_to_its_peak_and_ends_next_to_nothing() -> None:
    cycle = OneCycle(rise=0.25, start_divisor=20.0, end_divisor=100.0)
    rates = [learning_rate(cycle, 0.4, done=n / 10, epochs=8) for n in range(80)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[20] == pytest.approx(0.4)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert learning_rate(cycle, 0.4, done=8 - 1e-9, epochs=8) == pytest.approx(0.0002)


def test_bfloat16_computes_in_sixteen_bits_and_trains_float32_weights() -> None:
    class Watching(CrossEntropy):
        seen: torch.dtype

        def losses(self, batch: Batch) -> Mapping[str, Tensor]:
            losses = super().losses(batch)
            self.seen = self._network(batch.images).dtype
            return losses

    module = network()
    objective = Watching(module)
    inside: list[torch.dtype] = []
    next(module.children()).register_forward_hook(
        lambda _m, _i, output: inside.append(output.dtype)
    )
    fitted = fit(objective, problem(), plan(precision="bfloat16"))
    assert objective.seen == torch.float32
    assert torch.bfloat16 in inside
    assert inside[-1] == torch.float32  # the look at the validation images
    assert all(p.dtype == torch.float32 for p in module.parameters())
    assert fitted.history[-1].accuracy is not None
    assert fitted.history[-1].accuracy > 0.9


def test_autocast_ends_where_a_forward_pass_fails() -> None:
    module, device = network(), torch.device("cpu")
    with computing_in("bfloat16", [module], device):
        with pytest.raises(RuntimeError):
            module(torch.zeros(2, 5, 8, 8))
        assert not torch.is_autocast_enabled("cpu")
    assert module(torch.zeros(2, 1, 8, 8)).dtype == torch.float32
    assert not module._forward_hooks


def test_precision_is_refused_where_it_cannot_be_had() -> None:
    clones = IsolationInduction(network(1), network(2))
    with pytest.raises(TrainingError, match="precision: the objective 'ini' is computed in float3"):
        fit(clones, problem(ood=True), plan(precision="bfloat16"))
    with pytest.raises(TrainingError, match="precision: float16 needs a CUDA device"):
        fit(CrossEntropy(network()), problem(), plan(precision="float16"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("combiner", ["sum", "pcgrad"])
def test_float16_trains_and_resumes_on_a_gpu(combiner: str, tmp_path: Path) -> None:
    def objective() -> AdaptiveMisinformation:
        return AdaptiveMisinformation(network(1), network(2))

    settled = plan(precision="float16", combiner=combiner, clip_norm=5.0, deterministic=True)
    whole = objective()
    fit(whole, problem(ood=True), settled, device="cuda")
    halved = objective()
    with pytest.raises(Interrupted):
        fit(
            halved,
            problem(ood=True),
            settled,
            state=tmp_path,
            reporter=Interrupting(after=2),
            device="cuda",
        )
    resumed = objective()
    fitted = fit(resumed, problem(ood=True), settled, state=tmp_path, device="cuda")
    assert (fitted.history[-1].accuracy or 0.0) > 0.9
    assert_same_bits(weights(resumed.networks), weights(whole.networks))


def noise() -> TrainingData:
    """Labels that no image tells anything of: validation accuracy soon stops to improve."""
    images, _ = quadrants(60, 1)
    others, _ = quadrants(40, 2)
    draws = torch.Generator().manual_seed(5)
    return TrainingData(
        images,
        torch.randint(0, 4, (60,), generator=draws),
        others,
        torch.randint(0, 4, (40,), generator=draws),
    )


STOPPING: dict[str, Any] = {
    "epochs": 40,
    "selection": "best-on-validation",
    "early_stop": {"patience": 3},
}


def test_a_run_ends_when_its_patience_does_and_keeps_the_best_epoch() -> None:
    module, data = network(), noise()
    fitted = fit(CrossEntropy(module), data, plan(**STOPPING))
    scores = [record.accuracy or 0.0 for record in fitted.history]
    assert len(scores) < 40
    assert len(scores) == fitted.epoch + 3
    assert scores[fitted.epoch - 1] == max(scores) > max(scores[: fitted.epoch - 1], default=-1.0)
    assert data.validation_images is not None
    assert data.validation_targets is not None
    said = probabilities(module, data.validation_images)
    assert accuracy(said, data.validation_targets) == max(scores)


@pytest.mark.parametrize("after", [1, 3])
def test_patience_survives_an_interruption_and_an_ended_run_stays_ended(
    after: int, tmp_path: Path
) -> None:
    whole, settled = network(dropout=0.3), plan(**STOPPING)
    expected = fit(CrossEntropy(whole), noise(), settled)
    with pytest.raises(Interrupted):
        fit(
            CrossEntropy(network(dropout=0.3)),
            noise(),
            settled,
            state=tmp_path,
            reporter=Interrupting(after=after),
        )
    for _ in range(2):  # resumed, and looked at again when it was over
        module = network(dropout=0.3)
        fitted = fit(CrossEntropy(module), noise(), settled, state=tmp_path)
        assert (len(fitted.history), fitted.epoch) == (len(expected.history), expected.epoch)
        assert_same_bits(weights({"v": module}), weights({"v": whole}))


def test_early_stop_needs_something_to_stop_by() -> None:
    with pytest.raises(ValueError, match="early_stop needs selection: best-on-validation"):
        Plan.model_validate({"early_stop": {"patience": 2}})
    with pytest.raises(ValueError, match="patience"):
        Plan.model_validate({**STOPPING, "early_stop": {"patience": 0}})


def test_deterministic_mode_lasts_as_long_as_the_run() -> None:
    class Watching(CrossEntropy):
        on = False

        def losses(self, batch: Batch) -> Mapping[str, Tensor]:
            self.on = torch.are_deterministic_algorithms_enabled()
            return super().losses(batch)

    for wanted in (True, False):
        objective = Watching(network())
        fit(objective, problem(), plan(epochs=1, deterministic=wanted))
        assert objective.on == wanted
        assert not torch.are_deterministic_algorithms_enabled()


def test_a_layer_without_a_deterministic_kernel_is_a_sentence() -> None:
    class Restless(CrossEntropy):
        def losses(self, batch: Batch) -> Mapping[str, Tensor]:
            raise RuntimeError("knots_backward does not have a deterministic implementation, but")

    with pytest.raises(TrainingError, match="deterministic: knots_backward has no determin"):
        fit(Restless(network()), problem(), plan(deterministic=True))
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_gradient_that_is_not_finite_names_its_loss_at_its_step() -> None:
    class Rooted(CrossEntropy):
        """The root of nothing: finite, with a derivative that is not."""

        def losses(self, batch: Batch) -> Mapping[str, Tensor]:
            losses = dict(super().losses(batch))
            first = next(self._network.parameters())
            late = batch.done >= 1.3
            losses["penalty"] = (first * (0.0 if late else 1.0)).square().sum().sqrt() * 1e-3
            return losses

    module, reporter = network(), Interrupting()
    with pytest.raises(NotFiniteError, match=r"of the loss 'penalty' is not finite in epoch 2, st"):
        fit(Rooted(module), problem(), plan(), reporter=reporter)
    assert reporter.calls[-2].startswith("step 2 2")  # of five steps an epoch
    assert all(bool(parameter.isfinite().all()) for parameter in module.parameters())


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        ({"milestones": [2, 4]}, r"plan\.schedule\.milestones: .* 4 epochs, but plan\.epochs is 4"),
        ({"milestones": [2, 80]}, r"plan\.schedule\.milestones: .* after 80 epochs"),
        ({"every": 4}, r"plan\.schedule\.every: .* after 4 epochs, but plan\.epochs is 4"),
    ],
)
def test_a_drop_that_would_never_come_is_refused(schedule: dict[str, Any], sentence: str) -> None:
    reporter, late = Interrupting(), plan(schedule={"kind": "step", **schedule})
    with pytest.raises(TrainingError, match=sentence):
        fit(CrossEntropy(network()), problem(), late, reporter=reporter)
    assert reporter.calls == []


def test_a_drop_at_the_last_moment_is_one() -> None:
    for schedule in ({"milestones": [1, 3]}, {"every": 3}):
        fit(CrossEntropy(network()), problem(), plan(schedule={"kind": "step", **schedule}))


def test_a_batch_of_one_image_is_refused_where_batches_are_normalised() -> None:
    sentence = r"plan\.batch_size: of 151 images in batches of .* some batch would be one image"
    odd = problem(count=151)
    for size in (1, 2):  # 76 steps: one of them has an image left over
        with pytest.raises(TrainingError, match=sentence):
            fit(CrossEntropy(network()), odd, plan(batch_size=size))
    fit(CrossEntropy(network()), odd, plan(batch_size=3, epochs=1))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    fit(CrossEntropy(plain), problem(count=15), plan(batch_size=2, epochs=1))


def test_labels_of_other_classes_are_refused_before_the_first_step() -> None:
    images, labels = quadrants(20, 1)
    for wrong, sentence in (
        (labels.clone().fill_(-1), r"targets must lie in \[0, 4\).*but -1 is among them"),
        (labels.clone().fill_(4), r"targets must lie in \[0, 4\).*but 4 is among them"),
        (torch.full((20, 3), 1 / 3), "targets have 3 classes but the network has 4"),
    ):
        reporter = Interrupting()
        with pytest.raises(TrainingError, match=sentence):
            fit(CrossEntropy(network()), TrainingData(images, wrong), plan(), reporter=reporter)
        assert reporter.calls == []
    with pytest.raises(TrainingError, match="validation targets must lie"):
        fit(CrossEntropy(network()), TrainingData(images, labels, images, labels + 4), plan())
