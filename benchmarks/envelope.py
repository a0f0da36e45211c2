"""The envelope of every benchmark result: what was run, where, and what came out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from attack_client.report import describe_environment

__all__ = ["IMAGES", "RESULTS", "Row", "on_device", "quantile", "write"]

RESULTS = Path(__file__).parent / "results"
"""Where results are kept."""

IMAGES = Path(__file__).parents[1] / "docs" / "images"
"""Where their pictures are shown from."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure.

    Attributes:
        benchmark: which program measured it.
        workload: what was run, for instance ``resnet18-32x32-b64-cpu``.
        subject: what was varied, for instance ``dynamic-batching``.
        metric: ``time``, ``throughput``, ``share``, ``count`` or ``memory``.
        value: the figure.
        unit: its unit.
        baseline: subject it is compared with in the same run, if any.
        ratio: value over the baseline's value.
    """

    benchmark: str
    workload: str
    subject: str
    metric: str
    value: float
    unit: str
    baseline: str | None = None
    ratio: float | None = None


def quantile(values: Sequence[float], share: float) -> float:
    """The ``share`` quantile of ``values``, nearest rank; needs at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def on_device(name: str, device: str) -> str:
    """What the result ``name`` is called where it was measured on ``device``."""
    kind = device.partition(":")[0]
    return name if kind == "cpu" else f"{name}-{kind}"


def write(
    name: str,
    command: Sequence[str],
    rows: Sequence[Row],
    *,
    folder: Path = RESULTS,
    notes: Sequence[str] = (),
    device: str = "cpu",
) -> Path:
    """Write ``NAME.json`` into ``folder`` and print the rows and the notes, which are sentences.

    Args:
        name: of the result; that of another device than the CPU has it in its name, as
            ``on_device`` gives it, so that no machine's figures take the place of another's.
        command: that was run.
        rows: what it measured.
        folder: where the result goes.
        notes: sentences on the rows.
        device: that was measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    document = {
        "schema": 1,
        "command": list(command),
        "environment": describe_environment(device),
        **({"notes": list(notes)} if notes else {}),
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        against = f"  ({row.ratio:.2f}x {row.baseline})" if row.ratio is not None else ""
        sys.stdout.write(
            f"{row.workload:32} {row.subject:28} {row.metric:12} "
            f"{row.value:12.3f} {row.unit}{against}\n"
        )
    for note in notes:
        sys.stdout.write(f"{note}\n")
    return path
