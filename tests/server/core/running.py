"""A service whose configuration a test may rewrite while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from server.hot_reload import HotReload
from server.serving import InferenceService
from server.weights import Weights

__all__ = ["NOISE", "Running"]

NOISE = np.random.default_rng(3).integers(0, 256, (4, 1, 12, 12), dtype=np.uint8)


@dataclass
class Running:
    """What a test of reloads holds."""

    service: InferenceService
    reloads: HotReload
    weights: Weights
    given: dict[str, Any]
    registry: Any = field(repr=False)

    async def say(self, name: str, version: str | None = None, **who: Any) -> np.ndarray[Any, Any]:
        view = self.service.view(name, version, **who)
        return await self.service.predict(view, NOISE)

    def count(self, action: str, outcome: str) -> float | None:
        labels = {"action": action, "outcome": outcome}
        count: float | None = self.registry.get_sample_value(
            "intaglio_repository_changes_total", labels
        )
        return count
