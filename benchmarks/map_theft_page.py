"""Theft with maps on the results page: what maps add to answers, behind each defense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.markdown import folded, table

__all__ = ["is_of_maps", "map_parts"]

ANSWERS, WITH_MAPS = "answers", "answers and maps"

MAPS_ONLY = "dd-i"
"""Leaves answers as they come, so that they were not stolen once more."""


def is_of_maps(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether ``rows`` are of a theft with maps."""
    return rows[0].get("benchmark") == "map-theft"


def map_parts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line per defense and budget, and the range of what maps added to each."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        subject, colon, attacker = row["subject"].rpartition(": ")
        # Of several seeds the mean is told, and how far they lie apart is another row.
        if colon and row["unit"] == "of test images" and attacker in {ANSWERS, WITH_MAPS}:
            budget = int(row["workload"].rpartition("-")[2])
            found.setdefault((subject, budget), {})[attacker] = 100 * row["value"]
    undefended = {budget: of.get(ANSWERS) for (name, budget), of in found.items() if name == "none"}
    for (subject, budget), of in found.items():
        share = undefended.get(budget)
        if subject == MAPS_ONLY and share is not None:
            of.setdefault(ANSWERS, share)
    both = {key: of for key, of in found.items() if len(of) == 2}
    lines = [
        [subject, f"{budget:,}", f"{of[ANSWERS]:.1f}", f"{of[WITH_MAPS]:.1f}", f"{_added(of):+.1f}"]
        for (subject, budget), of in both.items()
    ]
    heads = ["behind", "images", "answers, clone %", "answers and maps, clone %", "maps added"]
    title = "What maps add to answers"
    said = []
    for subject in dict.fromkeys(subject for subject, _ in both):
        added = [_added(of) for (name, _), of in both.items() if name == subject]
        if len(added) > 1:
            said.append(f"- Behind `{subject}`: {min(added):+.1f} to {max(added):+.1f} points.")
    ranges = ["Least and most that maps added, over the budgets:\n\n" + "\n".join(said)]
    return [folded(title, table(heads, lines), len(lines)), *(ranges if said else [])]


def _added(of: Mapping[str, float]) -> float:
    return of[WITH_MAPS] - of[ANSWERS]
