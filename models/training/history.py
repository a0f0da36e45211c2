"""What is remembered of each epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.training.atomic import write_atomically

__all__ = ["EpochRecord", "history_csv", "write_history"]


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: from 1.
        learning_rate: of its last step.
        losses: mean over the epoch's samples of each named loss.
        accuracy: on the validation images, in [0, 1]; None where there are none.
        seconds: wall clock, validation included.
    """

    epoch: int
    learning_rate: float
    losses: Mapping[str, float]
    accuracy: float | None
    seconds: float

    @property
    def loss(self) -> float:
        """Sum of the named losses."""
        return sum(self.losses.values())


def history_csv(history: Sequence[EpochRecord]) -> str:
    """``history`` as CSV: a row per epoch, a column per named loss; empty without an epoch."""
    if not history:
        return ""
    terms = list(history[0].losses)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["epoch", "learning_rate", "loss", *terms, "validation_accuracy", "seconds"])
    for record in history:
        accuracy = "" if record.accuracy is None else f"{record.accuracy:.6f}"
        losses = [f"{record.losses[term]:.6g}" for term in terms]
        rate, loss, seconds = record.learning_rate, record.loss, record.seconds
        row = [f"{rate:.6g}", f"{loss:.6g}", *losses, accuracy, f"{seconds:.3f}"]
        table.writerow([record.epoch, *row])
    return text.getvalue()


def write_history(path: Path, history: Sequence[EpochRecord]) -> None:
    """Replace ``path`` by ``history`` as CSV."""
    write_atomically(path, history_csv(history).encode())
