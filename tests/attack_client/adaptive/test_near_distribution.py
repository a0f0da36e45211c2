"""Scouts find what a victim is sure of; the attack asks about the rest of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from attack_client.adaptive.adaptations import Adaptations
from attack_client.adaptive.contract import Knowledge
from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Pool
from attack_client.errors import AdaptationError, Unreachable
from attack_client.theft import steal
from tests.attack_client.adaptive.toys import Bent, Floats, flat_pool
from tests.attack_client.stub import CLASSES

NEAR = "near-distribution:scouts=30,keep=0.3,neighbours=3"


def sure_of_the_dark(images: NDArray[np.uint8]) -> Floats:
    """One-hot for images whose middle is dark, uniform for all others."""
    dark = images[:, 0, 3, 3] < 80
    answers = np.full((len(images), CLASSES), 1.0 / CLASSES, dtype=np.float32)
    answers[dark] = np.eye(CLASSES, dtype=np.float32)[0]
    return answers


def mixed_pool() -> Pool:
    return flat_pool(250)


def test_what_is_asked_is_near_what_the_victim_is_sure_of(tmp_path: Path) -> None:
    pool, adaptations = mixed_pool(), Adaptations.of([NEAR])
    attack = adaptations.adapt(Knockoff(seed=1))
    run = steal(Bent(sure_of_the_dark), pool, attack, budget=90, out=tmp_path)
    with asyncio.run(run) as stolen:
        images, answers = stolen.prefix(90)
    sure = answers.max(axis=1) == 1.0
    assert sure[:30].mean() < 0.5, "scouts are a random sample"
    assert sure[30:].mean() > 0.9
    assert len({image.tobytes() for image in images}) == 90
    harvest = adaptations.harvest(images, answers, Knowledge(classes=CLASSES))
    assert harvest.positions.tolist() == [-1] * 30 + list(range(60))


def test_a_theft_goes_on_and_a_larger_budget_extends_it(tmp_path: Path) -> None:
    pool = mixed_pool()
    attack = Adaptations.of([NEAR]).adapt(Knockoff(seed=1))
    first, second, third = Bent(sure_of_the_dark, answers=5), *(Bent(sure_of_the_dark),) * 2
    with pytest.raises(Unreachable):
        asyncio.run(steal(first, pool, attack, budget=60, out=tmp_path, batch=8, concurrency=1))
    asyncio.run(steal(second, pool, attack, budget=60, out=tmp_path, resume=True)).close()
    run = steal(third, pool, attack, budget=80, out=tmp_path, resume=True)
    with asyncio.run(run) as stolen:
        assert stolen.complete == 80
    asked = [*first.asked, *second.asked]
    assert len(asked) == len(set(asked)) == 80


@pytest.mark.parametrize(
    ("adapt", "budget", "sentence"),
    [
        (NEAR, 30, "leaves nothing of a budget of 30"),
        (NEAR, 150, "would keep 66 images of a pool of 250, too few for 120 queries"),
        ("near-distribution:scouts=400", 500, "would keep 0 images"),
    ],
)
def test_budgets_and_pools_that_do_not_fit_are_refused_before_a_query(
    tmp_path: Path, adapt: str, budget: int, sentence: str
) -> None:
    victim, adaptations = Bent(sure_of_the_dark), Adaptations.of([adapt])
    with pytest.raises(AdaptationError, match=sentence):
        adaptations.check(labels=["soft"], budgets=[budget], pool=250)
    attack = adaptations.adapt(Knockoff(seed=1))
    with pytest.raises(AdaptationError, match=sentence):
        asyncio.run(steal(victim, mixed_pool(), attack, budget=budget, out=tmp_path))
    assert not victim.asked


def test_scouts_are_averaged_where_averaging_stands_behind(tmp_path: Path) -> None:
    adaptations = Adaptations.of([NEAR, "repeat-averaging:n=2"])
    attack = adaptations.adapt(Knockoff(seed=1))
    run = steal(Bent(sure_of_the_dark), mixed_pool(), attack, budget=100, out=tmp_path)
    with asyncio.run(run) as stolen:
        harvest = adaptations.harvest(*stolen.prefix(100), Knowledge(classes=CLASSES))
    assert harvest.positions.tolist() == [-1] * 30 + list(range(20))
    assert adaptations.images(100) == 50
    assert adaptations.title("knockoff") == (
        "knockoff+near-distribution(keep=0.3, neighbours=3, scouts=30)+repeat-averaging(n=2)"
    )


def by_shade(images: NDArray[np.uint8]) -> Floats:
    """Answers that differ from image to image."""
    share = images[:, 0, 0, 0].astype(np.float32) / 255
    return np.stack([share, 1 - share, *[np.zeros_like(share)] * (CLASSES - 2)], axis=1)


@pytest.mark.parametrize("scouts", [30, 31])
def test_scouts_stay_alone_where_averaging_stands_in_front(tmp_path: Path, scouts: int) -> None:
    near = f"near-distribution:scouts={scouts},keep=0.9,neighbours=3"
    adaptations = Adaptations.of(["repeat-averaging:n=2", near])
    budget = scouts + 40
    adaptations.check(labels=["soft"], budgets=[budget], pool=250)
    attack = adaptations.adapt(Knockoff(seed=1))
    victim = Bent(by_shade)
    with asyncio.run(steal(victim, mixed_pool(), attack, budget=budget, out=tmp_path)) as stolen:
        harvest = adaptations.harvest(*stolen.prefix(budget), Knowledge(classes=CLASSES))
        part = adaptations.harvest(*stolen.prefix(budget - 3), Knowledge(classes=CLASSES))
    assert adaptations.images(budget) == len(harvest.images) == scouts + 20
    assert len(victim.asked) == budget, "scouts once each, all others twice"
    assert harvest.positions.tolist() == [-1] * scouts + list(range(20))
    np.testing.assert_allclose(harvest.answers, by_shade(harvest.images), atol=1e-6)
    assert part.positions.tolist() == [-1] * scouts + list(range(18))


def test_what_scouts_leave_must_be_a_multiple_of_the_cost_of_an_image() -> None:
    near = "near-distribution:scouts=31,keep=0.9,neighbours=3"
    adaptations = Adaptations.of(["repeat-averaging:n=2", near])
    with pytest.raises(AdaptationError, match="69 of the budget 100 is not a multiple"):
        adaptations.check(labels=["soft"], budgets=[100], pool=250)
