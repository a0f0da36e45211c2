"""What the stages of ``reproduce.sh`` left, as one section of the results page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import folded, table

__all__ = ["TITLE", "gpu_section"]

TITLE = "On a GPU: rows of the papers' tables, shortened"
HEADER = (
    "row", "seed", "epochs: victim, clone", "published", "plain", "benign", "clone soft",
    "clone hard", "seconds",
)  # fmt: skip


def gpu_section(paths: Sequence[Path]) -> str:
    """One line per stage and clone, then the commands."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    cards = sorted({one["environment"]["device_name"] or "a CPU" for one in documents})
    versions = sorted({one["environment"]["torch"] for one in documents})
    commands = [" ".join(command) for one in documents for command in one["command"]]
    lines = [line for one in documents for line in _lines(one)]
    return "\n\n".join(
        [
            f"## {TITLE}",
            "```bash\nbenchmarks/gpu/reproduce.sh STAGE\n```",
            "Each stage fits into ten minutes of one card, so that victims and clones are trained "
            "for far fewer epochs than published: the columns say how many. *plain* is the "
            "accuracy of the plain model, *benign* what honest callers are served, in percent.",
            f"Measured on: {', '.join(cards)}, torch {', '.join(versions)}; stages side by side.",
            table(HEADER, lines),
            folded("Every command", "```bash\n" + "\n".join(commands) + "\n```", len(commands)),
        ]
    )


def _lines(document: Mapping[str, Any]) -> list[list[str]]:
    """A line per clone; one of the victim alone where nothing was stolen."""
    epochs = document["epochs"]
    begins = [document["row"]]
    spent = f"{epochs['victim'] or '-'}, {epochs['clone']}"
    ends = [f"{document['seconds']:.0f}"]
    clones: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in document["rows"]:
        clones.setdefault(row["clone"], {})[row["labels"]] = row
    if not clones:
        tested = next(one for one in document["victim"] if one["split"] == "test")
        own = [str(document.get("seed", "-")), spent, str(epochs["published"])]
        return [[*begins, *own, "-", _percent(tested["accuracy"]), "-", "-", *ends]]
    lines = []
    for clone, by_labels in clones.items():
        any_row = next(iter(by_labels.values()))
        lines.append(
            [
                f"{document['row']}; clone {clone}",
                str(any_row["seed"]),
                spent,
                str(epochs["published"]),
                _percent(any_row["victim_accuracy"]),
                _percent(any_row["benign_accuracy"]),
                *(
                    _percent(by_labels[labels]["clone_accuracy"]) if labels in by_labels else "-"
                    for labels in ("soft", "hard")
                ),
                *ends,
            ]
        )
    return lines


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
