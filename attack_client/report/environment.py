"""What a report was made with: enough to repeat it, nothing that says where."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath

import numpy as np
import torch
from pydantic import JsonValue

__all__ = ["describe_command", "describe_environment"]

SECRETS = ("--api-key", "--operator-key", "--shadow-key")


def describe_environment(device: str = "cpu") -> dict[str, JsonValue]:
    """Versions, machine kind and device; no host name, no path, no user."""
    try:
        ours: str | None = version("intaglio")
    except PackageNotFoundError:
        ours = None
    on_gpu = torch.device(device).type == "cuda"
    return {
        "intaglio": ours,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if on_gpu else None,
    }


def describe_command(arguments: Sequence[str]) -> tuple[str, ...]:
    """A command line without its secrets, and without the path of its program."""
    program = PurePath(arguments[0]) if arguments else PurePath()
    shown = ["python", "-m", program.parent.name] if program.name == "__main__.py" else []
    shown = shown or ([program.name] if arguments else [])
    hide = False
    for argument in arguments[1:]:
        name, equals, _ = argument.partition("=")
        if hide:
            shown.append("***")
        elif name in SECRETS and equals:
            shown.append(f"{name}=***")
        else:
            shown.append(argument)
        hide = not hide and argument in SECRETS
    return tuple(shown)
