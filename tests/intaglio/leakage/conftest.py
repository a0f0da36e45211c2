"""A small matrix against stubs: nothing is trained but clones of a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import pytest

from attack_client.report.schema import Labels, Row
from intaglio.leakage.bench import Bench, run_bench
from intaglio.leakage.matrix import Matrix
from tests.attack_client.conftest import model, npz_root, serve
from tests.attack_client.test_report import a_row

__all__ = ["GOOD", "Inline", "matrix_of", "model", "npz_root", "row", "serve"]


GOOD: Mapping[str, Any] = {
    "name": "mine",
    "pool": "letters",
    "test": "digits",
    "reference": "plain",
    "clone": {"architecture": "lenet"},
    "budgets": [100],
    "victims": {"plain": {"recipe": "digits-plain"}},
    "defenses": {"none": {"victim": "plain"}},
    "attacks": {"knockoff": {}},
}
"""A matrix with nothing wrong about it."""


class Inline:
    """A crew that works in this process, and may be told to stop on the way."""

    def __init__(self, *, before: Callable[[Bench], None] = lambda _: None) -> None:
        self.before = before

    def submit(self, bench: Bench) -> Future[int]:
        future: Future[int] = Future()
        self.before(bench)
        future.set_result(run_bench(bench))
        return future


def matrix_of(url: str, **changes: Any) -> Matrix:
    """Two running servers, knockoff with 20 and 40 queries."""
    values: dict[str, Any] = {
        "name": "toys",
        "pool": "noise",
        "test": "task",
        "clone": {"architecture": "cnn-small", "epochs": 1},
        "budgets": [20, 40],
        "latency_requests": 2,
        "batch": 8,
        "defenses": {
            "none": {"url": url, "model": "toy"},
            "label-only": {"url": url, "model": "toy"},
        },
        "attacks": {"knockoff": {}},
    }
    return Matrix.model_validate(values | changes)


def row(
    defense: str, accuracy: float, *, labels: Labels = "soft", seed: int = 0, **changes: Any
) -> Row:
    """A finished clone."""
    return a_row(defense, labels, accuracy=accuracy, seed=seed, **changes)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTAGLIO_API_KEY", raising=False)
