"""What the stages of ``reproduce.sh`` left, as one section of the results page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.defended_published import PUBLISHED
from benchmarks.markdown import folded, table

__all__ = ["TITLE", "gpu_section"]

TITLE = "On a GPU: rows of the papers' tables, shortened"
HEADER = (
    "row", "pool", "seed", "epochs: victim, clone", "published", "plain", "benign", "clone soft",
    "clone hard", "seconds",
)  # fmt: skip
DIFFERENCES = (
    "Each stage fits into ten minutes of one card, so that victims and clones are trained for far "
    "fewer epochs than published: the columns say how many. It differs in more: the learning rate "
    "follows a cosine where InI's authors step, strangers are 8,000 of KMNIST's 10,000 test "
    "images, and MNIST and Fashion-MNIST are each other's pool in place of EMNIST. *plain* is the "
    "accuracy of the plain model, *benign* what honest callers are served, in percent; a plain "
    "model comes to later stages with weights rounded to bfloat16. *seconds* are those of a stage "
    "on a card that it shared with up to three others."
)
"""Between these rows and those of the papers."""

BLENDS = (
    "Composite images have as many queries as the images that they are compared with, about "
    "CIFAR-100 and not ImageNet."
)
"""The same of those rows, where there are any."""

SCRATCH = "scratch"
"""The attack of a student who never heard its teacher."""
TAUGHT = (
    "student", "teacher", "teacher, benign", "from scratch", "distilled", "difference", "seed",
    "epochs", "published", "seconds",
)  # fmt: skip
STUDENTS = (
    "Students own their teacher's training images and labels: 50,000 of CIFAR-10, cropped and "
    "mirrored. The one from scratch asks nothing, so that the better of the two is what a teacher "
    "leaves a thief; answers are for images as they are, not as they are cropped. A "
    "teacher that was trained for fewer epochs, see above, costs honest callers for that, too."
)
"""Who is in the table of students."""


def gpu_section(paths: Sequence[Path]) -> str:
    """One line per stage and clone, then the commands."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    cards = sorted({one["environment"]["device_name"] or "a CPU" for one in documents})
    versions = sorted({one["environment"]["torch"] for one in documents})
    commands = [" ".join(command) for one in documents for command in one["command"]]
    lines = [line for one in documents for line in _lines(one)]
    students = [line for one in documents for line in _students(one)]
    stages = [_stage(path, one) for path, one in zip(paths, documents, strict=True)]
    remarks = [remark for one in documents for remark in one["notes"][1:]]
    return "\n\n".join(
        [
            f"## {TITLE}",
            "```bash\n" + "\n".join(stages) + "\n```",
            DIFFERENCES,
            *([BLENDS] if any("composite images" in one["row"] for one in documents) else []),
            *dict.fromkeys(remarks),
            f"Measured on: {', '.join(cards)}, torch {', '.join(versions)}.",
            table(HEADER, lines),
            *(_taught(students) if students else []),
            folded(
                "Every command of theirs",
                "```bash\n" + "\n".join(commands) + "\n```",
                len(commands),
            ),
        ]
    )


def _stage(path: Path, document: Mapping[str, Any]) -> str:
    """The command of a stage, whose name is in its file's."""
    name = path.stem.removeprefix("gpu-").rpartition("-seed")[0]
    epochs = document["epochs"]
    spent = f"EPOCHS={epochs['victim']} " if epochs["victim"] else ""
    spent += f"CLONE_EPOCHS={epochs['clone']} " if document["rows"] else ""
    return f"{spent}benchmarks/gpu/reproduce.sh {name} --seed {document['seed']}"


def _taught(students: Sequence[Sequence[str]]) -> list[str]:
    """The table of students, below what it shows, and the paper's."""
    paper = PUBLISHED["fashion"]
    return [
        STUDENTS,
        table(TAUGHT, students),
        folded(paper["title"], table(paper["header"], paper["rows"]), len(paper["rows"])),
    ]


def _by_clone(document: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    clones: dict[str, list[Mapping[str, Any]]] = {}
    for row in document["rows"]:
        clones.setdefault(row["clone"], []).append(row)
    return clones


def _of_students(document: Mapping[str, Any]) -> bool:
    return any(row["attack"] == SCRATCH for row in document["rows"])


def _students(document: Mapping[str, Any]) -> list[list[str]]:
    """A line per student, where the stage had any."""
    if not _of_students(document):
        return []
    lines = []
    epochs = document["epochs"]
    for clone, rows in _by_clone(document).items():
        alone, *taught = sorted(rows, key=lambda row: row["attack"] != SCRATCH)
        best = max(row["clone_accuracy"] for row in taught)
        lines.append(
            [
                clone,
                alone["defense"],
                _percent(alone["benign_accuracy"]),
                _percent(alone["clone_accuracy"]),
                _percent(best),
                f"{100 * (best - alone['clone_accuracy']):+.1f}",
                str(alone["seed"]),
                str(epochs["clone"]),
                str(epochs["published"]),
                f"{document['seconds']:.0f}",
            ]
        )
    return lines


def _lines(document: Mapping[str, Any]) -> list[list[str]]:
    """A line per clone; one of the victim alone where nothing was stolen."""
    if _of_students(document):
        return []
    epochs = document["epochs"]
    begins = [document["row"]]
    spent = f"{epochs['victim'] or '-'}, {epochs['clone']}"
    ends = [f"{document['seconds']:.0f}"]
    clones = _by_clone(document)
    if not clones:
        tested = next(one for one in document["victim"] if one["split"] == "test")
        own = ["-", str(document["seed"]), f"{epochs['victim']}, -", str(epochs["published"])]
        return [[*begins, *own, "-", _percent(tested["accuracy"]), "-", "-", *ends]]
    lines = []
    for clone, rows in clones.items():
        by_labels = {row["labels"]: row for row in rows}
        any_row = rows[0]
        lines.append(
            [
                f"{document['row']}; clone {clone}",
                any_row["pool"],
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
    return "-" if share is None else f"{100 * share:.1f}"
