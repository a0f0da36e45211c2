"""What honest callers were served, kept on disk: the test set is not asked about twice."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np

from attack_client.honest import Honest
from attack_client.victim_input import TestSet
from models.training.atomic import write_atomically

__all__ = ["honest_digest", "keep_honest", "kept_honest"]

FIGURES = ("accuracy", "latency_p50_ms", "latency_p99_ms", "queries", "disturbed")


def honest_digest(url: str, model: str, test: TestSet, *, latency_requests: int) -> str:
    """Twelve hexadecimal digits that differ with what was asked, and of whom."""
    digest = hashlib.sha256(json.dumps([url, model, latency_requests]).encode())
    digest.update(test.images.tobytes())
    digest.update(test.labels.tobytes())
    return digest.hexdigest()[:12]


def kept_honest(path: Path) -> Honest | None:
    """What ``keep_honest`` wrote to ``path``; None where there is nothing, or nothing whole."""
    try:
        with np.load(path, allow_pickle=False) as held:
            known = json.loads(str(held["figures"]))
            return Honest(served=held["served"].astype(np.float32), **known)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_honest(path: Path, honest: Honest) -> None:
    """Write ``honest`` to ``path``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = {name: getattr(honest, name) for name in FIGURES}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, served=honest.served, figures=np.array(json.dumps(figures)))
    write_atomically(path, buffer.getvalue())
