"""Jacobian-based dataset augmentation: seeds of the victim's own kind, moved by a clone's gradient.

Papernot et al., "Practical Black-Box Attacks against Machine Learning" (ASIA CCS 2017), section 4.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from attack_client.attacks.order import check_seed
from attack_client.checked_numbers import finite_number, whole_number
from attack_client.contract import Attack, Oracle, Pool
from attack_client.errors import AttackError, PoolError

if TYPE_CHECKING:
    from attack_client.apprentice import Apprentice

__all__ = ["Jbda"]

STRONG = 0.1
"""Pixels: the step of the attack as it was published."""

INI = 0.1
"""Standard deviations of a channel: what 0.1 after normalisation comes to (InI's code)."""


class Jbda(Attack):
    """Each round trains a clone on all answers, then moves each image by one step of its gradient.

    ``x' = clip(x + step sign(d z_c(x) / d x))`` with z the clone's logits and c the victim's top-1:
    one backward pass per batch. Images are rounded to uint8 before they are asked about and learnt
    from. The set doubles every round until the budget is spent: 150, 300, ..., 4,800 in six rounds.

    The pool must be of the victim's own kind (its training data or like it): only the seeds are
    taken from there. Answers are remembered: an image that was asked about is not asked about again
    and stands once in the transfer set. Published code labels the whole set anew in every round
    (9,450 queries for 4,800 images); ``published_queries`` says how many that would be. The clone
    keeps its weights between rounds.

    How the clone on the way is trained is ours, but for the optimiser: every round is half a cosine
    of the learning rate down to 0 with momentum begun anew, in batches of an eighth of the set (16
    to 128) and with gradients clipped to norm 5, where InI's code keeps 0.1 throughout and takes
    128.

    Args:
        clone: its architecture.
        seeds: images to begin with.
        choose: the ``first`` of the pool, or ``random`` ones.
        step: in pixels of [0, 1]; or ``ini``: a tenth of the seeds' standard deviation, channel by
            channel (about 0.03 for MNIST and 0.02 for CIFAR-10); or ``strong``: 0.1.
        epochs: of the clone in each round.
        labels: what the clone learns from: ``soft`` or ``hard`` answers.
        flip_every: turn the sign of the step around every so many rounds; None never does.
        reservoir: images at most that are moved in a round, drawn without replacement, once
            ``reservoir_after`` rounds have doubled the set; None always moves all.
        reservoir_after: see there.
        seed: of what is drawn, and of the clone.
        device: where the clone is trained.
        allow_factories: factories that it may be built by.

    Raises:
        ValueError: an argument is out of range.
    """

    kind: ClassVar[str] = "jbda"
    seeds_only: ClassVar[bool] = True

    def __init__(
        self,
        *,
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
        for name, value in (
            ("seeds", seeds),
            ("epochs", epochs),
            ("flip_every", flip_every),
            ("reservoir", reservoir),
            ("reservoir_after", reservoir_after),
        ):
            if value is not None or name not in {"flip_every", "reservoir"}:
                whole_number(name, value, least=1)
        if not isinstance(clone, str):
            raise ValueError(f"clone must be the name of an architecture, not {clone!r}")
        if choose not in ("first", "random"):
            raise ValueError(f"choose must be first or random, not {choose!r}")
        if labels not in ("soft", "hard"):
            raise ValueError(f"labels must be soft or hard, not {labels!r}")
        if isinstance(step, str) and step not in {"ini", "strong"}:
            raise ValueError(f"step must be ini, strong or a number of pixels, not {step!r}")
        if not isinstance(step, str) and not 0.5 / 255 <= finite_number("step", step) <= 1.0:
            raise ValueError(
                f"step must be in [{0.5 / 255:.4f}, 1] pixels, not {step}: what is smaller is "
                "rounded away"
            )
        self.clone = clone
        self.seeds = seeds
        self.choose = choose
        self.step = step
        self.epochs = epochs
        self.labels = labels
        self.flip_every = flip_every
        self.reservoir = reservoir
        self.reservoir_after = reservoir_after
        self.seed = check_seed(seed)
        self.device = device
        self.allow_factories = allow_factories

    @property
    def steered_by(self) -> str:
        """What its clone on the way learns from."""
        return self.labels

    @property
    def architectures(self) -> tuple[str, ...]:
        """Of the clone whose gradient is followed."""
        return (self.clone,)

    def sizes(self, budget: int) -> tuple[int, ...]:
        """Images that are known after each round, if every image that is made is a new one."""
        sizes = [min(self.seeds, budget)]
        while sizes[-1] < budget:
            moved = self._moved(sizes[-1], len(sizes) - 1)
            sizes.append(min(sizes[-1] + moved, budget))
        return tuple(sizes)

    def published_queries(self, budget: int) -> int:
        """Queries of code that labels the whole set anew in every round."""
        return sum(self.sizes(budget))

    async def run(self, oracle: Oracle, pool: Pool) -> None:
        """Ask about seeds from ``pool``, then about what is made of them, ``oracle.budget`` in all.

        Raises:
            PoolError: the pool has fewer distinct images than there are seeds.
            AttackError: a round made no image that is new.
            ModelsError: the clone cannot be built or trained.
        """
        from attack_client.apprentice import Apprentice
        from attack_client.predictions import hard_labels

        images = self._chosen(pool)[: oracle.budget]
        pixels = self._pixels(images)
        known = {image.tobytes() for image in images}
        answers = await oracle.ask(0, images)
        apprentice = Apprentice(
            self.clone,
            images,
            classes=answers.shape[1],
            seed=self.seed,
            device=self.device,
            allow_factories=self.allow_factories,
        )
        number = 0
        while len(images) < oracle.budget:
            labels = hard_labels(answers)
            taught = answers if self.labels == "soft" else labels
            apprentice.learn(images, taught, epochs=self.epochs)
            draws = np.random.default_rng([self.seed, number])
            moved = self._moved(len(images), number)
            rows = np.sort(draws.choice(len(images), moved, replace=False))
            flipped = self.flip_every is not None and number // self.flip_every % 2 == 1
            made = self.move(
                apprentice, images[rows], labels[rows], -pixels if flipped else pixels, draws
            )
            new = _first_of_each(made, known)[: oracle.budget - len(images)]
            if not len(new):
                raise AttackError(
                    f"round {number + 1} of {self.kind} made no image that is new: give a larger "
                    "step, more seeds or a smaller budget"
                )
            said = await oracle.ask(len(images), new)
            images, answers = np.concatenate([images, new]), np.concatenate([answers, said])
            number += 1

    def move(
        self,
        apprentice: Apprentice,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        pixels: NDArray[np.float32],
        draws: np.random.Generator,
    ) -> NDArray[np.uint8]:
        """Images ``(n, C, H, W)`` moved by ``pixels`` ``(C, 1, 1)`` in [-1, 1], and rounded."""
        from attack_client.attacks.jbda_step import step_along

        del draws
        return step_along(apprentice, images, labels, pixels)

    def _moved(self, known: int, done: int) -> int:
        """How many of ``known`` images are moved after ``done`` rounds."""
        if self.reservoir is None or done < self.reservoir_after:
            return known
        return min(known, self.reservoir)

    def _chosen(self, pool: Pool) -> NDArray[np.uint8]:
        """The seeds, all different."""
        order = np.arange(len(pool.images))
        if self.choose == "random":
            order = np.random.default_rng(self.seed).permutation(order)
        chosen = _first_of_each(pool.images[order], set(), most=self.seeds)
        if len(chosen) < self.seeds:
            raise PoolError(
                f"{self.kind} begins with {self.seeds} seeds but pool {pool.name} has "
                f"{len(chosen)} different images: set seeds lower, or use a larger pool"
            )
        return chosen

    def _pixels(self, seeds: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The step in pixels of [0, 1], ``(C, 1, 1)``, at least what rounding leaves visible."""
        if not isinstance(self.step, str):
            steps = np.full(seeds.shape[1], self.step)
        elif self.step == "strong":
            steps = np.full(seeds.shape[1], STRONG)
        else:
            steps = np.maximum(INI * seeds.std(axis=(0, 2, 3)) / 255.0, 1 / 255)
        return steps.astype(np.float32)[:, np.newaxis, np.newaxis]


def _first_of_each(
    images: NDArray[np.uint8], known: set[bytes], *, most: int | None = None
) -> NDArray[np.uint8]:
    """Those of ``images`` that are not ``known`` and stand in no earlier place; now known."""
    rows: list[int] = []
    for row, image in enumerate(images):
        if most is not None and len(rows) >= most:
            break
        content = image.tobytes()
        if content not in known:
            known.add(content)
            rows.append(row)
    return images[rows]
