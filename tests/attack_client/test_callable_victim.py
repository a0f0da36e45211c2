"""A function as a victim."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attack_client.attacks.knockoff import Knockoff
from attack_client.callable_victim import CallableVictim
from attack_client.errors import ProtocolError
from attack_client.http_victim import HttpVictim
from attack_client.theft import steal
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import CLASSES, LinearModel, Stub
from tests.attack_client.toys import SHAPE, answers, block_pool, blocks


def victim(predict: Any, **more: Any) -> CallableVictim:
    return CallableVictim(predict, shape=SHAPE, classes=4, **more)


def ask(asked: CallableVictim, images: Any) -> Any:
    return asyncio.run(asked.query(images)).probabilities


def test_it_answers_as_the_function_does() -> None:
    images = blocks(5, seed=0)
    np.testing.assert_array_equal(ask(victim(answers), images), answers(images))
    as_tensor = victim(lambda images: torch.from_numpy(answers(images)).double())
    np.testing.assert_array_equal(ask(as_tensor, images), answers(images))
    labels = answers(images).argmax(axis=1)
    one_hot = ask(victim(lambda images: answers(images).argmax(axis=1)), images)
    np.testing.assert_array_equal(one_hot, np.eye(4, dtype=np.float32)[labels])
    assert one_hot.dtype == np.float32


def test_float_noise_below_zero_is_zero() -> None:
    noisy = victim(lambda images: np.where(answers(images) < 0.2, -5e-8, answers(images)))
    assert ask(noisy, blocks(5, seed=0)).min() == 0.0


@pytest.mark.parametrize(
    ("predict", "sentence"),
    [
        (lambda images: 9 * answers(images) - 3, r"outside \[0, 1\]: logits, perhaps"),
        (lambda images: np.nan * answers(images), r"outside \[0, 1\]"),
        (lambda images: answers(images)[:, :3], r"an array \(5, 3\) for 5 images"),
        (lambda images: np.full(len(images), 4), r"labels outside \[0, 4\)"),
    ],
)
def test_what_is_no_answer_is_refused(predict: Any, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence):
        ask(victim(predict), blocks(5, seed=0))


def test_images_that_do_not_fit_are_refused_unasked() -> None:
    def never(images: Any) -> Any:
        raise AssertionError("asked")

    for images in (np.zeros((2, 1, 8, 7), np.uint8), np.zeros((2, *SHAPE), np.float32)):
        with pytest.raises(ProtocolError, match=r"not uint8 \(n, 1, 8, 8\)"):
            ask(victim(never), images)


def test_maps_come_with_probabilities_or_not_at_all() -> None:
    images = blocks(3, seed=0)
    maps = images[:, 0, ::4, ::4] / np.float32(255)
    told = victim(answers, explain=lambda images: (answers(images), maps), maps=(2, 2))
    assert told.facts.maps == (2, 2)
    reply = asyncio.run(told.explain(images))
    np.testing.assert_array_equal(reply.attributions, maps)
    np.testing.assert_array_equal(reply.probabilities, answers(images))
    wrong = victim(answers, explain=lambda images: (answers(images), maps[:1]), maps=(2, 2))
    with pytest.raises(ProtocolError, match=r"returned maps \(1, 2, 2\)"):
        asyncio.run(wrong.explain(images))
    with pytest.raises(ProtocolError, match="has no maps"):
        asyncio.run(victim(answers).explain(images))
    with pytest.raises(ValueError, match="go together"):
        victim(answers, maps=(2, 2))


def test_a_theft_from_it_is_the_theft_over_http(
    model: LinearModel, serve: Serve, tmp_path: Path
) -> None:
    pool = block_pool(60)

    async def over_http(url: str) -> None:
        async with HttpVictim(url, "toy") as asked:
            (await steal(asked, pool, Knockoff(), budget=50, out=tmp_path / "http")).close()

    async def in_process() -> None:
        async with CallableVictim(model, shape=model.shape, classes=CLASSES) as asked:
            (await steal(asked, pool, Knockoff(), budget=50, out=tmp_path / "here")).close()

    with serve(Stub(model)) as url:
        asyncio.run(over_http(url))
    asyncio.run(in_process())
    here, there = (tmp_path / name / "records.bin" for name in ("here", "http"))
    assert here.read_bytes() == there.read_bytes()
