"""What a run is trained on: images as uint8, turned into floats a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.errors import TrainingError

__all__ = ["TrainingData", "to_unit"]


def to_unit(images: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Images uint8 as float32 in [0, 1] on ``device``; they travel as uint8."""
    return images.to(device, non_blocking=True).to(torch.float32).div_(255.0)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """The images and targets of a run, in main memory.

    Attributes:
        images: ``(N, C, H, W)`` uint8.
        targets: labels ``(N,)`` int64, or soft targets ``(N, K)`` float32 on the simplex.
        validation_images: ``(M, C, H, W)`` uint8, never trained on; or None.
        validation_targets: as ``targets``, for the validation images.
        ood: ``(L, C, H, W)`` uint8 out-of-distribution images, where the objective needs them.
        paired: ``(N, C, H, W)`` uint8, where the objective needs it: another version of each
            training image, for instance an adversarial one.
        per_epoch: images of one epoch, in order: epoch e shows the e-th such block and no other,
            and begins again after the last block. None shows all images in every epoch.

    Raises:
        TrainingError: if shapes, dtypes or lengths do not fit together.
    """

    images: Tensor
    targets: Tensor
    validation_images: Tensor | None = None
    validation_targets: Tensor | None = None
    ood: Tensor | None = None
    paired: Tensor | None = None
    per_epoch: int | None = None

    def __post_init__(self) -> None:
        _check_images("images", self.images, None)
        _check_targets("targets", self.targets, self.images)
        if (self.validation_images is None) != (self.validation_targets is None):
            raise TrainingError("validation images and validation targets come together")
        if self.validation_images is not None and self.validation_targets is not None:
            _check_images("validation images", self.validation_images, self.images)
            _check_targets("validation targets", self.validation_targets, self.validation_images)
        if self.ood is not None:
            _check_images("out-of-distribution images", self.ood, self.images)
        if self.paired is not None:
            _check_images("paired images", self.paired, self.images)
            if len(self.paired) != len(self.images):
                raise TrainingError(
                    f"there are {len(self.images)} images but {len(self.paired)} paired images"
                )
        if self.per_epoch is not None and (self.per_epoch < 1 or len(self.images) % self.per_epoch):
            raise TrainingError(
                f"{len(self.images)} images do not make whole epochs of {self.per_epoch} each"
            )

    @property
    def shown(self) -> int:
        """Images shown in one epoch."""
        return len(self.images) if self.per_epoch is None else self.per_epoch

    def first(self, epoch: int) -> int:
        """Index of the first image of epoch ``epoch``, from 1."""
        return (epoch - 1) * self.shown % len(self.images)


def _check_images(name: str, images: Tensor, like: Tensor | None) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        raise TrainingError(
            f"{name} must be a non-empty uint8 tensor (N, C, H, W), "
            f"not {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
        )
    if like is not None and images.shape[1:] != like.shape[1:]:
        raise TrainingError(
            f"{name} are {tuple(images.shape[1:])} but the training images are "
            f"{tuple(like.shape[1:])}"
        )


def _check_targets(name: str, targets: Tensor, images: Tensor) -> None:
    labels = targets.dtype == torch.int64 and targets.ndim == 1
    soft = targets.dtype == torch.float32 and targets.ndim == 2
    if not (labels or soft):
        raise TrainingError(
            f"{name} must be int64 labels (N,) or float32 distributions (N, K), "
            f"not {str(targets.dtype).removeprefix('torch.')} {tuple(targets.shape)}"
        )
    if len(targets) != len(images):
        raise TrainingError(f"there are {len(images)} images but {len(targets)} {name}")
