"""DeepDefense of attribution maps: with the probabilities, or by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from defenses.contract import Answers, Output, Queries
from defenses.deep_defense import DeepDefenseProbabilities, require
from defenses.deep_defense_misdirection import Form, MapGoal
from defenses.errors import OptionError
from models.explain import FunctionalInterpreter, GradientInterpreter, Interpreter

__all__ = ["DeepDefense", "DeepDefenseMaps"]


class DeepDefense(DeepDefenseProbabilities):
    """DD: the answer and the map are both of a network of the query's own, trained to mislead.

    As ``DeepDefenseProbabilities``, with the whole of Eq. 8: places of the victim's map that come
    out of order are penalised (Eq. 7), and the map that leaves is the misdirection network's. The
    parts of Eq. 2 are split at the layer that the interpreter looks at; by pixels there is no
    bottom part. The search is the same whether or not a map was asked for, and so is the answer.

    Where this differs from the paper, besides: maps are compared in units of the span of the
    victim's; and what leaves is verified: an iterate counts only if its map, as it leaves, agrees
    with the victim's to a rank correlation of ``map_agreement``. A query that has no such iterate
    is answered by its label alone, and its map is withheld: all zeros.

    Args:
        victim: as there, like every option that is not named here.
        interpreter: the operator's, of the victim. Relevance-CAM, whose rules look at the signs of
            weights, needs the full form of them.
        map_weight: lambda_2, at least 0.
        map_agreement: the least rank correlation (Spearman's) of a map with the victim's, in
            [0, 1]; 1 allows no pair of places in another order, not even a new tie.

    Raises:
        OptionError: an option is out of range, or the interpreter is none to search through.
    """

    kind: ClassVar[str] = "deepdefense"
    interprets: ClassVar[bool] = True
    covers = frozenset({Output.PROBABILITIES, Output.ATTRIBUTIONS})

    def __init__(
        self,
        *,
        victim: nn.Module,
        interpreter: Interpreter,
        layers: tuple[str, ...],
        k: int = 1,
        steps: int = 20,
        rate: float = 3e-3,
        noise: float = 1e-2,
        alpha: float = 0.5,
        order_weight: float = 10.0,
        map_weight: float = 1.0,
        map_agreement: float = 0.8,
        lead: float = 0.05,
        turned: float = 0.9,
        decoy: float = 0.0,
        weights: Form = "low-rank",
        rank: int = 4,
        early_stop: float = 0.0,
    ) -> None:
        super().__init__(
            victim=victim, layers=layers, k=k, steps=steps, rate=rate, noise=noise, alpha=alpha,
            order_weight=order_weight, lead=lead, turned=turned, decoy=decoy, weights=weights,
            rank=rank, early_stop=early_stop,
        )  # fmt: skip
        require("map_weight", map_weight, 0.0 <= map_weight <= 1e6, "between 0 and 1e6")
        require("map_agreement", map_agreement, 0.0 <= map_agreement <= 1.0, "between 0 and 1")
        if not isinstance(interpreter, FunctionalInterpreter):
            raise OptionError(
                "kind",
                f"{self.kind} searches for weights through the map, which {interpreter.name} does "
                "not allow: take another interpreter",
            )
        if weights == "low-rank" and not isinstance(interpreter, GradientInterpreter):
            raise OptionError(
                "weights",
                f"{interpreter.name} looks at signs of whole weights: set weights to full, or "
                "explanations.interpreter to grad-cam or gradient-x-input",
            )
        if interpreter.network is not victim:
            raise OptionError("kind", f"{self.kind} misleads about its own victim only")
        self._goal = MapGoal(interpreter=interpreter, weight=map_weight, agreement=map_agreement)
        self.misdirection = replace(self.misdirection, maps=self._goal)

    def options(self) -> dict[str, Any]:
        """Every option in effect; the layers however they were chosen."""
        return {
            **super().options(),
            "map_weight": self._goal.weight,
            "map_agreement": self._goal.agreement,
        }


class DeepDefenseMaps(DeepDefense):
    """DD-I: the variant of Table 5 that misdirects maps only; probabilities leave as they came.

    The search is that of ``DeepDefense``, made for the queries that ask for a map. One that has no
    good iterate gets no map: all zeros.
    """

    kind: ClassVar[str] = "dd-i"
    covers = frozenset({Output.ATTRIBUTIONS})

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        """The probabilities it was given, and maps ``(B, h, w)`` in the rows that ask for one."""
        rows = queries.explain.nonzero()[:, 0]
        if len(rows) == 0:
            return answers
        found = self.misdirection.find(
            queries.images[rows], queries.victim[rows], queries.seeds[rows]
        )
        made = found.maps
        if made is None:
            raise RuntimeError("a search with maps found none")
        maps: Tensor = torch.zeros(
            len(queries.explain), *made.shape[1:], dtype=made.dtype, device=made.device
        )
        maps[rows] = made
        return replace(answers, attributions=maps)
