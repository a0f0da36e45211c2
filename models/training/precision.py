"""Networks that compute in 16 bits while everything around them stays in 32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import NotFiniteError, TrainingError
from models.training.objective import Objective
from models.training.plan import Plan, Precision

__all__ = ["LossScale", "check_precision", "computing_in"]

TYPES: Mapping[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def check_precision(objective: Objective, plan: Plan, device: torch.device) -> None:
    """Refuse a precision that the objective or the device does not have.

    Raises:
        TrainingError: says which of the two it is.
    """
    if plan.precision == "float32":
        return
    if not objective.mixed_precision:
        raise TrainingError(
            f"precision: the objective {objective.kind!r} is computed in float32 only, not in "
            f"{plan.precision}"
        )
    if plan.precision == "float16" and device.type != "cuda":
        raise TrainingError(
            f"precision: float16 needs a CUDA device, and this is {device.type}: bfloat16 does not"
        )
    if plan.precision == "bfloat16" and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported():
                raise TrainingError("precision: this CUDA device has no bfloat16: use float16")


@contextmanager
def computing_in(
    precision: Precision, networks: Iterable[nn.Module], device: torch.device
) -> Iterator[None]:
    """Inside, the forward passes of ``networks`` compute in ``precision`` and return float32.

    Losses are left alone: a softmax at temperature 30, or a cosine, has no digits to spare.
    """
    if precision == "float32":
        yield
        return
    hooks = []
    for network in {id(network): network for network in networks}.values():
        open_: list[torch.autocast] = []

        def enter(module: nn.Module, inputs: Any, open_: list[torch.autocast] = open_) -> None:
            del module, inputs
            context = torch.autocast(device.type, TYPES[precision])
            context.__enter__()  # type: ignore[no-untyped-call]
            open_.append(context)

        def leave(
            module: nn.Module, inputs: Any, output: Any, open_: list[torch.autocast] = open_
        ) -> Any:
            del module, inputs
            open_.pop().__exit__(None, None, None)
            return output.float() if isinstance(output, Tensor) else output

        hooks.append(network.register_forward_pre_hook(enter))
        # Also where the pass fails: autocast must not outlive it.
        hooks.append(network.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class LossScale:
    """Keeps float16's gradients above its smallest number by scaling the losses.

    Does nothing at any other precision.

    Args:
        precision: of the plan.
        device: where the run is.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        self.enabled = precision == "float16"
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.enabled)

    def scaled(self, losses: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What to differentiate instead of ``losses``."""
        if not self.enabled:
            return losses
        return {name: self._scaler.scale(loss) for name, loss in losses.items()}

    def unscale(self, optimiser: torch.optim.Optimizer) -> None:
        """Give the gradients their true size, before they are clipped."""
        self._scaler.unscale_(optimiser)

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        """Step, or leave a step out whose gradients overflowed, and adapt the scale.

        Raises:
            NotFiniteError: gradients overflow at any scale.
        """
        self._scaler.step(optimiser)
        self._scaler.update()
        if self.enabled and self._scaler.get_scale() < 1.0:
            raise NotFiniteError(
                "gradients overflow float16 at any scale of the loss: use precision bfloat16, a "
                "lower learning rate or clip_norm"
            )

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps; empty where nothing is scaled."""
        return self._scaler.state_dict()

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on with a ``state``."""
        if self.enabled:
            self._scaler.load_state_dict(dict(state))
