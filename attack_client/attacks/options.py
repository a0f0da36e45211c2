"""The options of an attack: keywords of its constructor, by their annotations and defaults."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from attack_client.contract import Attack
from attack_client.errors import AttackError

__all__ = ["check_types", "describe", "option_names"]

GIVEN = frozenset({"seed", "device", "allow_factories"})
"""What an attack is told by flags of the command line."""


def option_names(attack: type[Attack]) -> tuple[str, ...]:
    """What a person may set, in the order of the constructor."""
    return tuple(name for name in inspect.signature(attack).parameters if name not in GIVEN)


def check_types(attack: type[Attack], options: Mapping[str, Any]) -> None:
    """Refuse a value of another type than its annotation says, where it says one that is known.

    Args:
        attack: whose constructor is annotated.
        options: as they were read from YAML.

    Raises:
        AttackError: names the attack and the option.
    """
    if not options:
        return
    try:
        hints = get_type_hints(attack.__init__)
    except Exception:  # an annotation that cannot be read at run time: the constructor judges alone
        return
    for name, value in options.items():
        adapter = _adapter(hints.get(name, Any))
        if adapter is None:
            continue
        try:
            adapter.validate_json(json.dumps(value, default=_written), strict=True)
        except TypeError:  # no value of YAML: the constructor judges alone
            continue
        except ValidationError as error:
            said = error.errors(include_url=False)[0]["msg"]
            raise AttackError(
                f"attack {attack.kind}: {name}: {said[0].lower()}{said[1:]}, not {value!r}"
            ) from error


def _written(value: object) -> object:
    """What YAML would hold in the place of ``value``."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path | date):
        return str(value)
    raise TypeError(f"{value!r} is no value of YAML")


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(annotation)
    except Exception:  # pydantic knows no schema for this type
        return None


def describe(attack: type[Attack]) -> str:
    """What it is, from its docstring, and its options with their defaults."""
    about = inspect.cleandoc(attack.__dict__.get("__doc__") or "").partition("\n\n")[0]
    parameters = inspect.signature(attack).parameters
    options = ", ".join(_described(parameters[name]) for name in option_names(attack))
    found = [*about.split(), f"Options: {options}." if options else ""]
    return " ".join(filter(None, found))


def _described(option: inspect.Parameter) -> str:
    if option.default is option.empty:
        return f"{option.name} (required)"
    return f"{option.name} ({'none' if option.default is None else option.default})"
