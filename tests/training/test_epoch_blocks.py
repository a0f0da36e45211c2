"""Runs that show other images in every epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.errors import TrainingError
from models.training.batches import batches
from models.training.cross_entropy import CrossEntropy
from models.training.data import TrainingData
from models.training.loop import fit
from tests.training.toys import (
    Interrupted,
    Interrupting,
    assert_same_bits,
    network,
    plan,
    problem,
    weights,
)

BLOCKS = replace(problem(count=160), per_epoch=40)


def test_each_epoch_shows_its_own_block_and_begins_again_after_the_last() -> None:
    images = torch.arange(12, dtype=torch.uint8).reshape(12, 1, 1, 1)
    data = TrainingData(images, torch.arange(12), per_epoch=4, paired=images.clone())
    settled = plan(batch_size=2, augment="none")
    for epoch, wanted in ((1, range(4)), (2, range(4, 8)), (3, range(8, 12)), (4, range(4))):
        seen = []
        for batch in batches(data, settled, epoch, device="cpu"):
            assert batch.paired is not None
            assert torch.equal(batch.paired, batch.images)
            assert torch.equal((batch.images * 255).round().flatten().long(), batch.targets)
            seen += batch.targets.tolist()
        assert sorted(seen) == list(wanted)


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = network(dropout=0.3)
    fitted = fit(CrossEntropy(whole), BLOCKS, plan())
    assert len(fitted.history) == 4
    cut = network(dropout=0.3)
    with pytest.raises(Interrupted):
        fit(
            CrossEntropy(cut), BLOCKS, plan(), state=tmp_path, reporter=Interrupting(after=2)
        )  # fmt: skip
    resumed = network(dropout=0.3)
    fit(CrossEntropy(resumed), BLOCKS, plan(), state=tmp_path)
    assert_same_bits(weights({"victim": whole}), weights({"victim": resumed}))


def test_blocks_are_part_of_what_a_run_is(tmp_path: Path) -> None:
    fit(CrossEntropy(network()), BLOCKS, plan(epochs=1), state=tmp_path)
    with pytest.raises(TrainingError, match="checkpoint of another run"):
        fit(
            CrossEntropy(network()),
            replace(BLOCKS, per_epoch=80),
            plan(epochs=1),
            state=tmp_path,
        )


def test_the_loss_of_an_epoch_is_the_mean_over_what_it_showed() -> None:
    data = replace(BLOCKS, targets=BLOCKS.targets.clone())
    still = plan(epochs=1, optimiser={"kind": "sgd", "lr": 1e-12, "momentum": 0.0})
    first = fit(CrossEntropy(network()), data, still).history[0].loss
    alone = TrainingData(BLOCKS.images[:40], BLOCKS.targets[:40])
    assert first == pytest.approx(fit(CrossEntropy(network()), alone, still).history[0].loss)


@pytest.mark.parametrize("per_epoch", [0, -1, 7, 320])
def test_images_that_do_not_fill_their_epochs_are_refused(per_epoch: int) -> None:
    with pytest.raises(TrainingError, match="160 images do not make whole epochs"):
        replace(BLOCKS, per_epoch=per_epoch)
