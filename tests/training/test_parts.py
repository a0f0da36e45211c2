from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress
from torch import nn

from models.errors import TrainingError
from models.training.augmentation import augmented
from models.training.batches import batches
from models.training.combiner import Sum
from models.training.data import to_unit
from models.training.device import choose_device
from models.training.evaluate import accuracy, probabilities
from models.training.history import EpochRecord, write_history
from models.training.order import derive_seed, epoch_batches, generator, ood_batches
from models.training.plan import Constant, Cosine, Plan, Sgd, Step
from models.training.progress import RichReporter, StatusColumn
from models.training.schedule import learning_rate
from tests.training.toys import assert_same_bits, network, plan, problem, weights


def test_an_epoch_shows_every_image_once_in_steps_of_equal_size() -> None:
    for count, steps in ((129, 2), (100, 7), (5, 5), (1, 1)):
        order = epoch_batches(count, steps, seed=1, epoch=1)
        sizes = [len(batch) for batch in order]
        assert sorted(torch.cat(order).tolist()) == list(range(count))
        assert len(sizes) == steps
        assert max(sizes) - min(sizes) <= 1


def test_order_depends_on_seed_and_epoch_only() -> None:
    first = torch.cat(epoch_batches(50, 3, 1, 1)).tolist()
    assert first == torch.cat(epoch_batches(50, 5, 1, 1)).tolist()
    assert first != torch.cat(epoch_batches(50, 3, 1, 2)).tolist()
    assert first != torch.cat(epoch_batches(50, 3, 2, 1)).tolist()


def test_strangers_are_cycled_and_reshuffled_at_every_pass() -> None:
    like = epoch_batches(25, 4, 1, 1)
    drawn = ood_batches(10, like, 1, 1)
    assert [len(batch) for batch in drawn] == [len(batch) for batch in like]
    flat = torch.cat(drawn).tolist()
    assert sorted(flat[:10]) == sorted(flat[10:20]) == list(range(10))
    assert flat[:10] != flat[10:20]
    assert len(set(flat[20:])) == 5
    many = torch.cat(ood_batches(1000, like, 1, 1))
    assert len(set(many.tolist())) == 25
    assert many.tolist() != torch.cat(ood_batches(1000, like, 1, 2)).tolist()


def test_seeds_of_different_purposes_and_places_differ() -> None:
    seeds = {
        derive_seed(seed, purpose, *place)
        for seed in (0, 1)
        for purpose in ("order", "ood")
        for place in ((), (1,), (1, 1), (11,))
    }
    assert len(seeds) == 16
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_batches_are_floats_of_the_right_images_and_strangers() -> None:
    data, settled = problem(ood=True), plan(augment="none")
    given = list(batches(data, settled, 1, device="cpu"))
    assert data.ood is not None
    order = epoch_batches(len(data.images), 5, settled.seed, 1)
    for batch, chosen in zip(given, order, strict=True):
        assert torch.equal((batch.images * 255).round().to(torch.uint8), data.images[chosen])
        assert torch.equal(batch.targets, data.targets[chosen])
        assert batch.ood is not None
        assert batch.ood.shape == batch.images.shape
    repeated = [batch.images for batch in batches(data, settled, 1, device="cpu")]
    assert all(torch.equal(a.images, b) for a, b in zip(given, repeated, strict=True))


def test_pixels_become_exactly_the_unit_interval() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_unit(ramp).flatten(), torch.arange(256).float() / 255)


@pytest.mark.parametrize(("augment", "reach"), [("shift", 2), ("crop-flip", 4)])
def test_augmented_images_are_shifted_copies(augment: str, reach: int) -> None:
    image = torch.arange(1, 3 * 9 * 11 + 1).remainder(251).add(1).to(torch.uint8).view(1, 3, 9, 11)
    settled = plan(augment=augment)
    out = augmented(image.repeat(300, 1, 1, 1), settled.augment, generator(1, "augment", 1, 1))
    padded = nn.functional.pad(image[0], (reach,) * 4)
    allowed = {
        candidate.numpy().tobytes(): (flip, y, x)
        for y in range(2 * reach + 1)
        for x in range(2 * reach + 1)
        for flip in (False, True)
        for window in [padded[:, y : y + 9, x : x + 11]]
        for candidate in [window.flip(2) if flip else window]
    }
    seen = [allowed[moved.numpy().tobytes()] for moved in out]
    flips = sum(flip for flip, _, _ in seen)
    assert flips == 0 if augment == "shift" else 100 < flips < 200
    assert {y for _, y, _ in seen} == {x for _, _, x in seen} == set(range(2 * reach + 1))
    assert augmented(image, "none", generator(1, "augment", 1, 1)) is image


def test_schedules_at_their_landmarks() -> None:
    def at(schedule: Constant | Cosine | Step, done: float) -> float:
        return learning_rate(schedule, 0.2, done=done, epochs=10)

    assert at(Constant(), 9.9) == 0.2
    assert at(Cosine(), 0) == 0.2
    assert at(Cosine(), 5) == pytest.approx(0.1)
    assert 0 < at(Cosine(), 9.99) < 1e-5
    assert 0 < at(Cosine(warmup_epochs=2), 0) < 0.001
    assert at(Cosine(warmup_epochs=2), 1) == pytest.approx(0.1, rel=0.01)
    assert at(Cosine(warmup_epochs=2), 2) == 0.2
    assert at(Cosine(warmup_epochs=2), 6) == pytest.approx(0.1)
    assert at(Step(every=4, factor=0.5), 3.99) == 0.2
    assert at(Step(every=4, factor=0.5), 8) == pytest.approx(0.05)
    assert at(Step(milestones=(3, 6)), 2.9) == 0.2
    assert at(Step(milestones=(3, 6)), 3) == pytest.approx(0.02)
    assert at(Step(milestones=(3, 6)), 7) == pytest.approx(0.002)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epoch": 3},
        {"selection": "best-on-test"},
        {"optimiser": {"kind": "sgd", "nesterov": True, "momentum": 0.0}},
        {"optimiser": {"kind": "adam", "momentum": 0.9}},
        {"optimiser": {"kind": "sgd", "lr": float("inf")}},
        {"schedule": {"kind": "step"}},
        {"schedule": {"kind": "step", "every": 3, "milestones": [4]}},
        {"schedule": {"kind": "step", "milestones": [4, 4]}},
        {"clip_norm": 0.0},
    ],
)
def test_plans_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Plan.model_validate(wrong)


def test_accuracy_breaks_ties_toward_the_lowest_index() -> None:
    tied = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.5, 0.5]])
    assert accuracy(tied, torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)
    assert accuracy(torch.tensor([1, 1]), torch.tensor([1, 0])) == 0.5
    assert accuracy(tied, tied) == 1.0


def test_probabilities_are_those_of_evaluation_mode_and_put_the_mode_back() -> None:
    module = network(dropout=0.9).train()
    images = problem().images[:33]
    before = weights({"": module})
    said = probabilities(module, images, batch_size=8)
    assert module.training
    assert_same_bits(weights({"": module}), before)
    with torch.no_grad():
        assert torch.allclose(said, module.eval()(to_unit(images)).softmax(dim=1), atol=1e-6)
    assert not said.is_inference()
    assert torch.allclose(said.sum(dim=1), torch.ones(33))


def test_sum_is_the_gradient_of_the_sum() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    losses = {"a": parameter.square().sum(), "b": 3 * parameter[0]}
    Sum().backward(losses, [parameter], torch.Generator())
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [5.0, 4.0]


def test_history_as_csv(tmp_path: Path) -> None:
    write_history(
        tmp_path / "history.csv",
        [
            EpochRecord(1, 0.1, {"a": 1.5, "b": 0.25}, 0.5, 2.0),
            EpochRecord(2, 0.05, {"a": 1.0, "b": 0.25}, None, 2.5),
        ],
    )
    assert (tmp_path / "history.csv").read_text() == (
        "epoch,learning_rate,loss,a,b,validation_accuracy,seconds\n"
        "1,0.1,1.75,1.5,0.25,0.500000,2.000\n"
        "2,0.05,1.25,1,0.25,,2.500\n"
    )


def report(reporter: RichReporter, losses: tuple[float, ...] = (2.0, 1.0)) -> None:
    reporter.start(2, len(losses), 0)
    for epoch in (1, 2):
        for step, loss in enumerate(losses, start=1):
            reporter.step(epoch, step, {"a": loss, "b": 0.5})
        reporter.epoch(EpochRecord(epoch, 0.1, {"a": 1.0, "b": 0.5}, 0.875, 1.0))
    reporter.stop()


def test_a_log_file_gets_a_line_per_epoch() -> None:
    text = io.StringIO()
    report(RichReporter("toy", console=Console(file=text, width=200)))
    assert text.getvalue().splitlines() == [
        "toy: epoch 1/2  loss 1.5000  validation 87.50%  1.0 s",
        "toy: epoch 2/2  loss 1.5000  validation 87.50%  1.0 s",
    ]


def test_a_terminal_shows_epoch_loss_accuracy_and_time_left() -> None:
    text = io.StringIO()
    report(RichReporter("toy", console=Console(file=text, width=200, force_terminal=True)))
    last = text.getvalue()
    for shown in ("toy", "100%", "epoch 2/2", "loss 2.", "validation 87.50%", "left", "0:00:00"):
        assert shown in last


def test_a_task_in_another_display_leaves_that_display_running() -> None:
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=True)
    with Progress(StatusColumn(), console=console) as shared:
        shared.add_task("something else")
        report(RichReporter("toy", progress=shared))
        assert [task.completed for task in shared.tasks] == [0, 4]
        assert shared.live.is_started
    assert "epoch 2/2" in text.getvalue()


def test_devices_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "cuda:", "cuda:-1", "cuda:٣", "cuda:99999999999999999999"):
        with pytest.raises(TrainingError, match="auto, cpu or cuda:N with N up to 999"):
            choose_device(name)
    for name in ("cuda:99", "cuda:200", "cuda:256"):
        with pytest.raises(TrainingError, match=f"{name} is not there"):
            choose_device(name)


def test_a_plan_counts_its_steps() -> None:
    assert Plan(batch_size=128).steps(60_000) == math.ceil(60_000 / 128)
    assert Plan(optimiser=Sgd(), batch_size=7).steps(7) == 1
