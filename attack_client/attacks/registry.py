"""Attacks by name: ours, and those of installed packages."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from attack_client.attacks.attribution import Attribution
from attack_client.attacks.composite import Composite
from attack_client.attacks.distil import Distil
from attack_client.attacks.jbda import Jbda
from attack_client.attacks.jbda_targeted import JbdaTargeted
from attack_client.attacks.knockoff import Knockoff
from attack_client.attacks.options import check_types, option_names
from attack_client.contract import Attack
from attack_client.errors import AttackError

__all__ = ["GROUP", "kinds", "make"]

GROUP = "intaglio.attacks"
"""Entry point group in which a package announces its attacks, by kind."""

BUILT_IN: dict[str, type[Attack]] = {
    Attribution.kind: Attribution,
    Composite.kind: Composite,
    Distil.kind: Distil,
    Jbda.kind: Jbda,
    JbdaTargeted.kind: JbdaTargeted,
    Knockoff.kind: Knockoff,
}


def kinds() -> Mapping[str, type[Attack]]:
    """Every attack by kind. Ours cannot be replaced by an installed package.

    Raises:
        AttackError: an entry point is not an ``Attack`` of its name.
    """
    found = dict(BUILT_IN)
    for entry in entry_points(group=GROUP):
        if entry.name in BUILT_IN:
            raise AttackError(f"entry point {entry.value} may not replace attack {entry.name!r}")
        attack = entry.load()
        if not (isinstance(attack, type) and issubclass(attack, Attack)):
            raise AttackError(f"entry point {entry.value} is not an attack")
        if attack.kind != entry.name:
            raise AttackError(
                f"entry point {entry.name!r} names attack {entry.value}, "
                f"which calls itself {attack.kind!r}"
            )
        found[entry.name] = attack
    return found


def make(
    kind: str,
    *,
    seed: int,
    options: Mapping[str, Any] | None = None,
    surroundings: Mapping[str, Any] | None = None,
) -> Attack:
    """An attack of ``kind`` with its hyper-parameters; ``seed`` goes to those that take one.

    Args:
        kind: its name.
        seed: of what it draws.
        options: hyper-parameters; an unknown one is refused.
        surroundings: what else is known, ``clone`` for instance, for attacks that take it and are
            given no option of that name.

    Raises:
        AttackError: no such attack, or it refuses an option; the sentence names it.
    """
    attacks = kinds()
    if kind not in attacks:
        raise AttackError(f"there is no attack {kind!r}: there are {', '.join(sorted(attacks))}")
    attack = attacks[kind]
    known = inspect.signature(attack).parameters
    given = dict(options or {})
    for name in given:
        if name not in known:
            own = ", ".join(option_names(attack)) or "none"
            raise AttackError(f"attack {kind} has no option {name!r}: there are {own}")
    for name, value in {**(surroundings or {}), "seed": seed}.items():
        if name in known:
            given.setdefault(name, value)
    try:
        made = attack(**given)
    except (TypeError, ValueError) as error:
        raise AttackError(f"attack {kind}: {error}") from error
    check_types(attack, options or {})  # a constructor that checks has the better sentence
    return made
