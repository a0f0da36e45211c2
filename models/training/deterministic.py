"""The same bits again: torch's deterministic kernels, for as long as a run lasts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.errors import TrainingError

__all__ = ["deterministic"]

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
REFUSAL = "does not have a deterministic implementation"


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, if ``wanted``, only kernels that give the same bits again on the same machine.

    Settings that were there before are put back. cuBLAS reads its workspace from the environment
    when a process first uses it: what used CUDA before may have fixed it.

    Raises:
        TrainingError: a layer has no deterministic kernel on this device.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    tuned, workspace = torch.backends.cudnn.benchmark, os.environ.get(WORKSPACE)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    os.environ.setdefault(WORKSPACE, ":4096:8")
    try:
        yield
    except RuntimeError as error:
        if REFUSAL not in str(error):
            raise
        layer = str(error).partition(" does not have")[0]
        raise TrainingError(
            f"deterministic: {layer} has no deterministic kernel on this device"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.backends.cudnn.benchmark = tuned
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
