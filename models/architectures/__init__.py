"""Networks by name: the papers' own, plug-ins, and an operator's own factories."""

from __future__ import annotations

from models.architectures.normalised import Normalised
from models.architectures.registry import Builder, all_arguments, build, check, names

__all__ = ["Builder", "Normalised", "all_arguments", "build", "check", "names"]
