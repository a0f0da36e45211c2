"""The one training loop.

Everything random is a function of ``(seed, epoch, step)``: a run that was killed and started again
ends, on a CPU, with the very weights it would have had.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.errors import NotFiniteError, TrainingError
from models.training.batches import batches
from models.training.checkpoint import Best, Store, restore, snapshot
from models.training.combiner import COMBINERS, Combiner
from models.training.data import TrainingData
from models.training.evaluate import accuracy, probabilities
from models.training.history import EpochRecord
from models.training.objective import Objective
from models.training.order import derive_seed, generator
from models.training.plan import Adam, Cosine, Plan, Sgd
from models.training.progress import Reporter, Silent
from models.training.schedule import learning_rate

__all__ = ["Fitted", "fit"]

EVALUATED = ("victim", "clone")


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
    device: torch.device | str = "cpu",
) -> Fitted:
    """Train the networks of ``objective`` on ``data``, in place.

    Args:
        objective: the networks and their losses.
        data: uint8 images and targets, converted a batch at a time.
        plan: everything else.
        state: where to keep ``checkpoint.safetensors`` and ``history.csv``, written after every
            epoch. If a checkpoint of this very run is there, the run goes on after it.
        reporter: told of every step and epoch.
        device: where to train; the networks are moved there, and stay.

    Returns:
        The history and the epoch chosen. The networks are left in evaluation mode.

    Raises:
        NotFiniteError: a loss became NaN or infinite; the weights are those before that step.
        TrainingError: data and plan or objective do not fit, or ``state`` holds another run.
    """
    evaluated = _check(objective, data, plan)
    selecting = plan.selection == "best-on-validation"
    reporter = reporter or Silent()
    store = Store(state, objective, data, plan)
    checkpoint = store.load()

    networks = objective.networks
    for held in (networks, objective.frozen):
        for network in held.values():
            network.to(device)
        _lay_out(held, torch.channels_last if plan.channels_last else torch.contiguous_format)
    parameters = list({id(p): p for n in networks.values() for p in n.parameters()}.values())
    optimiser = _optimiser(plan, parameters)
    combiner = COMBINERS[plan.combiner]()
    history: list[EpochRecord] = []
    best: Best | None = None
    if checkpoint is not None:
        restore(networks, checkpoint.weights)
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": checkpoint.optimiser, "param_groups": groups})
        history, best = list(checkpoint.history), checkpoint.best

    reporter.start(plan.epochs, plan.steps(len(data.images)), len(history))
    try:
        for epoch in range(len(history) + 1, plan.epochs + 1):
            began = time.perf_counter()
            with _seeded(derive_seed(plan.seed, "network", epoch), device):
                losses = _train_epoch(
                    objective=objective,
                    data=data,
                    plan=plan,
                    epoch=epoch,
                    optimiser=optimiser,
                    combiner=combiner,
                    reporter=reporter,
                    device=device,
                )
            _require_finite_weights(networks, epoch)
            score = _validate(evaluated, data, device)
            if selecting and score is not None and (best is None or score > best.accuracy):
                best = Best(epoch, score, snapshot(networks))
            rate = float(optimiser.param_groups[0]["lr"])
            history.append(EpochRecord(epoch, rate, losses, score, time.perf_counter() - began))
            store.save(networks, optimiser, history, best)
            reporter.epoch(history[-1])
    finally:
        reporter.stop()

    if best is not None:
        restore(networks, best.weights)
    _lay_out(networks, torch.contiguous_format)
    for network in networks.values():
        network.eval()
    seconds = sum(record.seconds for record in history)
    return Fitted(tuple(history), plan.epochs if best is None else best.epoch, seconds)


def _train_epoch(
    *,
    objective: Objective,
    data: TrainingData,
    plan: Plan,
    epoch: int,
    optimiser: torch.optim.Optimizer,
    combiner: Combiner,
    reporter: Reporter,
    device: torch.device | str,
) -> dict[str, float]:
    """One pass over the training images; the mean over samples of each named loss."""
    for network in objective.networks.values():
        network.train()
    group = optimiser.param_groups[0]
    steps = plan.steps(len(data.images))
    totals: dict[str, float] = {}
    for step, batch in enumerate(batches(data, plan, epoch, device=device), start=1):
        done = epoch - 1 + (step - 1) / steps
        group["lr"] = learning_rate(plan.schedule, plan.optimiser.lr, done=done, epochs=plan.epochs)
        losses = objective.losses(batch)
        values = _finite(losses, epoch, step)
        optimiser.zero_grad(set_to_none=True)
        draws = generator(plan.seed, "combiner", epoch, step)
        combiner.backward(losses, group["params"], draws)
        if plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(group["params"], plan.clip_norm)
        optimiser.step()

        for name, value in values.items():
            totals[name] = totals.get(name, 0.0) + value * len(batch.images)
        reporter.step(epoch, step, values)
    return {name: total / len(data.images) for name, total in totals.items()}


def _validate(
    network: nn.Module | None, data: TrainingData, device: torch.device | str
) -> float | None:
    if network is None or data.validation_images is None or data.validation_targets is None:
        return None
    answers = probabilities(network, data.validation_images, device=device)
    return accuracy(answers, data.validation_targets)


def _check(objective: Objective, data: TrainingData, plan: Plan) -> nn.Module | None:
    """Refuse what cannot work before an epoch is spent; return the network to evaluate."""
    if objective.needs_ood and data.ood is None:
        raise TrainingError(f"the objective {objective.kind!r} needs out-of-distribution images")
    if data.ood is not None and not objective.needs_ood:
        raise TrainingError(
            f"the objective {objective.kind!r} has no use for out-of-distribution images"
        )
    if objective.needs_paired != (data.paired is not None):
        state = "needs" if objective.needs_paired else "has no use for"
        raise TrainingError(f"the objective {objective.kind!r} {state} paired images")
    if isinstance(plan.schedule, Cosine) and plan.schedule.warmup_epochs >= plan.epochs:
        raise TrainingError(
            f"schedule.warmup_epochs is {plan.schedule.warmup_epochs:g} but the run has only "
            f"{plan.epochs} epochs"
        )
    if data.validation_images is None:
        if plan.selection == "best-on-validation":
            raise TrainingError("selection is best-on-validation but there is no validation data")
        return None
    for role in EVALUATED:
        if role in objective.networks:
            return objective.networks[role]
    raise TrainingError(
        f"the objective {objective.kind!r} trains no network called {' or '.join(EVALUATED)}, "
        "so there is none to evaluate on the validation data"
    )


def _optimiser(plan: Plan, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    match plan.optimiser:
        case Sgd(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=decay):
            return torch.optim.SGD(
                parameters, lr, momentum=momentum, nesterov=nesterov, weight_decay=decay
            )
        case Adam(lr=lr, weight_decay=decay):
            return torch.optim.Adam(parameters, lr, weight_decay=decay)


def _finite(losses: Mapping[str, Tensor], epoch: int, step: int) -> dict[str, float]:
    """The losses as numbers: one transfer from the device for all of them."""
    numbers = torch.stack([loss.detach() for loss in losses.values()]).tolist()
    values = dict(zip(losses, numbers, strict=True))
    for name, value in values.items():
        if not math.isfinite(value):
            raise NotFiniteError(
                f"the loss {name!r} became {value} in epoch {epoch}, step {step}: "
                "try a lower learning rate or clip_norm"
            )
    return values


def _require_finite_weights(networks: Mapping[str, nn.Module], epoch: int) -> None:
    """Refuse to go on, and to save, once weights or running statistics are lost.

    The losses of the last step were finite; what the step did to the weights shows only here.
    """
    for role, network in networks.items():
        for name, value in network.state_dict().items():
            if value.is_floating_point() and not value.isfinite().all():
                raise NotFiniteError(
                    f"{name} of the {role} is no longer finite after epoch {epoch}: try a lower "
                    "learning rate or clip_norm"
                )


def _lay_out(networks: Mapping[str, nn.Module], layout: torch.memory_format) -> None:
    for network in networks.values():
        network.to(memory_format=layout)


@contextmanager
def _seeded(seed: int, device: torch.device | str) -> Iterator[None]:
    """Seed torch's own generators, which dropout draws from, and put them back afterwards."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
