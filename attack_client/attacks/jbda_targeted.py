"""JBDA-TR: augmentation towards a class drawn at random."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from attack_client.attacks.jbda import Jbda
from attack_client.checked_numbers import whole_number

if TYPE_CHECKING:
    from attack_client.apprentice import Apprentice

__all__ = ["JbdaTargeted"]


class JbdaTargeted(Jbda):
    """As ``Jbda``, but each image is moved towards a class that the victim did not give it.

    In ``steps`` small steps of ``step / steps`` down the clone's cross-entropy with that class
    (the variant T-RND of PRADA, Juuti et al., 2019, as InI's code has it).

    Args:
        steps: at least 1; the others are those of ``Jbda``.
        clone: its architecture.
        seeds: images to begin with.
        choose: ``first`` or ``random`` ones.
        step: in pixels, or ``ini``, or ``strong``.
        epochs: of the clone in each round.
        labels: ``soft`` or ``hard``.
        flip_every: rounds between two signs of the step.
        reservoir: images at most that are moved in a round.
        reservoir_after: rounds that double the set first.
        seed: of what is drawn, and of the clone.
        device: where the clone is trained.
        allow_factories: factories that it may be built by.
    """

    kind: ClassVar[str] = "jbda-tr"

    def __init__(
        self,
        *,
        steps: int = 5,
        clone: str = "lenet",
        seeds: int = 150,
        choose: str = "first",
        step: str | float = "ini",
        epochs: int = 10,
        labels: str = "soft",
        flip_every: int | None = None,
        reservoir: int | None = None,
        reservoir_after: int = 3,
        seed: int = 0,
        device: str = "cpu",
        allow_factories: Collection[str] = (),
    ) -> None:
        super().__init__(
            clone=clone,
            seeds=seeds,
            choose=choose,
            step=step,
            epochs=epochs,
            labels=labels,
            flip_every=flip_every,
            reservoir=reservoir,
            reservoir_after=reservoir_after,
            seed=seed,
            device=device,
            allow_factories=allow_factories,
        )
        self.steps = whole_number("steps", steps, least=1)

    def move(
        self,
        apprentice: Apprentice,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        pixels: NDArray[np.float32],
        draws: np.random.Generator,
    ) -> NDArray[np.uint8]:
        """Images ``(n, C, H, W)`` moved towards classes from ``draws``, and rounded."""
        from attack_client.attacks.jbda_step import step_towards

        other = draws.integers(1, apprentice.classes, size=len(labels))
        targets = (labels + other) % apprentice.classes
        return step_towards(apprentice, images, targets, pixels, steps=self.steps)
