"""Seeds: the only randomness a defense has, the same whenever the same image is asked about."""

from __future__ import annotations

import hmac

import numpy as np
from numpy.typing import NDArray

__all__ = ["query_seeds"]


def query_seeds(secret: bytes, victim: str, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """HMAC-SHA256 of each image as the model is shown it, cut to 63 bits.

    Args:
        secret: the server's; without it nobody can tell what an image's seed is.
        victim: ``NAME/VERSION`` of the bundle whose weights answer: two chains over one victim
            draw alike, so asking both does not give two draws to average.
        images: ``(B, C, H, W)``, after decoding and resizing: neither the protocol nor the
            metadata of a file can change a seed.

    Returns:
        ``(B,)`` in ``[0, 2**63)``.
    """
    shape = "x".join(map(str, images.shape[1:]))
    context = f"{victim}\n{shape}\n".encode()
    digests = (hmac.digest(secret, context + image.tobytes(), "sha256") for image in images)
    heads = (int.from_bytes(digest[:8], "big") >> 1 for digest in digests)
    return np.fromiter(heads, dtype=np.int64, count=len(images))
