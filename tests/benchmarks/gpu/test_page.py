"""Stages of a card become one table: a line per clone, or a victim alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.page import gpu_section

STAGE: dict[str, Any] = {
    "row": "InI Table 2, mnist, ini",
    "seed": 3,
    "epochs": {"victim": 4, "clone": 6, "published": 50},
    "seconds": 12.4,
    "command": [["intaglio", "train", "mnist-lenet"]],
    "notes": ["A row, shortened.", "A remark."],
    "environment": {"device_name": "A card", "torch": "2.11"},
    "victim": [{"split": "test", "accuracy": 0.5}],
}


def stolen(labels: str, accuracy: float) -> dict[str, Any]:
    return {
        "clone": "resnet18",
        "attack": "knockoff",
        "defense": "ini",
        "labels": labels,
        "seed": 3,
        "pool": "letters",
        "victim_accuracy": 0.99,
        "benign_accuracy": 0.9,
        "clone_accuracy": accuracy,
    }


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({**STAGE, "rows": rows}))
    return path


def test_a_line_per_clone_and_one_for_a_victim_alone(tmp_path: Path) -> None:
    shown = gpu_section(
        [
            written(
                tmp_path / "gpu-mnist-ini-seed3.json", [stolen("soft", 0.2), stolen("hard", 0.1)]
            ),
            written(tmp_path / "gpu-other-seed3.json", []),
        ]
    )
    assert (
        "| InI Table 2, mnist, ini; clone resnet18 | letters | 3 | 4, 6 | 50 | 99.0 | 90.0 | 20.0 "
        "| 10.0 | 12 |" in shown
    )
    assert "| InI Table 2, mnist, ini | - | 3 | 4, - | 50 | - | 50.0 | - | - | 12 |" in shown
    assert "EPOCHS=4 CLONE_EPOCHS=6 benchmarks/gpu/reproduce.sh mnist-ini --seed 3" in shown
    # 2,000 of them are kept from training: see the dataset kmnist_t10k.
    assert "strangers are 8,000 of KMNIST's 10,000 test images" in shown
    assert shown.count("A remark.") == 1
    assert "A row, shortened." not in shown
    assert "Measured on: A card, torch 2.11" in shown
    assert "intaglio train mnist-lenet" in shown


def test_a_line_per_student_beside_the_one_from_scratch(tmp_path: Path) -> None:
    alone = {**stolen("hard", 0.87), "attack": "scratch"}
    taught = {**stolen("soft", 0.84), "attack": "distil(alpha=0.9, T=4)"}
    shown = gpu_section([written(tmp_path / "gpu-students-seed3.json", [taught, alone])])
    assert "| resnet18 | ini | 90.0 | 87.0 | 84.0 | -3.0 | 3 | 6 | 50 | 12 |" in shown
    assert "| AST | 94.61 | 79.82 |" in shown
    assert "clone resnet18" not in shown
