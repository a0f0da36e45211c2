"""A victim in this process whose answers a test may bend, and a few ways to bend them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from attack_client.contract import Pool, Reply, VictimFacts
from attack_client.errors import Unreachable
from tests.attack_client.stub import CLASSES, SHAPE

Floats = NDArray[np.float32]
Model = Callable[[NDArray[np.uint8]], Floats]
Bend = Callable[[NDArray[np.uint8], Floats], Floats]


class Bent:
    """Answers as ``model`` does, then bent; stops answering after some requests."""

    def __init__(self, model: Model, bend: Bend | None = None, *, answers: int = 10**9) -> None:
        self.facts = VictimFacts("http://victim", "toy", SHAPE, CLASSES)
        self.asked: list[bytes] = []
        self._model, self._bend, self._left = model, bend, answers

    async def query(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> Reply:
        del key, sending
        self._left -= 1
        if self._left < 0:
            raise Unreachable("gone")
        self.asked += [image.tobytes() for image in images]
        said = self._model(images)
        return Reply(said if self._bend is None else self._bend(images, said))


def central(images: NDArray[np.uint8]) -> Floats:
    """By the brightness of the four middle pixels; no class is below a tenth."""
    middle = images[:, :, 3:5, 3:5].mean(axis=(1, 2, 3)) / 255
    far = np.abs(middle[:, np.newaxis] - np.linspace(0, 1, CLASSES))
    near = np.exp(-8.0 * far)
    shares = near / near.sum(axis=1, keepdims=True)
    return np.asarray(0.5 * shares + 0.5 / CLASSES, dtype=np.float32)


def fresh_noise(seed: int = 0) -> Bend:
    """Noise drawn anew at every query."""
    generator = np.random.default_rng(seed)

    def bend(images: NDArray[np.uint8], said: Floats) -> Floats:
        del images
        return _noisy(said, generator.normal(size=said.shape))

    return bend


def hashed_noise(images: NDArray[np.uint8], said: Floats) -> Floats:
    """Noise that depends on every pixel of the image and on nothing else."""
    seeds = (hashlib.sha256(image.tobytes()).digest()[:8] for image in images)
    draws = [
        np.random.default_rng(int.from_bytes(seed, "big")).normal(size=said.shape[1])
        for seed in seeds
    ]
    return _noisy(said, np.stack(draws))


def _noisy(said: Floats, noise: NDArray[np.float64]) -> Floats:
    """Zero in sum and on average, and nothing goes below zero."""
    noise = noise - noise.mean(axis=1, keepdims=True)
    noise /= np.abs(noise).max(axis=1, keepdims=True)
    return np.asarray(said + 0.09 * noise, dtype=np.float32)


def flat_pool(count: int, *, seed: int = 1) -> Pool:
    """Images of one shade each: moved by two pixels, the middle looks the same."""
    shades = np.random.default_rng(seed).permutation(256)[:count].astype(np.uint8)
    images = np.broadcast_to(shades[:, None, None, None], (count, *SHAPE)).copy()
    return Pool("flat", images, np.zeros(count, dtype=np.int64))
