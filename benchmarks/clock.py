"""The clock of measurements that compare: it stands still while others have the core."""

from __future__ import annotations

import time

import torch

__all__ = ["clock"]


def clock(device: torch.device) -> float:
    """Seconds: of the process on one CPU thread; on the wall once all is done on a GPU.

    With several threads a process spends more than passes, and the wall's is the one that counts.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()
