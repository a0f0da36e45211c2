"""A matrix from its file to its outcome: have what is missing, gather what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from attack_client.report.environment import describe_environment
from attack_client.report.schema import Row
from intaglio.leakage.bench import Bench
from intaglio.leakage.cells import Cell, cells_of, digest
from intaglio.leakage.kept import Kept
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.only import Only
from intaglio.leakage.runner import Crew, benches_of, run_benches
from intaglio.leakage.strongest import Status, lines_of
from intaglio.leakage.verdict import verdicts_of
from intaglio.leakage.written import Outcome

__all__ = ["gather", "have"]

NOT_YET = "not run yet"


def have(
    matrix: Matrix,
    only: Only,
    kept: Kept,
    crew: Crew,
    *,
    data_root: Path | None,
    device: str,
    threads: int,
    console: Console,
) -> None:
    """Have the cells of ``only`` that are not there; why one cannot be had is written down.

    Raises:
        MatrixError: a recipe or a bundle is not there, or wrong.
    """
    wanted = [cell for cell in cells_of(matrix) if cell in only]
    benches = benches_of(matrix, wanted, kept, data_root=data_root, device=device, threads=threads)
    for bench, reason in run_benches(benches, crew, kept, console):
        _explain(bench, reason, kept)


def _explain(bench: Bench, reason: str, kept: Kept) -> None:
    for cell in bench.cells:
        key = digest(bench.matrix, cell)
        if not kept.has(cell, key):
            kept.keep_reason(cell, key, reason)


def gather(
    matrix: Matrix, kept: Kept, *, command: Sequence[str], device: str, ray: bool = False
) -> Outcome:
    """Everything that is known by now, whoever had it and when."""
    rows: list[Row] = []
    statuses: list[Status] = []
    for cell in _in_order(matrix):
        key = digest(matrix, cell)
        result = kept.result(cell, key)
        if result is not None:
            rows += (_priced(row, matrix.price_per_thousand) for row in result.rows)
            statuses.append(_status(cell, {"state": "done", "seconds": result.seconds}))
            continue
        reason = kept.reason(cell, key)
        state = "missing" if reason is None else "failed"
        statuses.append(_status(cell, {"state": state, "reason": reason or NOT_YET}))
    lines = lines_of(rows, statuses, matrix.budgets)
    return Outcome(
        matrix=matrix,
        rows=tuple(rows),
        statuses=tuple(statuses),
        lines=lines,
        verdicts=verdicts_of(lines, rows, statuses, _ways(matrix)),
        command=tuple(command),
        environment=_environment(device, ray),
    )


def _environment(device: str, ray: bool) -> dict[str, object]:
    """Of this machine; what the nodes of a cluster are like is not known here."""
    if ray:
        return {**describe_environment(), "device": f"{device}, of a Ray cluster"}
    return dict(describe_environment(device))


WAY = {
    "options", "pool", "augment", "adapt", "known_defense", "known_options", "shadow", "learn",
}  # fmt: skip
"""What makes two entries of a matrix two attacks; not budgets, labels, seeds and defenses."""


def _ways(matrix: Matrix) -> dict[str, str]:
    """What each attack of the matrix is: those that differ in budget alone are one."""
    return {
        name: f"{entry.attack or name} {entry.model_dump(include=WAY)}"
        for name, entry in matrix.attacks.items()
    }


def _priced(row: Row, price_per_thousand: float | None) -> Row:
    """``row`` at the price of now: a cell that is finished is not measured again for another."""
    if price_per_thousand is None:
        return row.model_copy(update={"cost": None})
    paid = row.queries if row.paid is None else row.paid
    return row.model_copy(update={"cost": price_per_thousand * paid / 1000})


def _in_order(matrix: Matrix) -> list[Cell]:
    """As a table has them: defenses first."""
    place = {name: number for number, name in enumerate(matrix.defenses)}
    return sorted(cells_of(matrix), key=lambda cell: place[cell.defense])


def _status(cell: Cell, known: Mapping[str, object]) -> Status:
    return Status.model_validate(
        {
            "defense": cell.defense,
            "attack": cell.attack,
            "labels": cell.labels,
            "budget": cell.budget,
            "seed": cell.seed,
            **known,
        }
    )
