"""Rows of a theft that an earlier command measured: kept beside those of a later one.

One theft serves many clones. A command that goes on with it (``--resume``) measures some, and the
report is to compare all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from attack_client.errors import ReportError
from attack_client.report.files import read_json
from attack_client.report.schema import Report, Row

__all__ = ["with_earlier_rows"]

HONEST = ("benign_accuracy", "benign_l1", "latency_p50_ms", "latency_p99_ms", "served_ece")
"""Figures of what honest callers are served: of the victim, and of no clone."""


def with_earlier_rows(report: Report, path: Path) -> tuple[Report, str | None]:
    """``report`` and those rows of the report in ``path`` that it does not measure again.

    Rows go together where theft, test set, reference and the way to train clones are the same, and
    what was known of the defense; others never mix. Of one theft there is one defense: all rows
    have the name that was given last, and what honest callers are served is known to all of them
    where it is to any.

    Args:
        report: of a command that is done.
        path: ``report.json`` of the commands before it, if there is one.

    Returns:
        The whole report, and a sentence about what became of the earlier one: None where there
        was none, or all of it was measured again.
    """
    if not path.exists():
        return report, None
    try:
        earlier = read_json(path)
    except ReportError as error:
        return report, f"what was there is replaced: {error}"
    theft = None
    if report.theft is not None and earlier.theft is not None:
        theft = report.theft.joined(earlier.theft)
    if theft is None:
        return report, (
            f"{path} held {len(earlier.rows)} rows of another theft, test set, reference or way to "
            "train clones, or does not say of which: they are replaced"
        )
    again = {_which(row): row for row in report.rows}
    kept = [row for row in earlier.rows if _which(row) not in again]
    if not kept:
        return report, None
    # In the order in which they were first measured, so that a line has its place for good.
    rows = [again.pop(_which(row), row) for row in earlier.rows]
    rows += [row for row in report.rows if _which(row) in again]
    commands = [*earlier.earlier_commands, earlier.command]
    commands = [command for command in dict.fromkeys(commands) if command != report.command]
    of_one_victim = _of_one_victim(rows, [*report.rows, *kept])
    told = {"rows": of_one_victim, "earlier_commands": tuple(commands), "theft": theft}
    whole = report.model_copy(update=told)
    return whole, f"{len(kept)} rows of earlier commands with this theft are kept in the report"


def _of_one_victim(rows: Iterable[Row], told: Sequence[Row]) -> tuple[Row, ...]:
    """``rows`` with what is the same for all, from the first of ``told`` that knows it."""
    name = next((row.defense for row in told if row.defense is not None), None)
    named = {} if name is None else {"defense": name}
    return tuple(row.model_copy(update={**_lacking(row, told), **named}) for row in rows)


def _lacking(row: Row, told: Sequence[Row]) -> dict[str, float]:
    """The honest figures that others know and ``row`` does not, and what they cost.

    Not ``fidelity_served``, which is of each clone.
    """
    found: dict[str, float] = {}
    queries = row.evaluation_queries
    for name in HONEST:
        knows = (other for other in told if getattr(other, name) is not None)
        if getattr(row, name) is None and (other := next(knows, None)) is not None:
            found[name] = getattr(other, name)
            queries = max(queries, other.evaluation_queries)
    return {**found, "evaluation_queries": queries}


def _which(row: Row) -> tuple[object, ...]:
    """What a row is of: the same is measured again.

    Not what the defense is called: of one theft it is one defense.
    """
    return (
        row.dataset,
        row.victim,
        row.pool,
        row.clone,
        row.attack,
        row.labels,
        row.budget,
        row.queries,
        row.seed,
    )
