"""A reader of a report sees what a name stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intaglio.leakage.chosen import chosen
from intaglio.leakage.kept import Kept
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.measure import gather
from intaglio.leakage.served import served
from intaglio.leakage.written import write_outcome

WRITTEN: dict[str, Any] = {
    "name": "shown",
    "pool": "letters",
    "test": "digits",
    "clone": {"architecture": "lenet", "epochs": 1},
    "seeds": [0],
    "budgets": [10],
    "victims": {
        "plain": {"recipe": "digits-plain"},
        "am": {"recipe": "digits-am", "set": ["data.ood=symbols"], "reference": "plain"},
        "ours": {"bundle": "bundles/parts/3"},
    },
    "reference": "plain",
    "defenses": {
        "none": {"victim": "plain"},
        "label-only": {"victim": "plain", "chain": [{"kind": "label-only"}]},
        "mixed": {
            "victim": "ours",
            "chain": [{"kind": "am", "threshold": 0.5}, {"kind": "top-k", "k": 2}],
            "roles": {"misinformation": "am"},
            "budget_limit": 3000,
        },
        "abroad": {"url": "http://127.0.0.1:1", "model": "parts", "release": "7.1"},
    },
    "attacks": {"knockoff": {}},
}


@pytest.mark.parametrize(
    ("name", "weights", "links"),
    [
        ("none", "digits-plain", "none"),
        ("label-only", "digits-plain", "label-only"),
        (
            "mixed",
            "parts/3",
            "am (threshold 0.5), then top-k (k 2); misinformation of am; asked 3,000 times at most",
        ),
        ("abroad", "parts, as it runs, release 7.1", "the running server's own"),
    ],
)
def test_weights_and_links_are_said_in_words(name: str, weights: str, links: str) -> None:
    told = {row[0]: row[1:] for row in served(Matrix.model_validate(WRITTEN))}
    assert told[name] == (weights, links)


def test_options_of_attacks_are_said_in_words(tmp_path: Path) -> None:
    attacks = {
        "knockoff": {},
        "triples": {"attack": "composite", "options": {"parts": 3, "concentration": 2.0}},
    }
    plain = {"plain": WRITTEN["victims"]["plain"]}
    none = {"none": WRITTEN["defenses"]["none"]}
    changes = {"attacks": attacks, "victims": plain, "defenses": none}
    matrix = Matrix.model_validate({**WRITTEN, **changes})
    assert list(chosen(matrix)) == [("triples", "composite", "parts 3, concentration 2.0")]
    write_outcome(gather(matrix, Kept(tmp_path), command=["intaglio"], device="cpu"), tmp_path)
    said = (tmp_path / "report.md").read_text()
    assert "| triples | composite | parts 3, concentration 2.0 |" in said
    assert "parts 3, concentration 2.0" in (tmp_path / "report.html").read_text()
