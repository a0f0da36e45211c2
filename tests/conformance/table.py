"""The table: every defense in several configurations, and chains of two and three.

A defense of a new kind gets its rows here; a test fails for a kind that has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from defenses.chain import Chain
from defenses.contract import Queries
from defenses.registry import build_chain
from models.ensemble import RoutedEnsemble
from models.simplex import GRID, round_to_grid
from tests.defenses.toys import answers, images, material, network, queries

__all__ = [
    "CHAINS",
    "CLASSES",
    "ENSEMBLE",
    "IMAGES",
    "LINKS",
    "Specs",
    "build",
    "ensemble",
    "ensemble_pairs",
    "extremes",
    "identify",
    "pairs",
    "respond",
    "respond_together",
]

Specs = tuple[dict[str, Any], ...]

CLASSES = (2, 10, 200)
"""Numbers of classes that every row is tried with."""

IMAGES = 32

LINKS: dict[str, list[dict[str, Any]]] = {
    "am": [
        {"threshold": 0.5},
        {"threshold": 0.0},
        {"threshold": 1.0, "steepness": 10.0},
        {"benign_cost": 0.01},
        {"threshold": 0.5, "skip": True},
    ],
    "dd-s": [
        {"steps": 2},
        {"steps": 2, "k": 2, "rate": 0.05},
        {"steps": 2, "weights": "full", "decoy": 1.0},
    ],
    "dd-i": [{"steps": 2}, {"steps": 2, "weights": "full"}],
    "deepdefense": [
        {"steps": 2},
        {"steps": 2, "k": 2, "rate": 0.05, "map_agreement": 0.0},
        {"steps": 2, "weights": "full", "turned": 1.0},
    ],
    "grad2": [
        {"epsilon": 0.0},
        {"epsilon": 0.4},
        {"epsilon": 2.0},
        {"epsilon": 1.0, "surrogate": "network"},
        {"epsilon": 1.0, "surrogate": "network", "jacobian": "full"},
        {"epsilon": 1.0, "surrogate": "network", "jacobian": "full", "target": "all-ones"},
    ],
    "label-only": [{}],
    "mad": [
        {"epsilon": 0.0},
        {"epsilon": 0.5},
        {"epsilon": 2.0},
        {"epsilon": 1.0, "surrogate": "network"},
        {"epsilon": 1.0, "surrogate": "network", "jacobian": "full"},
        {"epsilon": 0.1, "oracle": "argmax"},
        {"epsilon": 2.0, "oracle": "argmax"},
        {"epsilon": 1.0, "oracle": "argmax", "surrogate": "network"},
        {"epsilon": 1.0, "oracle": "argmax", "surrogate": "network", "jacobian": "full"},
    ],
    "modelguard-s": [{}, {"epsilon": 0.0}, {"epsilon": 0.3}, {"epsilon": 2.0}],
    "modelguard-w": [{"epsilon": 0.0}, {"epsilon": 0.3}, {"epsilon": 1.0}, {"epsilon": 2.0}],
    "reverse-sigmoid": [
        {},
        {"beta": 1.0, "gamma": 0.1},
        {"beta": 0.8, "gamma": 0.2},
        {"beta": 1.0, "gamma": 1.0},
        {"beta": 2.0, "gamma": 1.0},
    ],
    "rounding": [{"decimals": decimals} for decimals in (0, 1, 2, 3, 6)],
    "stingy": [{}, {"ratio": 0.1}, {"ratio": 1.0}],
    "top-k": [{"k": 1}, {"k": 2}],
}
"""Configurations by kind."""

AM: dict[str, Any] = {"kind": "am", "threshold": 0.5}
SIGMOID: dict[str, Any] = {"kind": "reverse-sigmoid"}
MAD: dict[str, Any] = {"kind": "mad", "epsilon": 1.0, "oracle": "argmax"}
GRAD2: dict[str, Any] = {"kind": "grad2", "epsilon": 0.5}

CHAINS: list[Specs] = [
    (),
    (AM, {"kind": "label-only"}),
    ({"kind": "dd-s", "steps": 2}, {"kind": "top-k", "k": 2}),
    ({"kind": "dd-i", "steps": 2}, {"kind": "label-only"}),
    ({"kind": "deepdefense", "steps": 2}, {"kind": "rounding", "decimals": 2}),
    (AM, {"kind": "top-k", "k": 2}),
    (AM, SIGMOID),
    (AM, MAD),
    (AM, {"kind": "modelguard-s", "epsilon": 0.5}),
    (AM, {"kind": "modelguard-w", "epsilon": 1.0}, {"kind": "rounding", "decimals": 3}),
    (GRAD2, {"kind": "top-k", "k": 2}),
    (MAD, {"kind": "rounding", "decimals": 2}),
    (SIGMOID, {"kind": "rounding", "decimals": 2}),
    (SIGMOID, {"kind": "stingy"}),
    ({"kind": "top-k", "k": 2}, {"kind": "rounding", "decimals": 1}),
    ({"kind": "rounding", "decimals": 1}, {"kind": "label-only"}),
    (SIGMOID, {"kind": "reverse-sigmoid", "beta": 0.5}, {"kind": "top-k", "k": 2}),
    (AM, SIGMOID, {"kind": "label-only"}),
    (AM, {"kind": "stingy"}, {"kind": "rounding", "decimals": 3}),
]
"""Chains of none, two and three links."""


ENSEMBLE: list[Specs] = [
    (),
    ({"kind": "label-only"},),
    ({"kind": "rounding", "decimals": 2},),
    ({"kind": "top-k", "k": 2},),
    (AM,),
    (MAD,),
    (SIGMOID, {"kind": "top-k", "k": 2}),
]
"""Chains behind an ensemble of diverse models, which is a victim and no link."""


def pairs() -> Iterator[tuple[Specs, int]]:
    """Every row of the table with every number of classes."""
    alone = [({"kind": kind, **options},) for kind, rows in LINKS.items() for options in rows]
    for specs in [*alone, *CHAINS]:
        for classes in CLASSES:
            yield specs, classes


def ensemble_pairs() -> Iterator[tuple[Specs, int]]:
    """Every chain behind an ensemble with every number of classes."""
    for specs in ENSEMBLE:
        for classes in CLASSES:
            yield specs, classes


def identify(specs: Specs, classes: int) -> str:
    """The name of a row in reports of tests."""
    links = [" ".join(str(value) for value in spec.values()) for spec in specs]
    return f"{' + '.join(links) or 'none'} K={classes}"


def build(specs: Specs, classes: int) -> Chain:
    return build_chain(specs, material(classes))


def respond(chain: Chain, classes: int, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The whole path of a query: what the victim said on the canonical grid, and what leaves."""
    asked = answers(classes, pictures)
    return asked.victim, chain.run(asked).answers.probabilities


def ensemble(classes: int) -> RoutedEnsemble:
    """Five toy members, and a hash network that knows seven classes of its own."""
    members = [network(classes, seed=10 + member) for member in range(5)]
    return RoutedEnsemble(network(7, seed=20), members)


def respond_together(chain: Chain, classes: int, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """As ``respond``, with an ensemble in the place of the single victim."""
    said = ensemble(classes).logits(pictures).softmax(dim=1)
    asked = queries(round_to_grid(said, GRID), pictures=pictures)
    return asked.victim, chain.run(asked).answers.probabilities


def extremes(classes: int) -> Queries:
    """Every kind of row that a victim can say and a defense may stumble over."""
    last = classes - 1
    eye = torch.eye(classes)
    uniform = torch.full((classes,), 1 / classes)
    tied_first = (eye[0] + eye[last]) / 2
    nearly = torch.full((classes,), 1e-5)
    nearly[last] = 1 - (classes - 1) * 1e-5
    lead = uniform.clone()
    lead[last] += 1e-4
    lead /= lead.sum()
    step = torch.zeros(classes)
    step[last], step[0] = 0.50001, 0.49999
    ramp = torch.arange(1, classes + 1, dtype=torch.float32)
    everything_but_one = torch.full((classes,), 1 / (classes - 1))
    everything_but_one[0] = 0.0
    random = torch.softmax(network(classes, seed=0)(images(20, seed=9)), dim=1)
    said = torch.cat(
        [
            eye[[0, last]],
            torch.stack(
                [uniform, tied_first, nearly, lead, step, ramp / ramp.sum(), everything_but_one]
            ),
            random,
        ]
    )
    return queries(round_to_grid(said, GRID))
