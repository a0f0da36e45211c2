"""ModelGuard-S: many answers share one word, the first that was stored within the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from defenses.budget import checked_budget
from defenses.codebook import Codebook
from defenses.codebook_frozen import FrozenCodebook
from defenses.codebook_memory import CAPACITY, MemoryCodebook
from defenses.contract import Answers, Defense, Material, Queries, Stage
from defenses.errors import OptionError
from defenses.lattice import coarsest_within
from defenses.options import coerce
from models.simplex import top1

__all__ = ["ModelGuardS"]

ELSEWHERE = {"frozen": (), "memory": ("capacity",), "redis": ("capacity", "url", "password_file")}
"""Options that each kind of codebook understands."""


class ModelGuardS(Defense):
    """Answers with the first stored word of the top-1's class that the budget reaches.

    Ordered incremental quantisation: "ModelGuard: Information-Theoretic Defense Against Model
    Extraction Attacks" (Tang et al., USENIX Security 2024), the variant S. Words are answers that
    were given before. An answer v is replaced by the first word w with the same top-1 and
    ``|w - v|_1 <= epsilon``; the authors store v as a further word where there is none. Whoever
    sees w learns which cell v is in, and no more.

    With a frozen codebook (the default), the words are answers to calibration images and none is
    added: the defense is pure. With one that grows (``memory``, ``redis``: the paper's form) it is
    stateful, shared by all callers, and the first answer in a cell leaves as it was.

    Ours is what happens where no word is in reach and none can be stored (a frozen codebook, a full
    one, or one that cannot be reached): the answer is put on the coarsest grid that the budget
    allows, so that no query is answered beyond the budget or as it was.

    Args:
        epsilon: the budget, an L1 distance in [0, 2]. By default that of the frozen codebook.
        codebook: where the words are. An operator writes ``frozen``, ``memory`` or ``redis``; the
            latter two with ``capacity`` (words of all classes together), the last with ``url``
            (``redis://HOST:PORT/DB``) and ``password_file``.

    Raises:
        OptionError: an option is out of range.
    """

    kind: ClassVar[str] = "modelguard-s"
    stage: ClassVar[Stage] = Stage.PERTURB
    looked_up: ClassVar[tuple[str, ...]] = ("capacity", "password_file", "url")

    def __init__(self, *, epsilon: float, codebook: Codebook) -> None:
        self.epsilon = checked_budget(epsilon)
        self._codebook = codebook
        self.stateful = self.timing_leak = codebook.stateful

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """Words ``(B, K)`` with the top-1 that the rows had, within ``epsilon`` of them."""
        del queries
        if answers.probabilities.shape[0] == 0:
            return answers
        return replace(answers, probabilities=self.quantised(answers.probabilities)[0])

    def quantised(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """What leaves for ``given`` ``(B, K)``, and ``(B,)`` bool, for which rows it is a word."""
        words = self._codebook.look_up_or_insert(given, top1(given), self.epsilon)
        otherwise = coarsest_within(given, self.epsilon)
        return torch.where(words.found[:, None], words.probabilities, otherwise), words.found

    def check(self, classes: int) -> None:
        """Refuse words of another number of classes, or a store that does not answer."""
        self._codebook.check(classes)

    def options(self) -> dict[str, Any]:
        """``epsilon``, and what tells where the words are."""
        return {"epsilon": self.epsilon, **self._codebook.options()}

    @classmethod
    def resolve(cls, options: Mapping[str, Any], material: Material) -> Mapping[str, Any]:
        """Find or make the codebook that ``options`` name.

        Raises:
            OptionError: there is no such codebook, or an option is not for it.
        """
        where = options.get("codebook", "frozen")
        if not isinstance(where, str) or where not in ELSEWHERE:
            raise OptionError("codebook", f"must be frozen, memory or redis, not {where!r}")
        for option in cls.looked_up:
            if option in options and option not in ELSEWHERE[where]:
                raise OptionError(option, f"is not for a codebook that is {where}")
        if where == "frozen":
            return _frozen(options, material)
        if "epsilon" not in options:
            raise OptionError("epsilon", f"a codebook in {where} needs this option")
        epsilon = checked_budget(coerce("epsilon", options["epsilon"], float))
        capacity = coerce("capacity", options.get("capacity", CAPACITY), int)
        if where == "memory":
            return {"epsilon": epsilon, "codebook": MemoryCodebook(capacity)}
        from defenses.codebook_redis import RedisCodebook

        if "url" not in options:
            raise OptionError("url", "a codebook in redis needs this option: redis://HOST:PORT/DB")
        password_file = options.get("password_file")
        codebook = RedisCodebook(
            coerce("url", options["url"], str),
            # Two budgets make two codebooks, and so do two versions of a model.
            name=f"{material.card.name}/{material.card.version}:{epsilon:g}",
            capacity=capacity,
            password_file=password_file and coerce("password_file", password_file, Path),
        )
        return {"epsilon": epsilon, "codebook": codebook}


def _frozen(options: Mapping[str, Any], material: Material) -> Mapping[str, Any]:
    card = material.card
    held, words = card.codebooks.get("modelguard-s"), material.codebooks.get("modelguard-s")
    if held is None or words is None:
        raise OptionError(
            "codebook",
            f"the bundle {card.name}/{card.version} holds none for modelguard-s: build one with "
            "intaglio calibrate modelguard-s, or keep words in memory or redis",
        )
    epsilon = options.get("epsilon", held.epsilon)
    return {"epsilon": epsilon, "codebook": FrozenCodebook(words)}
