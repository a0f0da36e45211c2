"""What honest callers are served, and how well a clone does: the figures of a report.

Honest queries are an operator's, made under an operator's key; they are counted apart from the
attack's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attack_client.contract import BlackBox
from attack_client.errors import PoolError
from attack_client.transfer_set import hard_labels
from models.bundle import open_bundle
from models.card import InputSpec
from models.datasets import Dataset
from models.preprocessing import fit_arrays
from models.training.evaluate import probabilities

__all__ = ["Honest", "Reference", "TestSet", "agreement", "measure_honest", "predict"]

WARM_UP = 5
"""Single-image requests before latency is measured: connections and caches are cold."""


@dataclass(frozen=True, slots=True, eq=False)
class TestSet:
    """Images of the victim's own task, as the victim is shown them.

    Attributes:
        name: dataset name.
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64, in the order of the victim's probabilities.
        classes: number of classes K.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: int

    @classmethod
    def of(cls, dataset: Dataset, *, shape: tuple[int, int, int], classes: int) -> TestSet:
        """The test split of ``dataset`` for a victim of that input shape and classes.

        Raises:
            PoolError: the victim has another number of classes.
        """
        if len(dataset.labels) != classes:
            raise PoolError(
                f"test set {dataset.name} has {len(dataset.labels)} classes, "
                f"the victim answers with {classes}"
            )
        channels, height, width = shape
        spec = InputSpec.model_validate({"channels": channels, "height": height, "width": width})
        return cls(
            name=dataset.name,
            images=fit_arrays(dataset.test_images, spec),
            labels=dataset.test_labels,
            classes=classes,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Honest:
    """What a caller who means no harm is served.

    Attributes:
        served: ``(N, K)`` float32, the answers on the test set.
        accuracy: share of test images answered right.
        latency_p50_ms: median of sequential single-image requests; None if none were made.
        latency_p99_ms: 99th percentile of the same.
        queries: honest queries it took to know this.
    """

    served: NDArray[np.float32]
    accuracy: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    queries: int


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The plain model (same architecture and recipe, no defense) on the test set.

    Attributes:
        probabilities: ``(N, K)`` float32, not canonicalised.
    """

    probabilities: NDArray[np.float32]

    @classmethod
    def from_bundle(
        cls, path: Path, test: TestSet, *, device: torch.device | str = "cpu"
    ) -> Reference:
        """Run the ``victim`` of the bundle at ``path`` on ``test``.

        Raises:
            ModelsError: the bundle cannot be opened.
            PoolError: it takes other images or knows other classes.
        """
        bundle = open_bundle(path)
        card = bundle.card
        if card.input.shape != test.images.shape[1:] or card.classes != test.classes:
            raise PoolError(
                f"the reference {card.name} tells {card.classes} classes from images "
                f"{card.input.shape}, the victim {test.classes} from {test.images.shape[1:]}"
            )
        return cls(predict(bundle.load("victim", device), test.images, device=device))


async def measure_honest(
    victim: BlackBox,
    test: TestSet,
    *,
    latency_requests: int = 200,
    batch: int = 64,
    concurrency: int = 4,
    watch: Callable[[int, int], None] | None = None,
) -> Honest:
    """Query the whole test set in batches, then single images one after another for latency.

    Args:
        victim: open, under an operator's key.
        test: every image of it is asked about once.
        latency_requests: single-image requests that are timed, from the caller's call to the
            decoded answer, retries included; 0 measures no latency.
        batch: images per request of the first part.
        concurrency: requests in flight of the first part.
        watch: told ``(done, total)`` queries.

    Raises:
        VictimError: there is no answer.
    """
    count = len(test.images)
    warm_up = WARM_UP if latency_requests else 0
    total = count + warm_up + latency_requests
    served: list[NDArray[np.float32]] = []
    done = 0

    def advance(queries: int) -> None:
        nonlocal done
        done += queries
        if watch is not None:
            watch(done, total)

    slots = asyncio.Semaphore(concurrency)

    async def ask(start: int) -> NDArray[np.float32]:
        async with slots:
            images = test.images[start : start + batch]
            reply = await victim.query(images)
            advance(len(images))
            return reply.probabilities

    requests = [asyncio.ensure_future(ask(start)) for start in range(0, count, batch)]
    try:
        served = list(await asyncio.gather(*requests))
    except BaseException:
        for request in requests:
            request.cancel()
        raise

    seconds = []
    for number in range(warm_up + latency_requests):
        image = test.images[number % count][np.newaxis]
        began = time.perf_counter()
        await victim.query(image)
        seconds.append(time.perf_counter() - began)
        advance(1)
    timed = np.array(seconds[warm_up:]) * 1e3

    answers = np.concatenate(served)
    return Honest(
        served=answers,
        accuracy=agreement(answers, test.labels),
        latency_p50_ms=float(np.percentile(timed, 50)) if latency_requests else None,
        latency_p99_ms=float(np.percentile(timed, 99)) if latency_requests else None,
        queries=total,
    )


def predict(
    network: nn.Module, images: NDArray[np.uint8], *, device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """Probabilities ``(N, K)`` of ``network`` for uint8 ``images`` ``(N, C, H, W)``."""
    answers = probabilities(network, torch.tensor(images), device=device)
    return np.asarray(answers.numpy(), dtype=np.float32)


def agreement(answers: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of rows of ``answers`` ``(N, K)`` whose top-1 is the label."""
    return float((hard_labels(answers) == labels).mean())
