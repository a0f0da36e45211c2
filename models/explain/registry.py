"""Interpreters by the names that an operator writes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from models.errors import ExplanationError
from models.explain.contract import Interpreter
from models.explain.grad_cam import GradCam
from models.explain.gradient_x_input import GradientXInput
from models.explain.relevance_cam import RelevanceCam

__all__ = ["build_interpreter", "interpreter_names"]

INTERPRETERS: Mapping[str, type[Interpreter]] = MappingProxyType(
    {kind.name: kind for kind in (GradCam, GradientXInput, RelevanceCam)}
)


def interpreter_names() -> tuple[str, ...]:
    """Names that ``build_interpreter`` knows, sorted."""
    return tuple(sorted(INTERPRETERS))


def build_interpreter(name: str, network: nn.Module, *, layer: str | None = None) -> Interpreter:
    """The interpreter called ``name``, of ``network`` at ``layer`` (None: the interpreter's own).

    Raises:
        ExplanationError: there is no such interpreter or layer.
    """
    if name not in INTERPRETERS:
        raise ExplanationError(
            f"there is no interpreter {name!r}: there are {', '.join(interpreter_names())}"
        )
    return INTERPRETERS[name](network, layer)
