"""What finished cells left on disk: one file each, there whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from attack_client.honest import Honest
from attack_client.honest_store import keep_honest, kept_honest
from attack_client.printable import printable
from attack_client.report.schema import Row
from intaglio.leakage.cells import Cell
from models.training.atomic import write_atomically

__all__ = ["Kept", "Result"]


class Result(BaseModel):
    """A finished cell.

    Attributes:
        cell: which one, for people.
        rows: one for each clone that the attack made of it.
        seconds: that it took, its part of the theft included.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: str
    rows: tuple[Row, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Kept:
    """The directory of a matrix.

    Attributes:
        out: the directory.
    """

    out: Path

    def victims(self, seed: int) -> Path:
        """Bundles that were trained for ``seed``."""
        return self.out / "victims" / f"seed-{seed}"

    def theft(self, cell: Cell, kind: str, digest: str) -> Path:
        """What was stolen for ``cell`` by an attack of ``kind``, for all that share the theft."""
        return self.out / "thefts" / cell.defense / f"{kind}-seed{cell.seed}-{digest}"

    @property
    def clones(self) -> Path:
        """Trained clones, by what they were trained on."""
        return self.out / "clones"

    def result(self, cell: Cell, digest: str) -> Result | None:
        """What came of ``cell``; None where nothing did yet, or it cannot be read."""
        try:
            return Result.model_validate_json(self._cell(cell, digest).read_bytes())
        except (OSError, ValidationError):
            return None

    def has(self, cell: Cell, digest: str) -> bool:
        """Whether ``cell`` is finished; cheaper than its result."""
        return self._cell(cell, digest).is_file()

    def keep(self, cell: Cell, digest: str, result: Result) -> None:
        """Write down what came of ``cell``."""
        path = self._cell(cell, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (result.model_dump_json(indent=1) + "\n").encode())
        self._reason(cell, digest).unlink(missing_ok=True)

    def reason(self, cell: Cell, digest: str) -> str | None:
        """Why ``cell`` could not be had when it was tried last; None if it never was."""
        try:
            return str(json.loads(self._reason(cell, digest).read_bytes())["reason"])
        except (OSError, ValueError, KeyError):
            return None

    def keep_reason(self, cell: Cell, digest: str, reason: str) -> None:
        """Write down why ``cell`` cannot be had."""
        path = self._reason(cell, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(
            path, json.dumps({"cell": str(cell), "reason": printable(reason)}).encode()
        )

    def honest(self, defense: str, seed: int, digest: str) -> Honest | None:
        """What honest callers of ``defense`` were served; None where it was not measured yet."""
        return kept_honest(self._honest(defense, seed, digest))

    def keep_honest(self, defense: str, seed: int, digest: str, honest: Honest) -> None:
        """Write down what honest callers of ``defense`` are served."""
        keep_honest(self._honest(defense, seed, digest), honest)

    def tell(self, bench: str, stage: str | None) -> None:
        """Say for whoever watches what ``bench`` is at; None when it is at its end."""
        path = self.out / "running" / bench
        if stage is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, stage.encode())

    def stage(self, bench: str) -> str | None:
        """What ``bench`` is at; None where it is not running."""
        try:
            return (self.out / "running" / bench).read_text(encoding="utf-8")
        except OSError:
            return None

    def _cell(self, cell: Cell, digest: str) -> Path:
        name = f"{cell.attack}-{cell.labels}-{cell.budget}-seed{cell.seed}-{digest}.json"
        return self.out / "cells" / cell.defense / name

    def _reason(self, cell: Cell, digest: str) -> Path:
        return self._cell(cell, digest).with_suffix(".missing")

    def _honest(self, defense: str, seed: int, digest: str) -> Path:
        return self.out / "honest" / defense / f"seed{seed}-{digest}.npz"
