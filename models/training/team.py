"""Several processes that train one run together, each on its share of every batch.

Started by ``torchrun``; gradients are averaged by torch's ``DistributedDataParallel``. A team
takes the very steps that one process would take, up to rounding, as long as no network computes
statistics over its batch: batch normalisation sees the share of its own process, and what it
remembers is what the leader saw.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from models.errors import TrainingError
from models.training.device import choose_device
from models.training.objective import Batch, Objective

__all__ = ["ALONE", "Team", "launched"]

# Others wait while the leader downloads a dataset or makes an adversarial set.
PATIENCE = timedelta(days=1)


class Team:
    """This process's place among those that train together.

    Args:
        rank: from 0, which leads: it alone writes and reports.
        size: number of processes.
        device: of this process.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank = rank
        self.size = size
        self._device = device or torch.device("cpu")

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of ``count`` samples; parts differ by one sample at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def losses(self, objective: Objective) -> Callable[[Batch], Mapping[str, Tensor]]:
        """``objective.losses`` whose backward pass averages gradients over the team.

        First, all take over the weights and buffers of the leader.
        """
        if self.size == 1:
            return objective.losses
        return DistributedDataParallel(_Step(objective))

    def mean(self, values: Sequence[float] | Tensor, weight: int) -> list[float]:
        """Means over the team of ``values``, each process's weighted by its ``weight``."""
        if self.size == 1:
            return values.tolist() if isinstance(values, Tensor) else list(values)
        own = torch.as_tensor(values, dtype=torch.float64, device=self._device) * weight
        summed = torch.cat([own, own.new_tensor([weight])])
        distributed.all_reduce(summed)
        means: list[float] = (summed[:-1] / summed[-1]).tolist()
        return means

    def total(self, count: int) -> int:
        """The sum of every process's ``count``."""
        if self.size == 1:
            return count
        summed = torch.tensor([count], device=self._device)
        distributed.all_reduce(summed)
        return int(summed)

    def require_same(self, value: int, otherwise: str) -> None:
        """Refuse processes that do not agree on what lies in the output directory.

        Args:
            value: what this process found there.
            otherwise: what is wrong where values differ; may show ``{most}`` and ``{least}``.

        Raises:
            TrainingError: another process has found another value.
        """
        if self.size == 1:
            return
        extremes = torch.tensor([value, -value], device=self._device)
        distributed.all_reduce(extremes, op=distributed.ReduceOp.MAX)
        most, least = int(extremes[0]), -int(extremes[1])
        if most != least:
            said = otherwise.format(most=most, least=least)
            raise TrainingError(f"{said}: all of them must see the same output directory")

    def copy_buffers(self, networks: Mapping[str, nn.Module]) -> None:
        """Everybody takes over the leader's running statistics."""
        if self.size == 1:
            return
        for network in networks.values():
            for buffer in network.buffers():
                distributed.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            distributed.barrier()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """One after the other through the body, the leader first: what it has made is there."""
        for _ in range(self.rank):
            self.wait()
        yield
        for _ in range(self.size - self.rank):
            self.wait()


class _Step(nn.Module):
    """The losses of an objective as the forward pass of a module that owns its networks."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(dict(objective.networks))
        self._losses = objective.losses

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return dict(self._losses(batch))


ALONE = Team()
"""The usual team: this process."""


@contextmanager
def launched(device: str) -> Iterator[tuple[Team, torch.device]]:
    """The team that ``torchrun`` started this process in, and this process's device.

    Without ``torchrun``, or with one process of it, that is ``ALONE``.

    Args:
        device: ``auto``, ``cpu`` or ``cuda:N``; in a team each process takes the GPU of its own
            local rank, so that N is not to be given.

    Raises:
        TrainingError: no such device, or fewer GPUs than processes on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE, choose_device(device)
        return
    local = int(os.environ["LOCAL_RANK"])
    if device.startswith("cuda:"):
        raise TrainingError(f"device: each of {size} processes takes its own, say cuda or auto")
    own = choose_device(device)
    if own.type == "cuda":
        own = choose_device(f"cuda:{local}")
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Team(distributed.get_rank(), size, own), own
    finally:
        distributed.destroy_process_group()
