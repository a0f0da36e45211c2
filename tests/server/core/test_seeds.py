"""The same image, the same seed; anything else, another one."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np

from server.seeds import query_seeds

SECRET = b"a secret of some length"
NOISE = np.random.default_rng(0).integers(0, 256, (32, 1, 8, 8), dtype=np.uint8)


def test_seeds_are_what_the_docstring_says() -> None:
    message = b"digits/1\n1x8x8\n" + NOISE[0].tobytes()
    digest = hmac.new(SECRET, message, hashlib.sha256).digest()
    assert query_seeds(SECRET, "digits/1", NOISE)[0] == int.from_bytes(digest[:8], "big") >> 1


def test_a_seed_depends_on_its_own_image_alone() -> None:
    together = query_seeds(SECRET, "digits/1", NOISE)
    alone = [query_seeds(SECRET, "digits/1", NOISE[i : i + 1])[0] for i in range(len(NOISE))]
    np.testing.assert_array_equal(together, alone)
    assert together.dtype == np.int64
    assert (together >= 0).all()
    assert len(set(together.tolist())) == len(NOISE)


def test_memory_layout_does_not_matter() -> None:
    strided = np.asfortranarray(NOISE)
    np.testing.assert_array_equal(
        query_seeds(SECRET, "digits/1", strided), query_seeds(SECRET, "digits/1", NOISE)
    )


def test_secret_victim_shape_and_every_pixel_count() -> None:
    one = NOISE[:1]
    touched = one.copy()
    touched[0, 0, 7, 7] ^= 1
    seeds = {
        int(query_seeds(*arguments)[0])
        for arguments in (
            (SECRET, "digits/1", one),
            (SECRET + b"!", "digits/1", one),
            (SECRET, "digits/2", one),
            (SECRET, "digits/1", one.reshape(1, 1, 4, 16)),
            (SECRET, "digits/1", touched),
        )
    }
    assert len(seeds) == 5
