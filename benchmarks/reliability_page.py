"""Write ``docs/reliability.md`` from the drills under ``benchmarks/results/``.

    python -m benchmarks.reliability_page

The page holds no figure of its own: every number comes from a committed result, which names the
command that measured it and the machine it ran on. A drill without a result is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.envelope import RESULTS
from benchmarks.markdown import table

__all__ = ["DRILLS", "reliability_page"]

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"

DRILLS = {
    # result: (heading, what is shown)
    "reliability-race": (
        "The budget race",
        "Callers that share one key spend its budget through several replicas on one Redis; a "
        "quarter of the answered requests are sent again, to another replica, under the same "
        "idempotency key. *Answered to callers* are samples of first answers with status 200. "
        "That, what the ledger counted and what the audit charged must be the same number, not "
        "one above the budget; otherwise the command fails and leaves no result.",
    ),
    "reliability-redis": (
        "Redis killed, and Redis paused",
        "The same replicas while Redis is killed with SIGKILL and started again, and paused with "
        "SIGSTOP and resumed. *Refusal* is how long a caller waited for its 503 while Redis was "
        "away; *until the next answer* counts from the moment Redis was back. In the end nothing "
        "may be lost or counted twice.",
    ),
    "reliability-kill": (
        "The server killed",
        "One server with its keys and budgets in files is killed with SIGKILL under load and "
        "started again. A request that was cut off may or may not have been counted: the ledger "
        "lies between what was answered and that plus what was cut off, and never below the audit.",
    ),
    "reload-soak": (
        "Models reloaded under load",
        "Bundles are loaded, switched to and unloaded while callers ask.",
    ),
    "answer-cache": (
        "What the answer cache saves",
        "Image after image over one connection, and then the same images again: how long the first "
        "answers take, and the second. They are the same, bit for bit; otherwise the command fails "
        "and leaves no result. With the cache off, they differ by what else the machine did.",
    ),
    "overload": (
        "Overload",
        "Ten times as many samples in flight as the queue takes.",
    ),
}


def reliability_page(results: Path = RESULTS) -> str:
    """The page, as Markdown."""
    parts = [
        "# Reliability",
        "Written by `python -m benchmarks.reliability_page` from `benchmarks/results/`; not edited "
        "by hand. What the drills are about is described in [callers.md](callers.md).",
    ]
    for name, (heading, what) in DRILLS.items():
        path = results / f"{name}.json"
        if path.is_file():
            parts += _section(heading, what, json.loads(path.read_text(encoding="utf-8")))
    return "\n\n".join(parts) + "\n"


def _section(heading: str, what: str, document: Mapping[str, Any]) -> Sequence[str]:
    machine = ", ".join(
        f"{key} {value}" for key, value in document["environment"].items() if value is not None
    )
    rows: list[Mapping[str, Any]] = document["rows"]
    workloads = {row["workload"] for row in rows}
    several = len(workloads) > 1
    header = [*(["workload"] if several else []), "what", "figure", "unit"]
    cells = [
        [*([row["workload"]] if several else []), row["subject"], _figure(row), row["unit"]]
        for row in rows
    ]
    return (
        f"## {heading}",
        what,
        "```bash\n" + " ".join(document["command"]) + "\n```",
        f"Measured on: {machine}.",
        table(header, cells),
    )


def _figure(row: Mapping[str, Any]) -> str:
    value = row["value"]
    if row["metric"] == "count":
        return f"{value:,.0f}"
    return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(reliability_page(), encoding="utf-8")
    Console().print(f"wrote {PAGE}", highlight=False)


if __name__ == "__main__":
    main()
