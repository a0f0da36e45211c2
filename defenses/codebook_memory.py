"""A codebook that grows with what is asked, in the memory of one process."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from defenses.codebook import Words
from defenses.codebook_words import WordTable
from defenses.errors import OptionError

__all__ = ["CAPACITY", "MemoryCodebook", "checked_capacity", "share"]

CAPACITY = 4096
"""Words of all classes together, if nothing else is said."""

MOST = 65_536


def checked_capacity(capacity: int) -> int:
    """``capacity``, if it is a number of words.

    Raises:
        OptionError: it is not between 1 and 65,536.
    """
    if not 1 <= capacity <= MOST:
        raise OptionError("capacity", f"must be between 1 and {MOST} words, not {capacity}")
    return capacity


def share(capacity: int, classes: int) -> int:
    """Words that each of ``classes`` may have: equal shares, so that none starves another."""
    return max(1, capacity // classes)


class MemoryCodebook:
    """Words by class, shared by all callers of this process and forgotten when it ends.

    Thread-safe.

    Args:
        capacity: words of all classes together; each class has an equal share. A class that is
            full gets no more words.
    """

    stateful = True

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = checked_capacity(capacity)
        self._lock = threading.Lock()
        self._table: WordTable | None = None

    def __len__(self) -> int:
        return 0 if self._table is None else len(self._table)

    def look_up_or_insert(self, said: Tensor, top: Tensor, epsilon: float) -> Words:
        """See ``Codebook``."""
        here, labels = said.cpu(), top.cpu()
        with self._lock:
            if self._table is None:
                self._table = WordTable(said.shape[1])
            most = share(self.capacity, said.shape[1])
            words = self._table.search(here, labels, epsilon)
            for row in torch.nonzero(~words.found)[:, 0].tolist():
                one = slice(row, row + 1)
                label = int(labels[row])
                again = self._table.search(here[one], labels[one], epsilon)
                if not again.found and self._table.count(label) < most:
                    self._table.append(label, here[row])
                    again = Words(here[one], torch.ones(1, dtype=torch.bool))
                words.probabilities[one], words.found[one] = again.probabilities, again.found
        return Words(words.probabilities.to(said.device), words.found.to(said.device))

    def words(self) -> Tensor:
        """Everything stored: ``(n, K)`` float32, class by class, each class in its order."""
        if self._table is None:
            return torch.empty(0, 0)
        with self._lock:
            return self._table.stored()

    def check(self, classes: int) -> None:
        """Nothing to refuse: memory is always there."""
        del classes

    def options(self) -> dict[str, Any]:
        """``codebook`` and ``capacity``."""
        return {"codebook": "memory", "capacity": self.capacity}
