"""The state of a run on disk: one safetensors file, replaced whole after every epoch.

Weights, buffers and the optimiser's state are tensors in it; the rest is JSON in its header.
There is no random state to keep: ``models.training.order`` derives every draw from the seed and
the place in the run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from models.errors import TrainingError
from models.training.atomic import write_atomically
from models.training.data import TrainingData
from models.training.history import EpochRecord, write_history
from models.training.objective import Objective
from models.training.plan import Plan

__all__ = ["Best", "Checkpoint", "Store", "kept_history", "restore", "run_digest", "snapshot"]

FILE = "checkpoint.safetensors"
FORMAT = 2

Weights = dict[str, Tensor]
"""Parameters and buffers of all networks, named ``ROLE/NAME``."""


@dataclass(frozen=True, slots=True)
class Best:
    """The best epoch on validation data so far, and its weights."""

    epoch: int
    accuracy: float
    weights: Weights


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run was after an epoch.

    Attributes:
        weights: of all networks.
        optimiser: its state by parameter.
        history: of the epochs so far.
        best: where the best epoch on validation data is kept.
        scale: of float16's losses, where there is one.
    """

    weights: Weights
    optimiser: dict[int, dict[str, Any]]
    history: tuple[EpochRecord, ...]
    best: Best | None
    scale: Mapping[str, float] = dataclasses.field(default_factory=dict)


def snapshot(networks: Mapping[str, nn.Module]) -> Weights:
    """A copy on the CPU of every parameter and persistent buffer."""
    return {
        f"{role}/{name}": tensor.detach().cpu().contiguous().clone()
        for role, network in networks.items()
        for name, tensor in network.state_dict().items()
    }


def run_digest(objective: Objective, data: TrainingData, plan: Plan) -> str:
    """What identifies a run: its plan, its data, its objective and the weights it starts from."""
    digest = hashlib.sha256(
        json.dumps(
            {
                "format": FORMAT,
                "plan": plan.model_dump(mode="json"),
                "objective": f"{type(objective).__module__}.{type(objective).__qualname__}",
                "options": dict(objective.options()),
            },
            sort_keys=True,
        ).encode()
    )
    if data.per_epoch is not None:
        digest.update(f"data/per_epoch {data.per_epoch}".encode())
    fields = (field.name for field in dataclasses.fields(data) if field.name != "per_epoch")
    tensors = {f"data/{name}": getattr(data, name) for name in fields}
    for role, network in chain(objective.networks.items(), objective.frozen.items()):
        # Buffers that are not saved (the normalisation) decide what a run becomes as well.
        for name, tensor in chain(network.named_parameters(), network.named_buffers()):
            tensors[f"{role}/{name}"] = tensor.detach().cpu()
    for name, tensor in tensors.items():
        if tensor is not None:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Store:
    """Where a run keeps its state, or nowhere.

    Args:
        directory: made if it is not there; None keeps nothing.
        objective: its present weights are those that the run starts from.
        data: what it is trained on.
        plan: how.
    """

    def __init__(
        self, directory: Path | None, objective: Objective, data: TrainingData, plan: Plan
    ) -> None:
        self._directory = directory
        self._digest = "" if directory is None else run_digest(objective, data, plan)

    def load(self) -> Checkpoint | None:
        """The checkpoint of this run, or None if there is none yet.

        Raises:
            TrainingError: if the one there belongs to another run, or cannot be read.
        """
        if self._directory is None or not (self._directory / FILE).exists():
            return None
        path = self._directory / FILE
        with _read(path) as file:
            header = json.loads((file.metadata() or {})["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            digest = header["digest"]
        if digest != self._digest:
            raise TrainingError(
                f"{self._directory} holds the checkpoint of another run (other data, plan, "
                "objective or first weights): start over with --restart, or delete that checkpoint"
            )
        return _decoded(header, tensors)

    def save(
        self,
        networks: Mapping[str, nn.Module],
        optimiser: torch.optim.Optimizer,
        history: Sequence[EpochRecord],
        best: Best | None,
        scale: Mapping[str, float] = {},
    ) -> None:
        """Replace the checkpoint; a kill leaves the old one or the new one."""
        if self._directory is None:
            return
        moments = optimiser.state_dict()["state"]
        checkpoint = Checkpoint(snapshot(networks), moments, tuple(history), best, scale)
        self._directory.mkdir(parents=True, exist_ok=True)
        header, tensors = _encoded(checkpoint)
        header["digest"] = self._digest
        write_atomically(self._directory / FILE, save(tensors, {"run": json.dumps(header)}))
        write_history(self._directory / "history.csv", checkpoint.history)


def kept_history(directory: Path) -> tuple[EpochRecord, ...]:
    """The epochs of the run whose state is kept in ``directory``: no tensor is read.

    Raises:
        TrainingError: the checkpoint there cannot be read.
    """
    path = directory / FILE
    if not path.exists():
        return ()
    with _read(path) as file:
        return _records(json.loads((file.metadata() or {})["run"]))


@contextmanager
def _read(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"the checkpoint {path} cannot be read ({error}): delete it to start over"
        ) from error


def restore(networks: Mapping[str, nn.Module], weights: Weights) -> None:
    """Put a ``snapshot`` back, in place."""
    for role, network in networks.items():
        network.load_state_dict(_under(f"{role}/", weights))


def _encoded(checkpoint: Checkpoint) -> tuple[dict[str, Any], Weights]:
    tensors = {f"weights/{name}": tensor for name, tensor in checkpoint.weights.items()}
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in checkpoint.optimiser.items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser/{index}/{name}"] = value.detach().cpu().contiguous().clone()
            else:
                scalars.setdefault(str(index), {})[name] = value
    best = checkpoint.best
    if best is not None:
        tensors |= {f"best/{name}": tensor.clone() for name, tensor in best.weights.items()}
    header = {
        "optimiser": scalars,
        "history": [dataclasses.asdict(record) for record in checkpoint.history],
        "best": None if best is None else [best.epoch, best.accuracy],
        "scale": dict(checkpoint.scale),
    }
    return header, tensors


def _decoded(header: dict[str, Any], tensors: Weights) -> Checkpoint:
    optimiser: dict[int, dict[str, Any]] = {
        int(index): dict(entries) for index, entries in header["optimiser"].items()
    }
    for name, tensor in _under("optimiser/", tensors).items():
        index, _, entry = name.partition("/")
        optimiser.setdefault(int(index), {})[entry] = tensor
    best = header["best"]
    return Checkpoint(
        weights=_under("weights/", tensors),
        optimiser=optimiser,
        history=_records(header),
        best=None if best is None else Best(best[0], best[1], _under("best/", tensors)),
        scale=header["scale"],
    )


def _records(header: Mapping[str, Any]) -> tuple[EpochRecord, ...]:
    return tuple(EpochRecord(**record) for record in header["history"])


def _under(prefix: str, tensors: Weights) -> Weights:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
