from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from defenses.training.isolation_induction import IsolationInduction
from models.architectures import build
from models.card import Normalisation
from models.errors import TrainingError
from models.training.batches import batches
from models.training.cross_entropy import CrossEntropy
from models.training.data import TrainingData
from models.training.loop import fit
from models.training.plan import Plan
from models.training.team import Team, launched
from tests.training.toys import Interrupting, network, plan, problem, weights


def lenet() -> CrossEntropy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return CrossEntropy(
            build(
                "lenet",
                channels=1,
                size=(28, 28),
                outputs=10,
                normalisation=Normalisation(mean=(0.5,), std=(0.5,)),
            )
        )


def data() -> TrainingData:
    draws = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (203, 1, 28, 28), dtype=torch.uint8, generator=draws)
    labels = torch.randint(0, 10, (203,), generator=draws)
    return TrainingData(images, labels, images[:33], labels[:33])


# Batches of 29: the two shares of one differ by a sample.
PLAN = Plan.model_validate(
    {
        "epochs": 3,
        "batch_size": 32,
        "optimiser": {"kind": "sgd", "lr": 0.05},
        "schedule": {"kind": "cosine"},
        "augment": "shift",
        "selection": "best-on-validation",
    }
)


def process(place: Path) -> None:
    """What each process of a team runs."""
    torch.set_num_threads(1)
    with launched("cpu") as (team, device):
        objective = lenet()
        state = place / "state"
        reporter = Interrupting()
        fitted = fit(
            objective, data(), PLAN, state=state, reporter=reporter, device=device, team=team
        )
        told: dict[str, int | str] = {
            "rank": team.rank,
            "calls": len(reporter.calls),
            "epoch": fitted.epoch,
        }
        try:
            team.require_same(team.rank, "{least} and {most}")
        except TrainingError as error:
            told["refused"] = str(error)
        team.require_same(7, "never")
        (place / f"told-{team.rank}.json").write_text(json.dumps(told))
        if team.leads:
            losses = [record.loss for record in fitted.history]
            (place / "losses.json").write_text(json.dumps(losses))
            save_file(weights(objective.networks), place / "weights.safetensors")


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--no-python", sys.executable, "-c"]
    command += ["import sys, pathlib; from tests.training.test_team import process"]
    command[-1] += "; process(pathlib.Path(sys.argv[1]))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run(
        [*command, str(tmp_path)], check=True, env=environment, timeout=120, capture_output=True
    )
    alone = lenet()
    fitted = fit(alone, data(), PLAN)
    together = load_file(tmp_path / "weights.safetensors")
    for name, tensor in weights(alone.networks).items():
        assert (tensor - together[name]).abs().max() < 1e-5, name
    losses = json.loads((tmp_path / "losses.json").read_text())
    assert losses == pytest.approx([record.loss for record in fitted.history], abs=1e-5)
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in range(2)]
    refused = "0 and 1: all of them must see the same output directory"
    assert told[0]["calls"] > 0
    assert told[0]["refused"] == refused
    # Only the leader reports.
    assert told[1] == {"rank": 1, "calls": 0, "epoch": fitted.epoch, "refused": refused}
    assert (tmp_path / "state" / "checkpoint.safetensors").exists()


def test_shares_make_up_the_batch() -> None:
    plans = plan(augment="crop-flip")
    whole = list(batches(problem(ood=True), plans, 1, device="cpu"))
    parts = [
        list(batches(problem(ood=True), plans, 1, device="cpu", team=Team(rank, 3)))
        for rank in range(3)
    ]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([share.images for share in shares]))
        assert torch.equal(batch.targets, torch.cat([share.targets for share in shares]))
        strange: list[Tensor] = [share.ood for share in shares if share.ood is not None]
        assert batch.ood is not None
        assert torch.equal(batch.ood, torch.cat(strange))
        assert max(map(len, strange)) - min(map(len, strange)) <= 1


def test_what_a_team_cannot_train_is_refused_before_it_meets() -> None:
    pair = Team(0, 2)
    clones = IsolationInduction(network(1), network(2))
    with pytest.raises(TrainingError, match="the objective 'ini' is trained by one process, not b"):
        fit(clones, problem(ood=True), plan(), team=pair)
    with pytest.raises(TrainingError, match="combiner: pcgrad needs the gradient of each loss"):
        fit(CrossEntropy(network()), problem(), plan(combiner="pcgrad"), team=pair)
    with pytest.raises(TrainingError, match="a batch of 30 cannot be shared among 31 processes"):
        fit(CrossEntropy(network()), problem(), plan(), team=Team(0, 31))
    with pytest.raises(
        TrainingError, match=r"plan\.batch_size: .* one image for one of 16 process"
    ):
        fit(CrossEntropy(network()), problem(), plan(), team=Team(0, 16))


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with launched("cpu") as (team, device):
        assert (team.rank, team.size, device.type) == (0, 1, "cpu")
        assert team.mean([0.25], 3) == [0.25]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(TrainingError, match="each of 2 processes takes its own"):
        launched("cuda:1").__enter__()
