"""What is served under one name and version."""

from __future__ import annotations

from dataclasses import dataclass

from defenses.chain import Chain
from models.card import Card
from models.victim import Victim

__all__ = ["ServedModel"]


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """A victim and the chain its answers pass through, loaded on one device.

    Compared by identity: it is what the engine groups batches by.

    Attributes:
        name: served name.
        version: of the bundle whose weights answer.
        card: of that bundle.
        victim: who answers.
        chain: what every answer passes through.
    """

    name: str
    version: str
    card: Card
    victim: Victim
    chain: Chain

    @property
    def weights(self) -> str:
        """``NAME/VERSION`` of the bundle whose weights answer; keys the seeds."""
        return f"{self.card.name}/{self.card.version}"
