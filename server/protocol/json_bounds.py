"""How much JSON a request may need, checked on its bytes.

Parsed JSON takes many times the memory of its text (an empty list of two bytes becomes hundreds),
and a parser keeps the interpreter until it is through. So what no valid request needs is refused
before it is parsed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from server.errors import TooLarge

__all__ = ["check_image_list", "check_tensor"]

ELEMENT_BYTES = 5
"""Three digits, a comma and a blank."""

LIST_BYTES = 2
"""What a list adds to its elements: a comma and a blank follow it, but not its last element."""

ENVELOPE_BYTES = 64 * 2**10
"""Everything that is not the tensor: names, shapes, parameters."""

ENVELOPE_ITEMS = 2048
"""Brackets or commas of everything else; an ``id`` has up to 1024 characters."""


def check_tensor(text: bytes, shape: Sequence[int], *, max_samples: int, max_bytes: int) -> None:
    """Refuse JSON that is larger than ``max_samples`` UINT8 tensors of ``shape``, flat or nested.

    Args:
        text: the JSON of the request, without binary tensors.
        shape: of one sample.
        max_samples: ``limits.max_request_samples``.
        max_bytes: ``limits.max_json_bytes``.

    Raises:
        TooLarge: too many bytes, or too many lists and objects.
    """
    # A header may say that tensors follow, and none does.
    if len(text) > max_bytes:
        raise TooLarge(
            f"the JSON of a request may have {max_bytes} bytes, not {len(text)} "
            "(limits.max_json_bytes); binary tensors take less"
        )
    # One list for the batch, one for every sample, one for every channel, and so on.
    lists = 1 + max_samples * sum(math.prod(shape[:depth]) for depth in range(len(shape)))
    elements = max_samples * math.prod(shape)
    most = elements * ELEMENT_BYTES + lists * LIST_BYTES + ENVELOPE_BYTES
    if len(text) > most:
        raise TooLarge(
            f"the JSON of a request may have {most} bytes, not {len(text)}: "
            f"limits.max_request_samples is {max_samples}; binary tensors take less"
        )
    if text.count(b"[") + text.count(b"{") > lists + ENVELOPE_ITEMS:
        raise TooLarge(
            f"the JSON of a request may hold {lists} lists: "
            f"limits.max_request_samples is {max_samples}"
        )


def check_image_list(text: bytes, *, max_samples: int) -> None:
    """Refuse JSON with far more items than ``max_samples`` images in base64 need.

    Raises:
        TooLarge: too many items.
    """
    # Base64 has no comma.
    if text.count(b",") > max_samples + ENVELOPE_ITEMS:
        raise TooLarge(f"a request may hold {max_samples} images (limits.max_request_samples)")
