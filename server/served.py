"""What is served under one name and version."""

from __future__ import annotations

from dataclasses import dataclass

from defenses.chain import Chain
from defenses.explanations import Explainer
from models.card import Card
from models.explain import Extent
from models.victim import Victim
from server.settings_sections import PUBLIC

__all__ = ["ServedModel"]


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """A victim and the chain its answers pass through, loaded on one device.

    Compared by identity: it is what the engine groups batches by.

    Attributes:
        name: served name.
        version: under which it is served: that of the bundle whose weights answer, or, of a
            tier, that of the bundle whose weights answer the public.
        card: of that bundle.
        victim: who answers.
        chain: what every answer passes through.
        explainer: makes attribution maps; None where none are served.
        explanation_cost: samples that one explained image counts as.
        tightened: the same victim behind the chain for callers that the monitor suspects; None
            where they are answered as everybody is.
        tier: of the callers that it answers.
        digest: of all that its answers are made of but our own code: the same digest, the same
            weights, chain and interpreter. Empty where nobody has taken one.
    """

    name: str
    version: str
    card: Card
    victim: Victim
    chain: Chain
    explainer: Explainer | None = None
    explanation_cost: int = 1
    tightened: ServedModel | None = None
    tier: str = PUBLIC
    digest: str = ""

    @property
    def weights(self) -> str:
        """``NAME/VERSION`` of the bundle whose weights answer; keys the seeds."""
        return f"{self.card.name}/{self.card.version}"

    @property
    def maps(self) -> tuple[int, int] | None:
        """Height and width of its attribution maps; None where none are served."""
        return None if self.explainer is None else self.explainer.size(self.card.input.shape)

    @property
    def map_extent(self) -> Extent | None:
        """Which part of an image its attribution maps cover; None where none are served."""
        return None if self.explainer is None else self.explainer.extent(self.card.input.shape)
