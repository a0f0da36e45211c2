"""What pydantic found wrong, in one sentence."""

from __future__ import annotations

from pydantic import ValidationError

__all__ = ["first_problem"]

MAPPINGS = frozenset({"dict_type", "model_attributes_type", "model_type"})
"""Errors whose own text names a class of ours, or speaks of instances."""


def first_problem(error: ValidationError, *, root: str = "file") -> str:
    """The first thing that is wrong: ``KEY: what is wrong with it``.

    Pydantic's own texts are given without the value; a validator of ours says what it says.

    Args:
        error: of validating what a person or another program wrote.
        root: what to call it where the whole is wrong, and no single key.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    parts = [str(part) for part in first["loc"]]
    kind, message = first["type"], first["msg"].removeprefix("Value error, ")
    if kind in MAPPINGS:
        message = "must be a mapping of keys to values"
    elif kind == "union_tag_invalid":  # its own text quotes the value
        parts.append(first["ctx"]["discriminator"].strip("'"))
        message = f"must be one of {first['ctx']['expected_tags']}"
    elif kind != "value_error" and not message[:2].isupper():
        message = f"{message[0].lower()}{message[1:]}"
    return f"{'.'.join(parts) or root}: {message}"
