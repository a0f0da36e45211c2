"""What is wrong with a recipe, in one sentence that names the key as a person wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

__all__ = ["sentence"]


def sentence(error: ValidationError, raw: dict[str, Any], schema: type[BaseModel]) -> str:
    """What is wrong, by its key; of several things, the one found deepest in the recipe.

    Args:
        error: of validating ``raw``.
        raw: the recipe as it was read.
        schema: what it was validated against; a near miss is looked for among its keys.
    """
    details = error.errors(include_url=False)
    worst = max(details, key=lambda detail: len(_dotted(detail["loc"], raw)))
    kind, message = worst["type"], worst["msg"].removeprefix("Value error, ")
    key = ".".join(_dotted(worst["loc"], raw)) or "recipe"
    if kind == "missing":
        return f"{key}.{worst['loc'][-1]}: this key is required".removeprefix("recipe.")
    if kind == "union_tag_not_found":
        return f"{key}.kind: this key is required"
    if kind == "extra_forbidden":
        known = list(_keys(schema))
        if key in known:  # of another kind of the same section, whose tag comes before the key
            return f"{key}: {worst['loc'][-2]} has no such key"
        near = difflib.get_close_matches(key, known, n=1)
        return f"{key}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")
    return f"{key}: {message[0].lower()}{message[1:]}"


def _dotted(location: tuple[int | str, ...], raw: Any) -> list[str]:
    """The parts of ``location`` that a person wrote: the tags of unions are left out."""
    parts = []
    for part in location:
        held = isinstance(raw, dict) and part in raw
        listed = isinstance(raw, list) and isinstance(part, int)
        if held or listed:
            raw = raw[part]
            parts.append(str(part))
    return parts


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that a recipe may have."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for inner in _models(field.annotation):
            yield from _keys(inner, f"{prefix}{name}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if get_origin(annotation) in {Union, UnionType, Annotated}:
        for choice in get_args(annotation):
            yield from _models(choice)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
