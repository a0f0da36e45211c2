"""What an answer passes through before it leaves, and how defended weights are trained."""

from __future__ import annotations

from defenses.adaptive_misinformation import AdaptiveMisinformation
from defenses.chain import Chain, Outcome
from defenses.contract import Answers, Defense, Interpret, Material, Output, Queries, Stage
from defenses.deep_defense import DeepDefenseProbabilities
from defenses.deep_defense_maps import DeepDefense, DeepDefenseMaps
from defenses.errors import (
    DefenseError,
    MissingRole,
    OptionError,
    OrderError,
    PluginError,
    UnknownDefense,
)
from defenses.explanations import Explainer
from defenses.grad2 import Grad2
from defenses.label_only import LabelOnly
from defenses.mad import Mad
from defenses.modelguard_s import ModelGuardS
from defenses.modelguard_w import ModelGuardW
from defenses.registry import build_chain, kinds, required_roles
from defenses.reverse_sigmoid import ReverseSigmoid
from defenses.rounding import Rounding
from defenses.stingy import Stingy
from defenses.top_k import TopK

__all__ = [
    "AdaptiveMisinformation",
    "Answers",
    "Chain",
    "DeepDefense",
    "DeepDefenseMaps",
    "DeepDefenseProbabilities",
    "Defense",
    "DefenseError",
    "Explainer",
    "Grad2",
    "Interpret",
    "LabelOnly",
    "Mad",
    "Material",
    "MissingRole",
    "ModelGuardS",
    "ModelGuardW",
    "OptionError",
    "OrderError",
    "Outcome",
    "Output",
    "PluginError",
    "Queries",
    "ReverseSigmoid",
    "Rounding",
    "Stage",
    "Stingy",
    "TopK",
    "UnknownDefense",
    "build_chain",
    "kinds",
    "required_roles",
]
