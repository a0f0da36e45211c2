"""What DeepDefense of maps is tried with: interpreters, forms of weights, links."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from defenses.contract import Answers, Queries
from defenses.deep_defense_factors import Factors
from defenses.deep_defense_maps import DeepDefense, DeepDefenseMaps
from defenses.deep_defense_objective import Goal
from defenses.deep_defense_ranking import ranking
from defenses.deep_defense_weights import Weights
from models.explain import FunctionalInterpreter, GradientInterpreter, build_interpreter
from models.simplex import top1
from tests.defenses.misled import GROUPS, LAYERS, goal

__all__ = [
    "aim",
    "by_gradients",
    "defended",
    "every_way",
    "explaining",
    "form_of",
    "interpreter_of",
    "left",
    "maps_only",
]

Form = Factors | Weights

by_gradients = pytest.mark.parametrize("interpreter", ["grad-cam", "gradient-x-input"])
"""Those whose maps come out of the one pass that the low-rank form makes."""

every_way = pytest.mark.parametrize(
    ("weights", "interpreter"),
    [
        ("low-rank", "grad-cam"),
        ("low-rank", "gradient-x-input"),
        ("full", "grad-cam"),
        ("full", "gradient-x-input"),
        ("full", "relevance-cam"),
    ],
)


def interpreter_of(network: nn.Module, name: str) -> FunctionalInterpreter:
    # Below that layer the small network does what Relevance-CAM has no rule for.
    above = "2" if name == "relevance-cam" and isinstance(network, nn.Sequential) else None
    made = build_interpreter(name, network, layer=above)
    assert isinstance(made, FunctionalInterpreter)
    return made


def form_of(
    weights: str, network: nn.Module, queries: Queries, name: str, groups: Any = GROUPS
) -> Form:
    given: dict[str, Any] = {
        "groups": groups,
        "images": queries.images,
        "labels": top1(queries.victim),
        "interpreter": interpreter_of(network, name),
    }
    if weights == "full":
        return Weights(network, **given)
    assert isinstance(given["interpreter"], GradientInterpreter)
    return Factors(network, rank=2, **given)


def defended(network: nn.Module, name: str = "grad-cam", **options: Any) -> DeepDefense:
    return DeepDefense(
        victim=network, interpreter=interpreter_of(network, name), layers=LAYERS, **options
    )


def aim(queries: Queries, form: Form) -> Goal:
    assert form.maps is not None
    return replace(goal(queries, k=1), ranking=ranking(form.maps), ranking_weight=0.7)


def explaining(queries: Queries) -> Queries:
    return replace(queries, explain=torch.ones_like(queries.explain))


def left(defense: DeepDefense, queries: Queries) -> tuple[Tensor, Tensor]:
    answers = defense.apply(queries, Answers(queries.victim))
    assert answers.attributions is not None
    return answers.probabilities, answers.attributions


def maps_only(network: nn.Module, **options: Any) -> DeepDefenseMaps:
    return DeepDefenseMaps(
        victim=network,
        interpreter=interpreter_of(network, "grad-cam"),
        layers=LAYERS,
        **options,
    )
