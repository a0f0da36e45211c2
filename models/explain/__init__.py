"""Attribution maps: which part of an image spoke for a class."""

from __future__ import annotations

from models.explain.canonical import MAP_GRID, canonical_maps
from models.explain.contract import Forward, Interpreter
from models.explain.extent import Extent, extent_of_layer
from models.explain.functional import FunctionalInterpreter
from models.explain.grad_cam import GradCam, grad_cam
from models.explain.gradient import GradientInterpreter
from models.explain.gradient_x_input import GradientXInput, gradient_x_input
from models.explain.registry import build_interpreter, interpreter_names
from models.explain.relevance_cam import RelevanceCam
from models.explain.tap import Tap, cam_layer

__all__ = [
    "MAP_GRID",
    "Extent",
    "Forward",
    "FunctionalInterpreter",
    "GradCam",
    "GradientInterpreter",
    "GradientXInput",
    "Interpreter",
    "RelevanceCam",
    "Tap",
    "build_interpreter",
    "cam_layer",
    "canonical_maps",
    "extent_of_layer",
    "grad_cam",
    "gradient_x_input",
    "interpreter_names",
]
