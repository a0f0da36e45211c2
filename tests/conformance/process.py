"""The table's answers as another process gives them."""

from __future__ import annotations

import torch

from tests.conformance.table import (
    IMAGES,
    build,
    ensemble_pairs,
    identify,
    pairs,
    respond,
    respond_together,
)
from tests.defenses.toys import images

__all__ = ["every_answer", "every_answer_together"]

Answer = tuple[list[list[float]], list[list[float]]]


def every_answer(threads: int) -> dict[str, Answer]:
    """What the victim said and what left, by row of the table, computed with ``threads``."""
    torch.set_num_threads(threads)
    found = {}
    for specs, classes in pairs():
        said, served = respond(build(specs, classes), classes, images(IMAGES))
        found[identify(specs, classes)] = (said.tolist(), served.tolist())
    return found


def every_answer_together(threads: int) -> dict[str, Answer]:
    """The same of the chains behind an ensemble."""
    torch.set_num_threads(threads)
    found = {}
    for specs, classes in ensemble_pairs():
        said, served = respond_together(build(specs, classes), classes, images(IMAGES))
        found[identify(specs, classes)] = (said.tolist(), served.tolist())
    return found
