"""What decides the weights of a victim, and the digest of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from intaglio.leakage.errors import MatrixError
from intaglio.leakage.foreign_code import code_of_nets
from intaglio.leakage.matrix import Matrix
from intaglio.recipe import Recipe, load_recipe
from models.bundle import read_card
from models.errors import ModelsError

__all__ = ["FORMAT", "architectures_of", "coded", "hash_of", "recipe_of", "victim_digest"]

FORMAT = 1
"""Raised when results of earlier versions are no longer to be believed."""


@cache
def _recipe(source: str, changes: tuple[str, ...]) -> Recipe:
    return load_recipe(source, changes)


def recipe_of(matrix: Matrix, name: str, seed: int) -> Recipe:
    """The recipe of the victim ``name`` for ``seed``, without what it is measured against.

    Raises:
        MatrixError: there is no such recipe, or it is wrong.
    """
    entry = matrix.victims[name]
    assert entry.recipe is not None, "a bundle has no recipe"
    changes = tuple(change.replace("{seed}", str(seed)) for change in entry.set)
    if not any(change.partition("=")[0].strip() == "plan.seed" for change in changes):
        changes = (*changes, f"plan.seed={seed}")
    try:
        return _recipe(entry.recipe, changes)
    except ModelsError as error:
        raise MatrixError(f"victims.{name}: {error}") from error


def victim_digest(matrix: Matrix, name: str, seed: int) -> str:
    """The same of a victim's weights, from its recipe and not from what training made of it.

    Raises:
        MatrixError: a recipe or a bundle is not there, or wrong.
    """
    entry = matrix.victims[name]
    if entry.bundle is not None:
        try:
            card = read_card(entry.bundle)
        except ModelsError as error:
            raise MatrixError(f"victims.{name}.bundle: {error}") from error
        # All of a card that decides answers, and nothing that only tells of it.
        decides = card.model_dump(
            mode="json",
            exclude={
                "name": True,
                "version": True,
                "description": True,
                "measured": True,
                "networks": {"__all__": {"training", "measured"}},
            },
        )
        return hash_of(
            {"format": FORMAT, "bundle": decides, **coded(_nets_code(matrix, name, seed))}
        )
    described = recipe_of(matrix, name, seed).model_dump(
        mode="json", exclude={"name", "version", "description", "reproduces", "measured"}
    )
    others = {
        key: victim_digest(matrix, other, seed)
        for key, other in (("reference", entry.reference), ("base", entry.base))
        if other is not None
    }
    code = coded(_nets_code(matrix, name, seed))
    return hash_of({"format": FORMAT, "recipe": described, **others, **code})


def architectures_of(matrix: Matrix, name: str, seed: int) -> tuple[str, ...]:
    """Of all networks of a victim.

    Raises:
        MatrixError: there is no such recipe, or it is wrong.
        ModelsError: there is no such bundle, or its card is wrong.
    """
    bundle = matrix.victims[name].bundle
    if bundle is not None:
        return tuple(network.architecture for network in read_card(bundle).networks.values())
    recipe = recipe_of(matrix, name, seed)
    ensemble = recipe.objective.ensemble
    routed = () if ensemble is None else (ensemble.hash.architecture.name,)
    return (recipe.architecture.name, *routed)


def _nets_code(matrix: Matrix, name: str, seed: int) -> Mapping[str, str]:
    names = architectures_of(matrix, name, seed)
    return code_of_nets(names, matrix.factories)


def coded(*codes: Mapping[str, str]) -> dict[str, Any]:
    """``codes`` under one key; nothing where all is ours, and a digest is as it always was."""
    found = {name: code for each in codes for name, code in each.items()}
    return {"code": found} if found else {}


def hash_of(value: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits: equal for equal ``value``."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
