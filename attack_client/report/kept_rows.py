"""Rows of a theft that an earlier command measured: kept beside those of a later one.

One theft serves many clones. A command that goes on with it (``--resume``) measures some, and the
report is to compare all of them.
"""

from __future__ import annotations

from pathlib import Path

from attack_client.errors import ReportError
from attack_client.report.files import read_json
from attack_client.report.schema import Report, Row

__all__ = ["with_earlier_rows"]


def with_earlier_rows(report: Report, path: Path) -> tuple[Report, str | None]:
    """``report`` and those rows of the report in ``path`` that it does not measure again.

    Rows go together where theft, test set and reference are the same; others never mix.

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
    if report.theft is None or earlier.theft != report.theft:
        return report, (
            f"{path} held {len(earlier.rows)} rows of another theft, test set or reference, or "
            "does not say of which: they are replaced"
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
    told = {"rows": tuple(rows), "earlier_commands": tuple(commands)}
    whole = report.model_copy(update=told)
    return whole, f"{len(kept)} rows of earlier commands with this theft are kept in the report"


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
