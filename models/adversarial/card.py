"""The card of an adversarial set: what it was made from, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StringConstraints

__all__ = ["AdversarialCard", "AdversarialSource", "Attack"]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Unit = Annotated[float, Field(gt=0.0, le=1.0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Attack(_Record):
    """Projected gradient descent; the defaults are those of Adversarial Sparse Teacher.

    Attributes:
        epsilon: bound on the change of a pixel, as a share of the full range. The paper's 0.3 is
            plain to see: what matters is a confident wrong answer, not stealth.
        step: change of a pixel per iteration, in the same units.
        iterations: after a uniformly random start within ``epsilon``.
    """

    epsilon: Unit = 0.3
    step: Unit = 0.01
    iterations: PositiveInt = 40


class AdversarialSource(_Record):
    """Everything that decides what an adversarial set holds.

    Attributes:
        format: version of this schema, and of how random starts are drawn.
        base: NAME/VERSION of the bundle whose victim was attacked.
        base_sha256: of its weights.
        dataset: name of the dataset that the images are from.
        images_sha256: of the images and labels themselves, in their order.
        attack: how.
        seed: of the random starts.
    """

    format: Literal[1] = 1
    base: str
    base_sha256: Sha256
    dataset: str
    images_sha256: Sha256
    attack: Attack
    seed: Annotated[int, Field(ge=0, lt=2**63)]


class AdversarialCard(AdversarialSource):
    """``card.json`` of a finished set.

    Attributes:
        sha256: of ``images.npy``, uint8 ``(N, C, H, W)`` in the order of the images.
        fooled: share of the images that the base network now gets wrong.
    """

    sha256: Sha256
    fooled: Annotated[float, Field(ge=0.0, le=1.0)]
