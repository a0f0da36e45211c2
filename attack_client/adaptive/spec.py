"""An add-on as people write it: ``NAME`` or ``NAME:option=value,option=value``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from attack_client.errors import AdaptationError

__all__ = ["Spec"]


@dataclass(frozen=True, slots=True)
class Spec:
    """An add-on that is asked for.

    Attributes:
        name: its kind.
        options: by name; what is not among them has its default.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Spec:
        """From ``NAME[:option=value,...]``; a value is YAML without commas.

        Raises:
            AdaptationError: it is not of that form, or names an option twice.
        """
        name, _, rest = text.partition(":")
        options: dict[str, Any] = {}
        for pair in filter(None, rest.split(",")):
            option, equals, value = pair.partition("=")
            if not equals or not option.strip():
                raise AdaptationError(f"--adapt {text}: {pair!r} is not option=value")
            if option.strip() in options:
                raise AdaptationError(f"--adapt {text}: {option.strip()} is given twice")
            try:
                options[option.strip()] = yaml.safe_load(value)
            except (yaml.YAMLError, ValueError) as error:
                raise AdaptationError(f"--adapt {text}: {value!r} is not YAML") from error
        if not name.strip():
            raise AdaptationError(f"--adapt {text!r} names no add-on")
        return cls(name.strip(), options)

    def title(self, untold: Collection[str] = ()) -> str:
        """How reports call it: its name, and the options that were chosen but for ``untold``."""
        chosen = ", ".join(
            f"{name}={value}" for name, value in sorted(self.options.items()) if name not in untold
        )
        return f"{self.name}({chosen})" if chosen else self.name
