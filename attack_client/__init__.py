"""The other side of the wire: steals over HTTP, measures leakage.

The names below are the library. A theft from end to end::

    async with HttpVictim("http://127.0.0.1:8080", "digits") as victim:
        pool = as_pool(models.datasets.load("letters"), victim.facts.shape)
        stolen = await steal(victim, pool, Knockoff(seed=0), budget=2000, out=Path("theft"))
        honest = await measure_honest(victim, test)
    row = train_and_score(
        stolen,
        budget=2000,
        labels="soft",
        recipe=CloneRecipe(architecture="lenet"),
        evaluation=Evaluation(test=test, honest=honest),
    )

A name is imported when it is first used: the command line answers ``--help`` without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attack_client.adaptive.adaptations import Adaptations
    from attack_client.adaptive.contract import Answering, Asking, Harvest, Knowledge, Training
    from attack_client.adaptive.known import KnownDefense
    from attack_client.adaptive.shadow import ShadowService
    from attack_client.adaptive.shared_victim import SharedVictim
    from attack_client.attacks.attribution import Attribution
    from attack_client.attacks.attribution_clone import train_attribution_clone
    from attack_client.attacks.attribution_objective import MapMatching
    from attack_client.attacks.composite import Composite
    from attack_client.attacks.distil import Distil
    from attack_client.attacks.distil_objective import Lesson
    from attack_client.attacks.distil_study import DistilStudy
    from attack_client.attacks.distil_sweep import distil_and_score
    from attack_client.attacks.distil_verdict import Verdict
    from attack_client.attacks.jbda import Jbda
    from attack_client.attacks.jbda_targeted import JbdaTargeted
    from attack_client.attacks.knockoff import Knockoff
    from attack_client.callable_victim import CallableVictim
    from attack_client.campaign import Campaign, run_campaign
    from attack_client.clone import CloneRecipe, train_clone
    from attack_client.clone_cache import CloneCache, CloneShelf
    from attack_client.clone_recipes import clone_recipe
    from attack_client.contract import (
        Attack,
        BlackBox,
        ExplainedReply,
        Explaining,
        Oracle,
        Pool,
        Reply,
        VictimFacts,
    )
    from attack_client.errors import AttackError
    from attack_client.honest import Honest, measure_honest
    from attack_client.http_victim import HttpVictim
    from attack_client.reference import Reference
    from attack_client.report import Report, Row
    from attack_client.retry import RetryPolicy
    from attack_client.scoring import Evaluation, train_and_score
    from attack_client.theft import steal
    from attack_client.transfer_set import TransferSet
    from attack_client.victim_input import TestSet, as_pool

__all__ = [
    "Adaptations",
    "Answering",
    "Asking",
    "Attack",
    "AttackError",
    "Attribution",
    "BlackBox",
    "CallableVictim",
    "Campaign",
    "CloneCache",
    "CloneRecipe",
    "CloneShelf",
    "Composite",
    "Distil",
    "DistilStudy",
    "Evaluation",
    "ExplainedReply",
    "Explaining",
    "Harvest",
    "Honest",
    "HttpVictim",
    "Jbda",
    "JbdaTargeted",
    "Knockoff",
    "Knowledge",
    "KnownDefense",
    "Lesson",
    "MapMatching",
    "Oracle",
    "Pool",
    "Reference",
    "Reply",
    "Report",
    "RetryPolicy",
    "Row",
    "ShadowService",
    "SharedVictim",
    "TestSet",
    "Training",
    "TransferSet",
    "Verdict",
    "VictimFacts",
    "as_pool",
    "clone_recipe",
    "distil_and_score",
    "measure_honest",
    "run_campaign",
    "steal",
    "train_and_score",
    "train_attribution_clone",
    "train_clone",
]

HOMES: Mapping[str, tuple[str, ...]] = {
    "adaptive.adaptations": ("Adaptations",),
    "adaptive.contract": ("Answering", "Asking", "Harvest", "Knowledge", "Training"),
    "adaptive.known": ("KnownDefense",),
    "adaptive.shadow": ("ShadowService",),
    "adaptive.shared_victim": ("SharedVictim",),
    "attacks.attribution": ("Attribution",),
    "attacks.attribution_clone": ("train_attribution_clone",),
    "attacks.attribution_objective": ("MapMatching",),
    "attacks.composite": ("Composite",),
    "attacks.distil": ("Distil",),
    "attacks.distil_objective": ("Lesson",),
    "attacks.distil_study": ("DistilStudy",),
    "attacks.distil_sweep": ("distil_and_score",),
    "attacks.distil_verdict": ("Verdict",),
    "attacks.jbda": ("Jbda",),
    "attacks.jbda_targeted": ("JbdaTargeted",),
    "attacks.knockoff": ("Knockoff",),
    "callable_victim": ("CallableVictim",),
    "campaign": ("Campaign", "run_campaign"),
    "clone": ("CloneRecipe", "train_clone"),
    "clone_cache": ("CloneCache", "CloneShelf"),
    "clone_recipes": ("clone_recipe",),
    "contract": (
        "Attack",
        "BlackBox",
        "ExplainedReply",
        "Explaining",
        "Oracle",
        "Pool",
        "Reply",
        "VictimFacts",
    ),
    "errors": ("AttackError",),
    "honest": ("Honest", "measure_honest"),
    "http_victim": ("HttpVictim",),
    "reference": ("Reference",),
    "report": ("Report", "Row"),
    "retry": ("RetryPolicy",),
    "scoring": ("Evaluation", "train_and_score"),
    "victim_input": ("TestSet", "as_pool"),
    "theft": ("steal",),
    "transfer_set": ("TransferSet",),
}
"""Modules of this package, and the names of the library that they hold."""


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
