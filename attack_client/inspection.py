"""What a transfer set holds, for ``intaglio attack show``: nothing is changed by looking."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from attack_client.errors import CorruptRecord
from attack_client.predictions import hard_labels
from attack_client.transfer_set import TransferSet

__all__ = ["inspect_transfer_set"]

CHUNK = 4096
"""Answers looked at at a time."""


def inspect_transfer_set(path: Path) -> Iterator[tuple[str, str]]:
    """Lines ``(what, value)``: where it comes from, what it cost, what was said, what is damaged.

    Raises:
        TransferSetError: nothing there.
    """
    about = TransferSet.provenance_of(path)
    yield "victim", f"{about.model} at {about.url}"
    yield "attack", about.configuration
    yield "pool", f"{about.pool} (sha256 {about.pool_sha256[:12]})"
    yield "theft", str(about.id)
    yield "images", "x".join(map(str, about.shape))
    yield "classes", str(about.classes)
    yield "maps", "x".join(map(str, about.maps)) if about.maps else "none"
    yield "answers", "logits, made probabilities (softmax)" if about.softmax else "probabilities"
    try:
        with TransferSet.read(path) as stolen:
            yield "answers on disk", f"{stolen.recorded:,}"
            yield "usable budget", f"{stolen.complete:,}"
            yield "samples sent", f"{stolen.sent() * about.cost:,}"
            yield from _times(stolen)
            yield from _answers(stolen)
            torn = stolen.torn
    except CorruptRecord as error:
        yield "damage", str(error)
        return
    what = f"{torn:,} bytes of a torn last record; --resume cuts them off" if torn else "none"
    yield "damage", what


def _times(stolen: TransferSet) -> Iterator[tuple[str, str]]:
    known = stolen.asked_at()
    if known is None:
        return
    first, last = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") for at in known)
    yield "first request", f"{first} UTC"
    yield "last request", f"{last} UTC"
    seconds = stolen.seconds(max(start + count for start, count in stolen.runs() or ((0, 0),)))
    if seconds is not None:
        yield "time asking", f"{seconds:,.1f} s, pauses left out"


def _answers(stolen: TransferSet) -> Iterator[tuple[str, str]]:
    """Answers per class, and how unsure they are: in nats, of at most log K."""
    classes = stolen.provenance.classes
    counts = np.zeros(classes, dtype=np.int64)
    entropy, images = 0.0, set[bytes]()
    for start, count in stolen.runs():
        for first in range(start, start + count, CHUNK):
            asked, said = stolen.answers(first, min(CHUNK, start + count - first))
            images.update(image.tobytes() for image in asked)
            counts += np.bincount(hard_labels(said), minlength=classes)
            shares = said.astype(np.float64)
            entropy -= float((shares * np.log(np.maximum(shares, 1e-12))).sum())
    if not counts.sum():
        return
    yield "distinct images", f"{len(images):,}"
    yield "mean entropy", f"{entropy / counts.sum():.3f} of at most {np.log(classes):.3f} nats"
    shown = " ".join(f"{label}:{count}" for label, count in enumerate(counts[:100]))
    yield "top-1 by class", shown + (" ..." if classes > 100 else "")
