"""kill -9 between two steps, for every objective: the run that goes on ends with the same weights.

Victims are forked from a server that has read the libraries in: a process of its own for each, at
the price of starting one.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from models.training.loop import fit
from models.training.objective import Objective
from models.training.plan import Plan
from tests.training.objectives import OBJECTIVES, data_for
from tests.training.toys import Interrupting, assert_same_bits, plan, weights

AT = (2, 3)  # epoch, step


class Stuck(Interrupting):
    """Says that it is between two steps, and stays there."""

    def __init__(self, told: Path) -> None:
        super().__init__()
        self.told = told

    def step(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        if (epoch, step) == AT:
            self.told.touch()
            time.sleep(600)


def settled(deterministic: bool) -> Plan:
    return plan(epochs=3, combiner="pcgrad", augment="crop-flip", deterministic=deterministic)


def get_stuck(kind: str, deterministic: bool, state: Path) -> None:
    torch.set_num_threads(1)
    objective = OBJECTIVES[kind]()
    reporter = Stuck(state / "told")
    fit(objective, data_for(objective), settled(deterministic), state=state, reporter=reporter)


def ended(objective: Objective, deterministic: bool) -> dict[str, torch.Tensor]:
    fit(objective, data_for(objective), settled(deterministic))
    return weights(objective.networks)


@pytest.mark.parametrize(
    ("kind", "deterministic"), [*((kind, False) for kind in OBJECTIVES), ("ini", True)]
)
def test_kill_9_between_two_steps_changes_nothing(
    kind: str, deterministic: bool, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_kill"])
    process = context.Process(target=get_stuck, args=(kind, deterministic, tmp_path))
    process.start()
    deadline = time.monotonic() + 120
    while not (tmp_path / "told").exists():
        assert time.monotonic() < deadline
        assert process.exitcode is None
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    expected = ended(OBJECTIVES[kind](), deterministic)
    torch.manual_seed(99)
    resumed = OBJECTIVES[kind]()
    reporter = Interrupting()
    fit(resumed, data_for(resumed), settled(deterministic), state=tmp_path, reporter=reporter)
    assert reporter.done == 1  # the epoch before the one it was killed in
    assert_same_bits(weights(resumed.networks), expected)
