"""The plan of a training run: every choice that is not data, network or objective."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

__all__ = [
    "Adam",
    "Augment",
    "Constant",
    "Cosine",
    "EarlyStop",
    "OneCycle",
    "Optimiser",
    "Plan",
    "Precision",
    "Schedule",
    "Selection",
    "Sgd",
    "Step",
]

Augment = Literal["none", "shift", "crop-flip"]
Precision = Literal["float32", "bfloat16", "float16"]
Selection = Literal["last", "best-on-validation"]


class _Choice(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Sgd(_Choice):
    """Stochastic gradient descent.

    Attributes:
        lr: peak learning rate; the schedule scales it.
        momentum: in [0, 1).
        nesterov: look-ahead momentum; needs ``momentum`` above 0.
        weight_decay: L2 penalty, on every parameter.
    """

    kind: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 0.1
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0

    @model_validator(mode="after")
    def _momentum_for_nesterov(self) -> Sgd:
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(_Choice):
    """Adam with its usual moments (0.9, 0.999); weight decay is an L2 penalty."""

    kind: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0


class Constant(_Choice):
    """The learning rate of the optimiser throughout."""

    kind: Literal["constant"] = "constant"


class Cosine(_Choice):
    """Half a cosine from the peak to zero, stepped every batch, after a linear warm-up.

    Attributes:
        warmup_epochs: length of the warm-up; may be a fraction.
    """

    kind: Literal["cosine"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 0.0


class Step(_Choice):
    """Multiplied by ``factor`` every ``every`` epochs, or at the ends of ``milestones``.

    The last milestone, or the first multiple of ``every``, has to lie before the end of the run.

    Attributes:
        every: epochs between two drops; not together with ``milestones``.
        milestones: increasing numbers of epochs after which the rate drops.
        factor: in (0, 1].
    """

    kind: Literal["step"] = "step"
    every: PositiveInt | None = None
    milestones: tuple[PositiveInt, ...] = ()
    factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1

    @model_validator(mode="after")
    def _one_of_two(self) -> Step:
        if (self.every is None) == (not self.milestones):
            raise ValueError("a step schedule needs either every or milestones, and not both")
        if any(b <= a for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError("milestones must increase")
        return self


class OneCycle(_Choice):
    """Up from ``peak / start_divisor`` to the peak and down to next to nothing, in half cosines.

    Source: Smith and Topin, "Super-Convergence", 2018, with the defaults that have become usual;
    the momentum is left alone.

    Attributes:
        rise: share of the run until the peak, in (0, 1).
        start_divisor: the peak over the first rate; above 1.
        end_divisor: the first rate over the last one; at least 1.
    """

    kind: Literal["one-cycle"] = "one-cycle"
    rise: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    start_divisor: Annotated[float, Field(gt=1.0)] = 25.0
    end_divisor: Annotated[float, Field(ge=1.0)] = 1e4


class EarlyStop(_Choice):
    """An end before the last epoch, where nothing is gained any more.

    Attributes:
        patience: epochs without a better validation accuracy after which the run ends.
    """

    patience: PositiveInt


Optimiser = Sgd | Adam
Schedule = Constant | Cosine | OneCycle | Step


class Plan(_Choice):
    """How a run is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: samples per step at most; an epoch is split into steps of equal size, up to
            one sample, so that no runt batch upsets batch normalisation.
        seed: order, augmentation and dropout derive from it, and from nothing else.
        optimiser: ``Sgd`` or ``Adam``.
        schedule: ``Constant``, ``Cosine``, ``OneCycle`` or ``Step``.
        augment: ``none``; ``shift``, by up to two pixels (safe for characters); ``crop-flip``, a
            shift by up to four pixels and a mirror image half of the time (CIFAR's usual).
        selection: whether the weights kept are the last epoch's or the best on validation data.
            There is no third choice: the test set never selects.
        clip_norm: upper bound of the gradient's L2 norm over all parameters, or None.
        combiner: how named losses become one gradient: ``sum``, or ``pcgrad``, which projects
            away what one loss would undo of another and averages (a shorter step), or
            ``pcgrad-sum``, which adds up instead.
        channels_last: memory layout; faster for deep convolutional networks.
        precision: what networks compute in while they are trained. Weights, losses and what is
            measured are float32 always; ``bfloat16`` and, on CUDA only, ``float16`` halve the
            memory of activations. Only for objectives that declare ``mixed_precision``.
        early_stop: ends a run that no longer improves; goes with ``best-on-validation``. The
            schedule is that of the full length.
        deterministic: only kernels that give the same bits again on the same machine, also on
            CUDA, where they are slower; a layer that has none is refused.
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 128
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    optimiser: Annotated[Optimiser, Field(discriminator="kind")] = Sgd()
    schedule: Annotated[Schedule, Field(discriminator="kind")] = Constant()
    augment: Augment = "none"
    selection: Selection = "last"
    clip_norm: PositiveFloat | None = None
    combiner: Literal["sum", "pcgrad", "pcgrad-sum"] = "sum"
    channels_last: bool = False
    precision: Precision = "float32"
    early_stop: EarlyStop | None = None
    deterministic: bool = False

    @model_validator(mode="after")
    def _stops_on_what_it_selects_by(self) -> Plan:
        if self.early_stop is not None and self.selection != "best-on-validation":
            raise ValueError("early_stop needs selection: best-on-validation")
        return self

    def steps(self, samples: int) -> int:
        """Steps per epoch over ``samples`` images."""
        return math.ceil(samples / self.batch_size)
