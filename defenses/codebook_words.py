"""Words by class in one tensor, searched for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from defenses.budget import SLACK
from defenses.codebook import Words
from models.simplex import top1

__all__ = ["WordTable"]


class WordTable:
    """An ordered list of words for each of K classes, padded to the longest.

    Args:
        classes: K.
        words: ``(n, K)`` float32 on the simplex, in their order; each belongs to its top-1.
        device: where they are searched.
    """

    def __init__(
        self, classes: int, words: Tensor | None = None, *, device: torch.device | str = "cpu"
    ) -> None:
        self.classes = classes
        self._counts = [0] * classes
        # What is not there is infinitely far from everything.
        self._words = torch.full((classes, 1, classes), torch.inf, device=device)
        if words is not None:
            self._fill(words.to(device))

    def __len__(self) -> int:
        return sum(self._counts)

    def count(self, label: int) -> int:
        """How many words the class ``label`` has."""
        return self._counts[label]

    def append(self, label: int, word: Tensor) -> None:
        """Store ``word`` ``(K,)`` behind the others of ``label``."""
        count = self._counts[label]
        if count == self._words.shape[1]:
            self._words = torch.cat((self._words, torch.full_like(self._words, torch.inf)), dim=1)
        self._words[label, count] = word
        self._counts[label] = count + 1

    def stored(self) -> Tensor:
        """Every word, class by class, each class in its order: ``(n, K)``."""
        held = [self._words[label, :count] for label, count in enumerate(self._counts)]
        return torch.cat(held)

    def search(self, said: Tensor, top: Tensor, epsilon: float) -> Words:
        """For each row of ``said`` ``(B, K)`` the first word of its class within ``epsilon``.

        The work does not depend on what is found.
        """
        candidates = self._words[top]
        # In float64: whether a word is within reach is a hard decision.
        apart = torch.cdist(said[:, None].double(), candidates.double(), p=1.0)[:, 0]
        within = apart <= epsilon + SLACK
        first = within.to(torch.uint8).argmax(dim=1)
        index = first[:, None, None].expand(-1, 1, self.classes)
        return Words(candidates.gather(1, index)[:, 0], within.any(dim=1))

    def _fill(self, words: Tensor) -> None:
        labels = top1(words).tolist()
        longest = max((labels.count(label) for label in set(labels)), default=1)
        self._words = self._words.expand(-1, longest, -1).clone()
        for label, word in zip(labels, words, strict=True):
            self.append(label, word)
