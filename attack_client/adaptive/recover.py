"""Recovery by a network: what a known defense did to an answer is learnt backwards."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attack_client.adaptive.contract import Answering, Harvest, Knowledge
from attack_client.adaptive.posteriors import anywhere, around, check_around
from attack_client.adaptive.recovery_network import Schedule, fit_recovery
from attack_client.checked_numbers import whole_number
from attack_client.errors import AdaptationError

__all__ = ["DirichletRecover", "Recover", "known_pairs"]

Pairs = tuple[NDArray[np.float32], NDArray[np.float32]]


def known_pairs(said: NDArray[np.float32], knowledge: Knowledge) -> Pairs:
    """``said`` ``(n, K)`` as the known defense would have served it, and ``said`` itself.

    Raises:
        AdaptationError: there is no known defense, or it fails.
    """
    if knowledge.known is None:
        raise AdaptationError("the victim's defense is not known as a function")
    return knowledge.known(said), said


class Recover(Answering):
    """D-DAE: a network learns the way back from pairs of served and said.

    The pairs come from a shadow service, where there is one: both its models are asked about the
    images of the attack. Otherwise posteriors of every sharpness are put through the known
    defense. A defense that looks at the image and not only at the posterior needs the shadow.

    Args:
        samples: posteriors put through the known defense; a table of a million in the original.
        epochs: passes over the pairs; 200 in the original.
        lr: learning rate at the start; 0.01 in the original.
    """

    kind: ClassVar[str] = "recover"
    undoes: ClassVar[str] = "defense"
    needs_defense: ClassVar[bool] = True
    takes_shadow: ClassVar[bool] = True

    def __init__(self, *, samples: int = 100_000, epochs: int = 20, lr: float = 0.1) -> None:
        Schedule(epochs=epochs, lr=lr)
        self.samples = whole_number("samples", samples, least=100, most=100_000_000)
        self.epochs = epochs
        self.lr = lr

    def apply(self, harvest: Harvest, knowledge: Knowledge) -> Harvest:
        """The same images with what the victim probably said of them."""
        served, said = self.pairs(harvest, knowledge)
        # A shadow has few pairs: as many steps as there would be otherwise.
        epochs = max(self.epochs, min(2000, self.epochs * self.samples // len(served)))
        network = fit_recovery(
            served,
            said,
            schedule=Schedule(epochs=epochs, lr=self.lr),
            seed=knowledge.seed,
            device=knowledge.device,
        )
        return harvest.saying(network.recover(harvest.answers))

    def pairs(self, harvest: Harvest, knowledge: Knowledge) -> Pairs:
        """What to learn from: served and said, ``(n, K)`` each."""
        del harvest
        if knowledge.shadow is not None:
            return knowledge.shadow.defended, knowledge.shadow.plain
        generator = np.random.default_rng(knowledge.seed)
        return known_pairs(anywhere(self.samples, knowledge.classes, generator), knowledge)


class DirichletRecover(Recover):
    """D-DAE+: the same network, on posteriors drawn around the answers that were observed.

    ModelGuard's authors (USENIX Security 2024) find it the strongest of their attackers that needs
    no shadow: its pairs are where the answers are.

    Args:
        samples: as in ``recover``.
        epochs: as in ``recover``.
        lr: as in ``recover``.
        concentration: of the Dirichlets, divided by K; 8 in the original.
        reach: octaves by which their centres are sharpened, see ``posteriors.around``; 0 in the
            original.
    """

    kind: ClassVar[str] = "dirichlet-recover"
    takes_shadow: ClassVar[bool] = False

    def __init__(
        self,
        *,
        samples: int = 100_000,
        epochs: int = 20,
        lr: float = 0.1,
        concentration: float = 8.0,
        reach: float = 5.0,
    ) -> None:
        super().__init__(samples=samples, epochs=epochs, lr=lr)
        check_around(concentration=concentration, reach=reach)
        self.concentration = concentration
        self.reach = reach

    def pairs(self, harvest: Harvest, knowledge: Knowledge) -> Pairs:
        """Drawn around the answers of ``harvest``."""
        said = around(
            harvest.answers,
            self.samples,
            np.random.default_rng(knowledge.seed),
            concentration=self.concentration,
            reach=self.reach,
        )
        return known_pairs(said, knowledge)
