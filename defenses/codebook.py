"""What an ordered quantiser looks its words up in, wherever they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

__all__ = ["Codebook", "Words"]


@dataclass(frozen=True, slots=True)
class Words:
    """What a codebook holds for a batch.

    Attributes:
        probabilities: ``(B, K)`` float32, the words; rows meaningful where ``found`` is set.
        found: ``(B,)`` bool, whether there is a word for the row.
    """

    probabilities: Tensor
    found: Tensor


class Codebook(Protocol):
    """Words by class, in the order in which they were stored; none is ever moved or forgotten.

    Since words are only appended, the first word within reach of an answer stays the first: what
    was answered once is answered always, for as long as the words are kept.
    """

    @property
    def stateful(self) -> bool:
        """Whether what was asked before decides what is answered now."""
        ...

    def look_up_or_insert(self, said: Tensor, top: Tensor, epsilon: float) -> Words:
        """The first word of each row's class within ``epsilon``; a row without one may become it.

        Look-up and insertion are one step, whoever else asks at the same time. Rows are taken in
        their order: a row may be answered by the word that an earlier one became.

        Args:
            said: ``(B, K)`` float32 on the simplex.
            top: ``(B,)`` int64, the top-1 of each row.
            epsilon: an L1 distance in [0, 2].

        Returns:
            A row is not ``found`` if no word is within reach and none can be stored: the codebook
            is frozen, its class is full, or the words are elsewhere and cannot be reached now.
        """
        ...

    def check(self, classes: int) -> None:
        """Refuse to work for ``classes`` labels if that is impossible; asked before any query.

        Raises:
            OptionError: naming the option.
        """
        ...

    def options(self) -> dict[str, Any]:
        """What an operator would write to get this codebook."""
        ...
