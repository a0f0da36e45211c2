"""Where to train."""

from __future__ import annotations

import re

import torch

from models.errors import TrainingError

__all__ = ["asked_device", "choose_device"]


def choose_device(name: str) -> torch.device:
    """The device called ``auto`` (the first GPU if there is one), ``cpu`` or ``cuda:N``.

    Raises:
        TrainingError: no such name, or no such device on this machine.
    """
    asked_device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        return torch.device("cpu")
    # By hand: PyTorch counts no further than 127, and takes what is beyond for another device.
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        raise TrainingError(f"device {name} is not there: this machine has {count} CUDA devices")
    return torch.device("cuda", index)


def asked_device(name: str) -> str:
    """``name``, if some machine may have it: for who trains on another one.

    Raises:
        TrainingError: it is not ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` with N up to 999.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", name):
        raise TrainingError(f"device must be auto, cpu or cuda:N with N up to 999, not {name!r}")
    return name
