"""What makes clones of one theft comparable: how they were trained, and what was known."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from attack_client.adaptive.known import KnownDefense
from attack_client.adaptive.shadow import ShadowService
from attack_client.clone import CloneRecipe
from attack_client.provenance import Provenance
from attack_client.report import Theft
from attack_client.theft_identity import identify
from attack_client.victim_input import TestSet as Examined
from models.training.plan import Adam

RECIPE = CloneRecipe(architecture="lenet", epochs=1)
KNOWN = KnownDefense("defenses:made", {"b": {1: 2, "c": [3]}, "a": 2})
SHADOW = ShadowService("http://shadow", "behind", "plain")
ID = uuid.UUID(int=1)


def identity(**changed: Any) -> Theft:
    told: dict[str, Any] = {"recipe": RECIPE, "known": KNOWN, "shadow": SHADOW, **changed}
    images = np.zeros((2, 1, 4, 4), dtype=np.uint8)
    test = Examined(name="t", images=images, labels=np.zeros(2, dtype=np.int64), classes=2)
    provenance = Provenance(
        id=ID,
        url="http://victim",
        model="m",
        shape=(1, 4, 4),
        classes=2,
        pool="p",
        pool_sha256="0",
        attack="knockoff",
        configuration="knockoff()",
    )
    return identify(provenance, test, None, **told)


def test_equal_commands_are_of_one_theft_whatever_the_clone_is() -> None:
    resnet = replace(RECIPE, architecture="own.py:net", allow_factories=["own.py:net"])
    again = KnownDefense("defenses:made", {"a": 2, "b": {1: 2, "c": [3]}})
    assert identity() == identity(recipe=resnet, known=again)
    assert identity(known=None, shadow=None).knowledge is None


@pytest.mark.parametrize(
    "change",
    [{"epochs": 50}, {"augment": "crop-flip"}, {"holdout": 0.1}, {"optimiser": Adam()}],
)
def test_another_way_to_train_clones_is_another(change: dict[str, Any]) -> None:
    changed = identity(recipe=replace(RECIPE, **change))
    assert changed.learning != identity().learning
    assert identity().joined(changed) is None


@pytest.mark.parametrize(
    "change",
    [
        {"known": KnownDefense("defenses:other", KNOWN.options)},
        {"known": KnownDefense("defenses:made", {**KNOWN.options, "a": 3})},
        {"known": None},
        {"shadow": replace(SHADOW, url="http://other")},
        {"shadow": replace(SHADOW, defended="other")},
        {"shadow": replace(SHADOW, plain="other")},
        {"shadow": replace(SHADOW, softmax=True)},
    ],
)
def test_another_knowledge_of_the_defense_is_another(change: dict[str, Any]) -> None:
    changed = identity(**change)
    assert changed.learning == identity().learning
    assert identity().joined(changed) is None


def test_a_key_and_how_long_a_shadow_is_waited_for_change_nothing() -> None:
    assert identity(shadow=replace(SHADOW, api_key="k", timeout_s=1.0)) == identity()
