"""From what an operator wrote to the constructor of a defense: types, names, networks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from defenses.contract import Defense, Material
from defenses.errors import MissingRole, OptionError

__all__ = ["coerce", "construct", "option_names"]

T = TypeVar("T")

INTERPRETER = "interpreter"


def coerce(option: str, value: Any, annotation: type[T]) -> T:
    """``value`` as ``annotation``: YAML's ``2`` for a float, ``"0.5"`` from an environment.

    Raises:
        OptionError: it is of another type, NaN or infinite; names ``option``.
    """
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
    except Exception:  # pydantic knows no schema for this type, so the constructor judges alone
        return value  # type: ignore[no-any-return]
    try:
        # Strict for booleans only: YAML's ``k: yes`` is no number, although Python's True is.
        return adapter.validate_python(value, strict=True if isinstance(value, bool) else None)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]["msg"]
        raise OptionError(option, f"{first[0].lower()}{first[1:]}, not {value!r}") from None


def option_names(defense: type[Defense]) -> tuple[str, ...]:
    """What an operator may write for ``defense``, sorted."""
    return tuple(sorted({*_parameters(defense), *defense.looked_up}))


def construct(defense: type[Defense], options: Mapping[str, Any], material: Material) -> Defense:
    """Build a defense from written options and the networks it asks for.

    Raises:
        OptionError: an option is unknown, missing, of a wrong type or out of range.
        MissingRole: a network is not in ``material``.
    """
    names = option_names(defense)
    for option in options:
        if option not in names:
            offered = f"it has {', '.join(names)}" if names else "it has none"
            raise OptionError(str(option), f"{defense.kind} has no such option: {offered}")
    needed = defense.needs(options)
    for role in needed:
        if role not in material.networks:
            card = material.card
            raise MissingRole(
                f"{defense.kind} needs a network of role {role!r}, which the bundle "
                f"{card.name}/{card.version} does not hold: serve a bundle that does, or name "
                f"one under roles ({role}: NAME/VERSION#{role})"
            )
    if defense.interprets and material.interpreter is None:
        raise OptionError(
            "kind",
            f"{defense.kind} changes attribution maps, and this model serves none: give it "
            "explanations, or take another defense",
        )
    resolved = defense.resolve(dict(options), material)
    hints = get_type_hints(defense.__init__, include_extras=True)
    arguments: dict[str, Any] = {}
    for name, parameter in _parameters(defense).items():
        if name in resolved:
            arguments[name] = coerce(name, resolved[name], hints.get(name, Any))
        elif parameter.default is parameter.empty:
            raise OptionError(name, f"{defense.kind} needs this option")
    for role in needed:
        arguments[role.replace("-", "_")] = material.networks[role]
    if defense.interprets:
        arguments[INTERPRETER] = material.interpreter
    return defense(**arguments)


def _parameters(defense: type[Defense]) -> dict[str, inspect.Parameter]:
    """Keyword-only parameters of the constructor that are options, by name."""
    given = {role.replace("-", "_") for role in defense.roles}
    if defense.interprets:
        given.add(INTERPRETER)
    return {
        name: parameter
        for name, parameter in inspect.signature(defense).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in given
    }
