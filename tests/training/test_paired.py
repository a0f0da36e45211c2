"""Paired images and frozen networks: what the loop does for objectives that need them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from defenses.training.nasty import Nasty
from defenses.training.sparse_teacher import AdversarialSparseTeacher, SparseTeacher
from models.errors import TrainingError
from models.training.batches import batches
from models.training.cross_entropy import CrossEntropy
from models.training.data import TrainingData
from models.training.loop import fit
from models.training.objective import Objective
from tests.training.toys import (
    Interrupted,
    Interrupting,
    assert_same_bits,
    network,
    plan,
    problem,
    strangers,
    weights,
)


def paired(seed: int = 4) -> TrainingData:
    data = problem()
    return replace(data, paired=strangers(len(data.images), seed))


def nasty(base: int = 2) -> Objective:
    return Nasty(network(1, dropout=0.3), network(base), ramp_epochs=2.5)


def stt(base: int = 2) -> Objective:
    return SparseTeacher(network(1, dropout=0.3), network(base), alpha=0.3)


def ast(base: int = 2) -> Objective:
    return AdversarialSparseTeacher(network(1, dropout=0.3), network(base), alpha=0.3)


def ast_self(base: int = 2) -> Objective:
    return AdversarialSparseTeacher(
        network(1, dropout=0.3), network(base), alpha=0.3, target="self", loss="kl"
    )


def data_for(objective: Objective) -> TrainingData:
    return paired() if objective.needs_paired else problem()


@pytest.mark.parametrize("augment", ["none", "shift", "crop-flip"])
def test_a_paired_image_is_moved_as_its_image_is(augment: str) -> None:
    data = problem()
    settled = plan(augment=augment)
    same = list(batches(replace(data, paired=data.images), settled, 2, device="cpu"))
    plain = list(batches(data, settled, 2, device="cpu"))
    for ours, theirs in zip(same, plain, strict=True):
        assert ours.paired is not None
        assert torch.equal(ours.paired, ours.images)
        assert torch.equal(ours.images, theirs.images)
        assert theirs.paired is None
    inverted = replace(data, paired=255 - data.images)
    given = next(iter(batches(inverted, settled, 2, device="cpu")))
    assert given.paired is not None
    inside = given.images + given.paired
    assert torch.logical_or(inside.sub(1).abs() < 1e-6, inside == 0).all()  # 0: the margin
    assert (inside.sub(1).abs() < 1e-6).float().mean() > 0.5


def test_strangers_are_drawn_as_if_there_were_no_pairs() -> None:
    data = problem(ood=True)
    both = replace(data, paired=strangers(len(data.images), 4))
    for ours, theirs in zip(
        batches(both, plan(), 1, device="cpu"), batches(data, plan(), 1, device="cpu"), strict=True
    ):
        assert ours.ood is not None
        assert theirs.ood is not None
        assert torch.equal(ours.ood, theirs.ood)


def test_a_batch_knows_how_far_the_run_has_come() -> None:
    done = [batch.done for batch in batches(problem(), plan(), 3, device="cpu")]
    assert done == pytest.approx([2.0, 2.2, 2.4, 2.6, 2.8])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (torch.zeros(7, 1, 8, 8, dtype=torch.uint8), "150 images but 7 paired images"),
        (torch.zeros(150, 1, 8, 9, dtype=torch.uint8), r"paired images are \(1, 8, 9\)"),
        (torch.zeros(150, 1, 8, 8), "paired images must be a non-empty uint8"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(wrong: torch.Tensor, sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence):
        replace(problem(), paired=wrong)


def test_pairs_come_exactly_where_they_are_needed() -> None:
    with pytest.raises(TrainingError, match="'ast' needs paired images"):
        fit(ast(), problem(), plan())
    with pytest.raises(TrainingError, match="'plain' has no use for paired images"):
        fit(CrossEntropy(network()), paired(), plan())


@pytest.mark.parametrize("make", [nasty, stt, ast, ast_self])
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    make: type[Objective], tmp_path: Path
) -> None:
    settled = plan(augment="crop-flip")
    whole = make()
    base = weights(whole.frozen)
    fit(whole, data_for(whole), settled)
    assert_same_bits(weights(whole.frozen), base)
    halved = make()
    reporter = Interrupting(after=2)
    with pytest.raises(Interrupted):
        fit(halved, data_for(halved), settled, state=tmp_path, reporter=reporter)
    torch.manual_seed(99)
    resumed, reporter = make(), Interrupting()
    fit(resumed, data_for(resumed), settled, state=tmp_path, reporter=reporter)
    assert reporter.done == 2
    assert_same_bits(weights(resumed.networks), weights(whole.networks))


def test_the_base_and_the_pairs_are_part_of_what_a_run_is(tmp_path: Path) -> None:
    settled = plan(epochs=1)
    fit(ast(), paired(), settled, state=tmp_path)
    for objective, data in ((ast(base=3), paired()), (ast(), paired(seed=5))):
        with pytest.raises(TrainingError, match="another run"):
            fit(objective, data, settled, state=tmp_path)
    fit(ast(), paired(), settled, state=tmp_path)
