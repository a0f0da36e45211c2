"""One pass over the training images, and the look at the validation images after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.training.batches import batches
from models.training.combiner import Combiner
from models.training.data import TrainingData
from models.training.deterministic import deterministic
from models.training.evaluate import accuracy, probabilities
from models.training.finite import (
    require_finite_gradients,
    require_finite_losses,
    require_finite_weights,
)
from models.training.metrics import Metrics
from models.training.objective import Batch, Objective
from models.training.order import derive_seed, generator
from models.training.plan import Plan
from models.training.precision import LossScale, computing_in
from models.training.progress import Reporter
from models.training.schedule import learning_rate
from models.training.team import Team

__all__ = ["Run", "run_epoch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What stays the same from one epoch to the next.

    Attributes:
        objective: whose networks are trained, on ``device``.
        losses: of the objective, as the team computes them.
        evaluated: the network judged on validation data, if there is any.
        data: of the run.
        plan: of the run.
        optimiser: over the parameters of all networks, in one group.
        combiner: makes gradients of losses.
        scale: of float16's losses.
        reporter: told of every step.
        metrics: told of every step.
        device: of this process.
        team: the processes that train together.
    """

    objective: Objective
    losses: Callable[[Batch], Mapping[str, Tensor]]
    evaluated: nn.Module | None
    data: TrainingData
    plan: Plan
    optimiser: torch.optim.Optimizer
    combiner: Combiner
    scale: LossScale
    reporter: Reporter
    metrics: Sequence[Metrics]
    device: torch.device
    team: Team


def run_epoch(run: Run, epoch: int) -> tuple[dict[str, float], float | None]:
    """Train for an epoch and look at the result.

    Args:
        run: what is trained, and how.
        epoch: from 1.

    Returns:
        The mean over the epoch's samples of each named loss; and the accuracy on the validation
        images, where there are any.

    Raises:
        NotFiniteError: a loss or gradient became NaN or infinite.
        TrainingError: the plan is deterministic and a layer cannot be.
    """
    settled = deterministic(run.plan.deterministic)
    with settled, _seeded(run.plan.seed, epoch, run.device, run.team):
        losses = _train(run, epoch)
        require_finite_weights(run.objective.networks, epoch)
        return losses, _validate(run.evaluated, run.data, run.device, run.team)


def _train(run: Run, epoch: int) -> dict[str, float]:
    """One pass over the epoch's images; the mean over samples of each named loss."""
    plan, team, images = run.plan, run.team, run.data.shown
    trained, frozen = run.objective.networks, run.objective.frozen
    for network in trained.values():
        network.train()
    group = run.optimiser.param_groups[0]
    parameters = group["params"]
    steps = plan.steps(images)
    totals: dict[str, float] = {}
    with computing_in(plan.precision, (*trained.values(), *frozen.values()), run.device):
        shares = batches(run.data, plan, epoch, device=run.device, team=team)
        for step, batch in enumerate(shares, start=1):
            done = epoch - 1 + (step - 1) / steps
            rate = learning_rate(plan.schedule, plan.optimiser.lr, done=done, epochs=plan.epochs)
            group["lr"] = rate
            losses, values, count = _losses(run, batch)
            require_finite_losses(values, epoch, step)
            run.optimiser.zero_grad(set_to_none=True)
            draws = generator(plan.seed, "combiner", epoch, step)
            run.combiner.backward(run.scale.scaled(losses), parameters, draws)
            run.scale.unscale(run.optimiser)
            if not run.scale.enabled:  # float16 leaves out steps that overflow
                require_finite_gradients(run.objective, batch, parameters, epoch, step)
            if plan.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, plan.clip_norm)
            run.scale.step(run.optimiser)

            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + value * count
            run.reporter.step(epoch, step, values)
            for metric in run.metrics:
                metric.step((epoch - 1) * steps + step, rate, values)
    team.copy_buffers(trained)
    return {name: total / images for name, total in totals.items()}


def _losses(run: Run, batch: Batch) -> tuple[Mapping[str, Tensor], dict[str, float], int]:
    """Losses to differentiate, their means over the team's batch, and how large that is."""
    losses, own = run.losses(batch), len(batch.images)
    # One transfer from the device for all of them.
    stacked = torch.stack([loss.detach() for loss in losses.values()])
    values = dict(zip(losses, run.team.mean(stacked, own), strict=True))
    if run.team.size == 1:
        return losses, values, own
    # Gradients are averaged with equal weights, shares may differ by a sample.
    count = run.team.total(own)
    return {n: loss * (own * run.team.size / count) for n, loss in losses.items()}, values, count


def _validate(
    network: nn.Module | None, data: TrainingData, device: torch.device, team: Team
) -> float | None:
    if network is None or data.validation_images is None or data.validation_targets is None:
        return None
    share = team.share(len(data.validation_images))
    images, targets = data.validation_images[share], data.validation_targets[share]
    right = accuracy(probabilities(network, images, device=device), targets) if len(images) else 0.0
    return team.mean([right], len(images))[0]


@contextmanager
def _seeded(seed: int, epoch: int, device: torch.device, team: Team) -> Iterator[None]:
    """Seed torch's own generators, which dropout draws from, and put them back afterwards."""
    # Processes of a team drop other units; the leader those that it would drop alone.
    place = (epoch, team.rank) if team.rank else (epoch,)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(seed, "network", *place))
        yield
