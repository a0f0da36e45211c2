"""Whole numbers and finite ones: of every attack and add-on, and of what checks them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from attack_client.adaptive import registry as add_ons
from attack_client.adaptive.spec import Spec
from attack_client.attacks import registry as attacks
from attack_client.checked_numbers import finite_number, whole_number
from attack_client.clone import CloneRecipe
from attack_client.errors import AttackError

Make = Callable[[str, str, Any], object]


def an_attack(kind: str, option: str, value: Any) -> object:
    return attacks.make(kind, seed=0, options={option: value})


def an_add_on(kind: str, option: str, value: Any) -> object:
    return add_ons.make(Spec(kind, {option: value}), seed=0)


def options(annotation: str) -> list[tuple[Make, str, str]]:
    """Every option that is annotated so, and how to give it."""
    tables: tuple[tuple[Make, Mapping[str, type]], ...] = (
        (an_attack, attacks.BUILT_IN),
        (an_add_on, add_ons.BUILT_IN),
    )
    return [
        (make, kind, name)
        for make, known in tables
        for kind, made in sorted(known.items())
        for name, parameter in inspect.signature(made).parameters.items()
        if re.search(rf"\b{annotation}\b", str(parameter.annotation))
    ]


@pytest.mark.parametrize(("make", "kind", "option"), options("int"))
@pytest.mark.parametrize("value", [2.5, 100_000.0, True, "1e5", [3]])
def test_every_whole_number_is_one(make: Make, kind: str, option: str, value: Any) -> None:
    with pytest.raises(AttackError, match=rf"{kind}: {option} must be a whole number, .*\d, not "):
        make(kind, option, value)


@pytest.mark.parametrize(("make", "kind", "option"), options("float"))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, [3]])
def test_every_number_is_finite(make: Make, kind: str, option: str, value: Any) -> None:
    with pytest.raises(AttackError, match=rf"{kind}: {option} must be "):
        make(kind, option, value)


@pytest.mark.parametrize(
    "option", ["epochs", "presentations", "batch_size", "least_steps", "per_epoch"]
)
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_a_recipe_is_checked_before_there_is_anything_to_train(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{option} must be .*at least 1, not "):
        CloneRecipe(architecture="lenet", **{option: value})


def test_bounds_are_named() -> None:
    assert whole_number("n", np.int64(3), least=2) == 3
    assert type(whole_number("n", np.int64(3), least=2)) is int, "its repr is a configuration"
    for value, sentence in (
        (1, "n must be between 2 and 9, not 1"),
        (10, "n must be between 2 and 9, not 10"),
        (2.0, r"n must be a whole number, between 2 and 9, not 2\.0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            whole_number("n", value, least=2, most=9)
    assert finite_number("x", 2) == 2
    with pytest.raises(ValueError, match="x must be a finite number, not 'much'"):
        finite_number("x", "much")
