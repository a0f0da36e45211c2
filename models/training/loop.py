"""The one training loop.

Everything random is a function of ``(seed, epoch, step)``: a run that was killed and started again
ends, on a CPU, with the very weights it would have had.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from models.training.checkpoint import Best, Checkpoint, Store, restore, snapshot
from models.training.combiner import COMBINERS
from models.training.data import TrainingData
from models.training.deterministic import deterministic
from models.training.epoch import Run, run_epoch
from models.training.history import EpochRecord
from models.training.kept_memory import kept_memory
from models.training.metrics import Metrics
from models.training.objective import Objective
from models.training.optimiser import build_optimiser
from models.training.plan import Plan
from models.training.precision import LossScale
from models.training.progress import Reporter, Silent
from models.training.suitability import check, check_labels
from models.training.team import ALONE, Team

__all__ = ["Fitted", "fit"]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of a run; the networks of its objective hold the weights of ``epoch``.

    Attributes:
        history: one record per epoch, those before an interruption included.
        epoch: whose weights were kept, from 1.
        seconds: spent on epochs in all.
    """

    history: tuple[EpochRecord, ...]
    epoch: int
    seconds: float


def fit(
    objective: Objective,
    data: TrainingData,
    plan: Plan,
    *,
    state: Path | None = None,
    reporter: Reporter | None = None,
    metrics: Sequence[Metrics] = (),
    device: torch.device | str = "cpu",
    team: Team = ALONE,
) -> Fitted:
    """Train the networks of ``objective`` on ``data``, in place.

    Args:
        objective: the networks and their losses.
        data: uint8 images and targets, converted a batch at a time.
        plan: everything else.
        state: where to keep ``checkpoint.safetensors`` and ``history.csv``, written after every
            epoch. If a checkpoint of this very run is there, the run goes on after it.
        reporter: told of every step and epoch.
        metrics: where else steps and epochs are written down.
        device: where to train; the networks are moved there, and stay.
        team: the processes that train together. All call this with the same arguments but
            ``device``; the leader alone writes, reports, and is sure to hold the chosen weights.

    Returns:
        The history and the epoch chosen. The networks are left in evaluation mode.

    Raises:
        NotFiniteError: a loss or gradient became NaN or infinite; the weights are those before
            that step.
        TrainingError: data, plan, objective and device do not go together, or ``state`` holds
            another run.
    """
    device = torch.device(device)
    evaluated = check(objective, data, plan, device, team)
    store = Store(state, objective, data, plan)
    checkpoint = store.load()
    networks = objective.networks
    layout = torch.channels_last if plan.channels_last else torch.contiguous_format
    for network in (*networks.values(), *objective.frozen.values()):
        network.to(device).to(memory_format=layout)
    with deterministic(plan.deterministic):  # cuBLAS settles how it works at its first use
        check_labels(objective, data, device)

    parameters = list({id(p): p for n in networks.values() for p in n.parameters()}.values())
    optimiser = build_optimiser(plan.optimiser, parameters)
    scale = LossScale(plan.precision, device)
    history: list[EpochRecord] = []
    best: Best | None = None
    if checkpoint is not None:
        _resume(checkpoint, networks, optimiser, scale)
        history, best = list(checkpoint.history), checkpoint.best
    team.require_same(
        len(history),
        "one process would go on after epoch {most} and another after {least}",
    )
    run = Run(
        objective=objective,
        losses=team.losses(objective),
        evaluated=evaluated,
        data=data,
        plan=plan,
        optimiser=optimiser,
        combiner=COMBINERS[plan.combiner](),
        scale=scale,
        reporter=reporter if reporter is not None and team.leads else Silent(),
        metrics=metrics if team.leads else (),
        device=device,
        team=team,
    )
    with _told(run, history), kept_memory(device):
        while len(history) < plan.epochs and not _exhausted(plan, history, best):
            epoch, began = len(history) + 1, time.perf_counter()
            losses, score = run_epoch(run, epoch)
            better = score is not None and (best is None or score > best.accuracy)
            if better and score is not None and plan.selection == "best-on-validation":
                best = Best(epoch, score, snapshot(networks))
            rate = float(optimiser.param_groups[0]["lr"])
            history.append(EpochRecord(epoch, rate, losses, score, time.perf_counter() - began))
            if team.leads:
                store.save(networks, optimiser, history, best, scale.state())
            for metric in run.metrics:
                metric.epoch(history)
            run.reporter.epoch(history[-1])

    if best is not None:
        restore(networks, best.weights)
    for network in networks.values():
        network.to(memory_format=torch.contiguous_format).eval()
    seconds = sum(record.seconds for record in history)
    return Fitted(tuple(history), len(history) if best is None else best.epoch, seconds)


def _exhausted(plan: Plan, history: Sequence[EpochRecord], best: Best | None) -> bool:
    if plan.early_stop is None or best is None:
        return False
    return len(history) - best.epoch >= plan.early_stop.patience


def _resume(
    checkpoint: Checkpoint,
    networks: Mapping[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    scale: LossScale,
) -> None:
    restore(networks, checkpoint.weights)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": checkpoint.optimiser, "param_groups": groups})
    scale.restore(checkpoint.scale)


@contextmanager
def _told(run: Run, history: Sequence[EpochRecord]) -> Iterator[None]:
    """Between the beginning and the end of what is told to the reporter and the metrics."""
    steps = run.plan.steps(run.data.shown)
    with ExitStack() as ends:
        for metric in run.metrics:
            metric.begin(history, steps)
            ends.callback(metric.close)
        run.reporter.start(run.plan.epochs, steps, len(history))
        ends.callback(run.reporter.stop)
        yield
