"""Bounds on JSON: the largest valid request is within them, what only costs memory is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from server.errors import TooLarge
from server.protocol.json_bounds import ENVELOPE_BYTES, check_image_list, check_tensor

shapes = pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 6), (3, 64, 1), (1, 90, 90)])


@shapes
@pytest.mark.parametrize("flat", [True, False])
def test_the_largest_request_is_within_its_bound(shape: tuple[int, int, int], flat: bool) -> None:
    images = np.full((16, *shape), 255, dtype=np.uint8)
    part = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
    data = (images.ravel() if flat else images).tolist()
    text = json.dumps({"id": "[" * 1024, "inputs": [{**part, "data": data}]}).encode()
    check_tensor(text, shape, max_samples=16, max_bytes=2**24)


@shapes
def test_more_bytes_than_samples_need_are_refused(shape: tuple[int, int, int]) -> None:
    text = bytes(16 * 5 * 17 * int(np.prod(shape)) + 2 * ENVELOPE_BYTES)
    with pytest.raises(TooLarge, match=r"limits\.max_request_samples is 16; binary tensors"):
        check_tensor(text, shape, max_samples=16, max_bytes=2**24)


def test_the_bound_on_bytes_is_said_with_what_takes_less() -> None:
    check_tensor(bytes(1000), (3, 64, 64), max_samples=16, max_bytes=1000)
    with pytest.raises(TooLarge, match=r"1000 bytes, not 1001 \(limits\.max_json_bytes\); binary"):
        check_tensor(bytes(1001), (3, 64, 64), max_samples=16, max_bytes=1000)


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"[[[]]],"])
def test_lists_that_no_image_has_are_refused(unit: bytes) -> None:
    text = unit * (200_000 // len(unit))
    with pytest.raises(TooLarge, match=r"lists: limits\.max_request_samples is 256"):
        check_tensor(text, (1, 28, 28), max_samples=256, max_bytes=2**24)


def test_base64_images_have_no_more_commas_than_images() -> None:
    check_image_list(json.dumps({"images": ["QUJD"] * 256, "top_k": 1}).encode(), max_samples=256)
    with pytest.raises(TooLarge, match=r"256 images \(limits\.max_request_samples\)"):
        check_image_list(b'{"images": [' + b'"",' * 10_000 + b'""]}', max_samples=256)
