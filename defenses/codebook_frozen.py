"""A codebook built beforehand and never changed: looking up is a pure function."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from defenses.codebook import Words
from defenses.codebook_words import WordTable
from defenses.errors import OptionError

__all__ = ["FrozenCodebook"]


class FrozenCodebook:
    """The words that calibration left in a bundle.

    Args:
        words: ``(n, K)`` float32 on the simplex, in their order, on the engine's device.
    """

    stateful = False

    def __init__(self, words: Tensor) -> None:
        self._table = WordTable(words.shape[1], words, device=words.device)

    def look_up_or_insert(self, said: Tensor, top: Tensor, epsilon: float) -> Words:
        """See ``Codebook``; nothing is inserted."""
        return self._table.search(said, top, epsilon)

    def check(self, classes: int) -> None:
        """Refuse words of another number of classes.

        Raises:
            OptionError: naming ``codebook``.
        """
        if classes != self._table.classes:
            raise OptionError(
                "codebook", f"its words have {self._table.classes} classes, not {classes}"
            )

    def options(self) -> dict[str, Any]:
        """``codebook``."""
        return {"codebook": "frozen"}
