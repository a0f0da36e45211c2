"""An attack's option that stands beside the attack's keys instead of under ``options``."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import ValidationError

from attack_client.attacks.options import option_names
from attack_client.attacks.registry import kinds

__all__ = ["misplaced_option"]


def misplaced_option(error: ValidationError, raw: dict[str, Any]) -> str | None:
    """A sentence on the first unknown key of an attack that is an option of it; None without one.

    Args:
        error: of validating ``raw``.
        raw: the matrix as it was read.
    """
    for detail in error.errors(include_url=False):
        place = detail["loc"]
        if detail["type"] == "extra_forbidden" and len(place) == 3 and place[0] == "attacks":
            name, option = map(str, place[1:])
            entry = raw["attacks"][place[1]]
            kind = str(entry.get("attack") or name)
            if option in _options(kind):
                written = yaml.safe_dump({option: entry[option]}, default_flow_style=True).strip()
                return (
                    f"attacks.{name}.{option}: it is an option of {kind}: put it under options, "
                    f"as in options: {written}"
                )
    return None


def _options(kind: str) -> tuple[str, ...]:
    try:
        attack = kinds().get(kind)
    except Exception:  # of a package that is broken: it is named when its attack is made
        return ()
    return () if attack is None else option_names(attack)
