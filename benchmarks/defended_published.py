"""The papers' figures that stand beside those of ``benchmarks.defended_training``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["PUBLISHED"]

PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "mnist": {
        "title": "The InI paper's own figures, KnockoffNets on MNIST (Guo et al., ACM MM 2023, "
        "Tables 1 and 2): ResNet-18, pool EMNIST letters, 50,000 queries, the best epoch on the "
        "test set",
        "header": ["defense", "benign %", "clone soft %", "clone hard %"],
        "rows": [
            ["vanilla", "99.46", "99.39", "98.84"],
            ["MAD", "99.46", "99.31", "99.05"],
            ["AM", "99.41", "98.58", "97.14"],
            ["EDM", "99.43", "98.90", "97.44"],
            ["InI", "99.40", "89.02", "95.90"],
        ],
    },
    "fashion": {
        "title": "The AST paper's own figures, distillation on CIFAR-10 (Yilmaz and Keles 2024, "
        "Table 1): teacher ResNet-18",
        "header": ["teacher", "teacher %", "CNN", "ResNetC-20", "ResNetC-32", "ResNet-18"],
        "rows": [
            ["from scratch", "-", "86.64", "92.37", "93.41", "95.03"],
            ["base", "95.03", "87.76", "92.27", "92.94", "95.39"],
            ["Nasty", "94.37", "82.98", "88.54", "90.07", "93.76"],
            ["STT", "94.94", "86.70", "91.30", "91.85", "94.48"],
            ["AST", "94.61", "79.82", "87.08", "88.70", "93.66"],
        ],
    },
}
"""By family, read from the papers, to stand beside ours: other data, networks and budgets."""
