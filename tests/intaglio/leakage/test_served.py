"""A reader of a report sees what a name stands for."""

from __future__ import annotations

import pytest

from intaglio.leakage.matrix import Matrix
from intaglio.leakage.served import served

WRITTEN = {
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
