from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from defenses.training.adaptive_misinformation import AdaptiveMisinformation
from defenses.training.ensemble_of_diverse_models import EnsembleOfDiverseModels
from defenses.training.isolation_induction import IsolationInduction
from defenses.training.outlier_exposure import OutlierExposure
from models.errors import TrainingError
from models.training.cross_entropy import CrossEntropy
from models.training.loop import fit
from models.training.objective import Objective
from models.training.plan import Adam, Plan
from tests.training.toys import (
    Interrupted,
    Interrupting,
    assert_same_bits,
    network,
    plan,
    problem,
    weights,
)

# And after which of four epochs it is interrupted.
PLANS = {
    "sgd": (plan(), 1),
    "adam": (plan(optimiser=Adam(lr=0.003)), 3),
    "best": (plan(selection="best-on-validation", augment="crop-flip"), 3),
    "channels-last": (plan(channels_last=True), 1),
    "pcgrad": (plan(combiner="pcgrad"), 2),
}


def plain() -> Objective:
    return CrossEntropy(network(dropout=0.3))


def am() -> Objective:
    return AdaptiveMisinformation(network(1, dropout=0.3), network(2, dropout=0.3))


def ini() -> Objective:
    return IsolationInduction(network(1, dropout=0.3), network(2), epsilon=20.0)


def ini_with_a_clone_that_learns() -> Objective:
    return IsolationInduction(network(1, dropout=0.3), network(2), epsilon=20.0, theft=0.5)


def edm() -> Objective:
    return EnsembleOfDiverseModels(network(9), network(1, dropout=0.3), network(2, dropout=0.3))


def outlier_exposure() -> Objective:
    return OutlierExposure(network(1, dropout=0.3))


def trained(objective: Objective, settled: Plan, state: Path | None = None) -> dict[str, Tensor]:
    fit(objective, problem(ood=objective.needs_ood), settled, state=state)
    return weights(objective.networks)


@pytest.mark.parametrize(("settled", "after"), PLANS.values(), ids=PLANS)
@pytest.mark.parametrize(
    "make", [plain, am, edm, ini, ini_with_a_clone_that_learns, outlier_exposure]
)
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    make: type[Objective], settled: Plan, after: int, tmp_path: Path
) -> None:
    expected = trained(make(), settled)
    interrupted = make()
    with pytest.raises(Interrupted):
        fit(
            interrupted,
            problem(ood=interrupted.needs_ood),
            settled,
            state=tmp_path,
            reporter=Interrupting(after=after),
        )
    torch.manual_seed(99)  # another process would not have this one's random state either
    resumed, reporter = make(), Interrupting()
    fitted = fit(
        resumed, problem(ood=resumed.needs_ood), settled, state=tmp_path, reporter=reporter
    )
    assert reporter.done == after
    assert [record.epoch for record in reporter.records] == list(range(after + 1, 5))
    assert [record.epoch for record in fitted.history] == [1, 2, 3, 4]
    assert_same_bits(weights(resumed.networks), expected)


def test_history_is_a_row_per_epoch_across_an_interruption(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit(plain(), problem(), plan(), state=tmp_path, reporter=Interrupting(after=2))
    trained(plain(), plan(), tmp_path)
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,learning_rate,loss,cross_entropy,validation_accuracy,seconds"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3", "4"]


def test_the_checkpoint_of_another_run_is_never_resumed(tmp_path: Path) -> None:
    trained(plain(), plan(epochs=1), tmp_path)
    other_data = problem(count=151)
    for objective, data, settled in (
        (plain(), problem(), plan(epochs=2)),
        (plain(), other_data, plan(epochs=1)),
        (CrossEntropy(network(seed=5)), problem(), plan(epochs=1)),
        (CrossEntropy(network(), role="clone"), problem(), plan(epochs=1)),
    ):
        with pytest.raises(TrainingError, match=r"another run .*: start over with --restart"):
            fit(objective, data, settled, state=tmp_path)


def test_options_and_unsaved_buffers_are_part_of_what_a_run_is(tmp_path: Path) -> None:
    def objective(lambda_oe: float, mean: float) -> Objective:
        victim = network(1)
        victim.register_buffer("mean", torch.tensor(mean), persistent=False)
        return AdaptiveMisinformation(victim, network(2), lambda_oe=lambda_oe)

    data, settled = problem(ood=True), plan(epochs=1)
    fit(objective(1.0, 0.5), data, settled, state=tmp_path)
    for changed in (objective(0.5, 0.5), objective(1.0, 0.4)):
        with pytest.raises(TrainingError, match="another run"):
            fit(changed, data, settled, state=tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_damaged_checkpoint_gives_a_sentence(keep: int, tmp_path: Path) -> None:
    trained(plain(), plan(epochs=1), tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(TrainingError, match=r"cannot be read .*delete it to start over"):
        trained(plain(), plan(epochs=1), tmp_path)


def test_a_failed_write_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(plain(), plan(epochs=1), tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "checkpoint.safetensors").rename(tmp_path / "old")
    with pytest.raises(OSError, match="No space"):
        trained(plain(), plan(epochs=1), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "old"]
    assert (tmp_path / "old").read_bytes() == before


def test_a_network_shared_by_two_roles_is_saved_and_restored(tmp_path: Path) -> None:
    class Shared(CrossEntropy):
        @property
        def networks(self) -> dict[str, nn.Module]:
            return {"victim": self._network, "again": self._network}

    fit(Shared(network()), problem(), plan(epochs=1), state=tmp_path)
    first = load_file(tmp_path / "checkpoint.safetensors")
    module = network()
    fit(Shared(module), problem(), plan(epochs=1), state=tmp_path)
    assert torch.equal(module.state_dict()["0.weight"], first["weights/again/0.weight"])
    save_file({"x": torch.zeros(1)}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(TrainingError, match="cannot be read"):
        fit(Shared(network()), problem(), plan(epochs=1), state=tmp_path)
