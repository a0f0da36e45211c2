"""The table's answers as another process gives them."""

from __future__ import annotations

import torch

from tests.conformance.table import IMAGES, build, identify, pairs, respond
from tests.defenses.toys import images

__all__ = ["every_answer"]


def every_answer(threads: int) -> dict[str, tuple[list[list[float]], list[list[float]]]]:
    """What the victim said and what left, by row of the table, computed with ``threads``."""
    torch.set_num_threads(threads)
    found = {}
    for specs, classes in pairs():
        said, served = respond(build(specs, classes), classes, images(IMAGES))
        found[identify(specs, classes)] = (said.tolist(), served.tolist())
    return found
