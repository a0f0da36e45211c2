"""Part of a matrix: ``defense=none,defense=am,seed=0``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from intaglio.leakage.cells import Cell
from intaglio.leakage.errors import MatrixError
from intaglio.leakage.matrix import Matrix

__all__ = ["Only"]

KEYS = ("defense", "attack", "labels", "budget", "seed")


@dataclass(frozen=True, slots=True)
class Only:
    """Cells with one of the wanted values under every key that is given.

    Attributes:
        wanted: values by key, as text.
    """

    wanted: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Sequence[str], matrix: Matrix) -> Only:
        """From what a person typed; several texts are taken together.

        Raises:
            MatrixError: no ``KEY=VALUE``, an unknown key, or a value that no cell has.
        """
        wanted: dict[str, set[str]] = {}
        for pair in (pair for text in texts for pair in text.split(",")):
            key, equals, value = pair.strip().partition("=")
            if not equals or key not in KEYS:
                raise MatrixError(
                    f"--only {pair!r} must look like KEY=VALUE with KEY one of {', '.join(KEYS)}"
                )
            wanted.setdefault(key, set()).add(value.replace("_", "") if key == "budget" else value)
        names: dict[str, Sequence[object]] = {
            "defense": tuple(matrix.defenses),
            "attack": tuple(matrix.attacks),
        }
        for key, known in names.items():
            for value in wanted.get(key, set()) - set(map(str, known)):
                raise MatrixError(
                    f"--only {key}={value}: there is none: there are {', '.join(map(str, known))}"
                )
        return cls({key: frozenset(values) for key, values in wanted.items()})

    def __str__(self) -> str:
        """As it may be typed."""
        pairs = ((key, value) for key in KEYS for value in sorted(self.wanted.get(key, ())))
        return ",".join(f"{key}={value}" for key, value in pairs)

    def __contains__(self, cell: Cell) -> bool:
        """Whether ``cell`` is asked for."""
        return all(str(getattr(cell, key)) in values for key, values in self.wanted.items())
