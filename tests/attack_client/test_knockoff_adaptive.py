"""The bandit and its rewards."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from attack_client.attacks.bandit import GradientBandit
from attack_client.attacks.knockoff import Knockoff
from attack_client.attacks.rewards import KINDS, Rewards
from attack_client.callable_victim import CallableVictim
from attack_client.contract import Pool
from attack_client.errors import PoolError
from attack_client.theft import steal
from tests.attack_client.toys import CLASSES, SHAPE, answers, block_pool, blocks


def test_a_bandit_takes_the_step_of_the_paper() -> None:
    bandit = GradientBandit(3)
    bandit.reward(1, 2.0)  # the first reward is its own mean: nothing is learnt
    np.testing.assert_allclose(bandit.policy(), 1 / 3)
    bandit.reward(1, 5.0)
    gain = (5.0 - 3.5) / 2
    wanted = np.array([-gain / 3, gain * (1 - 1 / 3), -gain / 3])
    np.testing.assert_allclose(bandit.policy(), np.exp(wanted) / np.exp(wanted).sum())
    bandit.reward(2, 0.0)
    assert bandit.policy()[2] < bandit.policy()[0], "worse than the mean is avoided"


def test_a_bandit_learns_which_action_pays_and_leaves_out_what_is_used_up() -> None:
    bandit, draws = GradientBandit(4), np.random.default_rng(0)
    for _ in range(300):
        action = int(draws.choice(4, p=bandit.policy()))
        bandit.reward(action, float(action == 2))
    assert bandit.policy().argmax() == 2
    shares = bandit.policy(np.array([True, True, False, False]))
    assert shares[2:].tolist() == [0.0, 0.0]
    assert shares.sum() == pytest.approx(1.0)


def test_rewards_are_those_of_the_paper() -> None:
    said = np.array([0.7, 0.2, 0.1], dtype=np.float32)
    assert Rewards("cert").of(said) == pytest.approx(0.5)
    div = Rewards("div")
    assert div.of(said) == pytest.approx(0.0)
    other = np.array([0.1, 0.8, 0.1], dtype=np.float32)
    assert div.of(other) == pytest.approx(0.8 - 0.5)
    clone = np.array([0.5, 0.25, 0.25], dtype=np.float32)
    entropy = -(0.7 * np.log(0.5) + 0.3 * np.log(0.25))
    assert Rewards("loss").of(said, clone) == pytest.approx(entropy)


@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_rewards_stay_finite_for_one_hot_constant_and_zero_answers(kind: str) -> None:
    rewards, bandit = Rewards(kind), GradientBandit(2)
    sure, none = np.eye(3, dtype=np.float32)[0], np.zeros(3, dtype=np.float32)
    for step, said in enumerate([sure] * 50 + [none, sure, none]):
        reward = rewards.of(said, np.eye(3, dtype=np.float32)[1])
        assert np.isfinite(reward)
        bandit.reward(step % 2, reward)
        assert np.isfinite(bandit.policy()).all()


def test_a_label_only_victim_is_asked_on_like_any_other(tmp_path: Path) -> None:
    victim = CallableVictim(
        lambda images: answers(images).argmax(axis=1), shape=SHAPE, classes=CLASSES
    )
    attack = Knockoff(strategy="adaptive", reward="all", stride=8, clone="cnn-small")
    with asyncio.run(steal(victim, block_pool(100), attack, budget=100, out=tmp_path)) as stolen:
        assert stolen.complete == 100, "every image of the pool, once the classes run dry"


def test_an_adaptive_attacker_asks_where_the_victim_is_sure(tmp_path: Path) -> None:
    images = blocks(400, seed=3)
    sure = np.sort(answers(images), axis=1)
    labels = (sure[:, -1] - sure[:, -2] > 0.8).astype(np.int64)
    pool = Pool(name="two-kinds", images=images, labels=labels)
    shares = {}
    for strategy in ("random", "adaptive"):
        victim = CallableVictim(answers, shape=SHAPE, classes=CLASSES)
        attack = Knockoff(strategy=strategy, reward="cert", stride=8)
        run = steal(victim, pool, attack, budget=100, out=tmp_path / strategy)
        with asyncio.run(run) as stolen:
            top = np.sort(stolen.prefix(100)[1], axis=1)
            shares[strategy] = float((top[:, -1] - top[:, -2] > 0.8).mean())
    assert shares["adaptive"] > shares["random"] + 0.1, shares


def test_an_apprentice_that_normalises_is_taught_by_one_answer_at_a_time(tmp_path: Path) -> None:
    victim = CallableVictim(answers, shape=SHAPE, classes=CLASSES)
    attack = Knockoff(strategy="adaptive", reward="loss", stride=1, clone="cnn-small")
    with asyncio.run(steal(victim, block_pool(9), attack, budget=4, out=tmp_path)) as stolen:
        assert stolen.complete == 4


def test_a_pool_without_classes_or_images_is_refused(tmp_path: Path) -> None:
    victim = CallableVictim(answers, shape=SHAPE, classes=CLASSES)
    bare = Pool(name="bare", images=blocks(9, seed=0), labels=np.zeros(0, dtype=np.int64))
    adaptive = Knockoff(strategy="adaptive", reward="cert")
    with pytest.raises(PoolError, match="no classes to choose among"):
        asyncio.run(steal(victim, bare, adaptive, budget=5, out=tmp_path))
    with pytest.raises(PoolError, match="pool blocks has 9 images"):
        asyncio.run(steal(victim, block_pool(9), adaptive, budget=10, out=tmp_path))
