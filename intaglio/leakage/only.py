"""Part of a matrix: ``defense=none,defense=am,seed=0``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from intaglio.leakage.cells import Cell, cells_of
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
            MatrixError: no ``KEY=VALUE``, an unknown key, a value that no cell has, or values
                that no cell has all of: a gate over nothing would pass.
        """
        wanted: dict[str, set[str]] = {}
        for pair in (pair for text in texts for pair in text.split(",")):
            key, equals, value = pair.strip().partition("=")
            if not equals or key not in KEYS:
                raise MatrixError(
                    f"--only {pair!r} must look like KEY=VALUE with KEY one of {', '.join(KEYS)}"
                )
            wanted.setdefault(key, set()).add(value.replace("_", "") if key == "budget" else value)
        cells = cells_of(matrix)
        for key, values in wanted.items():
            known = tuple(dict.fromkeys(str(getattr(cell, key)) for cell in cells))
            for value in sorted(values - set(known)):
                raise MatrixError(
                    f"--only {key}={value}: there is none: there are {', '.join(known)}"
                )
        only = cls({key: frozenset(values) for key, values in wanted.items()})
        if not any(cell in only for cell in cells):
            raise MatrixError(f"--only {only}: no cell has all of that")
        return only

    def __str__(self) -> str:
        """As it may be typed."""
        pairs = ((key, value) for key in KEYS for value in sorted(self.wanted.get(key, ())))
        return ",".join(f"{key}={value}" for key, value in pairs)

    def __contains__(self, cell: Cell) -> bool:
        """Whether ``cell`` is asked for."""
        return all(str(getattr(cell, key)) in values for key, values in self.wanted.items())
