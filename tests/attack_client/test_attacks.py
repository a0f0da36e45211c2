"""What every attack keeps: it can be repeated, cut short, resumed, and it steals."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from attack_client.attacks.attribution import Attribution
from attack_client.attacks.composite import Composite
from attack_client.attacks.distil import Distil
from attack_client.attacks.jbda import Jbda
from attack_client.attacks.jbda_targeted import JbdaTargeted
from attack_client.attacks.knockoff import Knockoff
from attack_client.attacks.registry import BUILT_IN
from attack_client.attacks.registry import make as make_attack
from attack_client.callable_victim import CallableVictim
from attack_client.clone import CloneRecipe, train_clone
from attack_client.contract import Attack
from attack_client.errors import VictimError
from attack_client.predictions import hard_labels, predict
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from tests.attack_client.toys import CLASSES, SHAPE, answers, block_pool, blocks, fidelity, rises

Make = Callable[[], Attack]

JBDA: dict[str, Any] = {"clone": "cnn-small", "seeds": 30, "epochs": 3, "step": "strong"}
ATTACKS: dict[str, Make] = {
    "knockoff": Knockoff,
    "knockoff-cert": lambda: Knockoff(strategy="adaptive", reward="cert", stride=16),
    "knockoff-div": lambda: Knockoff(strategy="adaptive", reward="div", stride=16),
    "knockoff-loss": lambda: Knockoff(
        strategy="adaptive", reward="loss", stride=16, clone="cnn-small"
    ),
    "knockoff-all": lambda: Knockoff(strategy="adaptive", stride=16, clone="cnn-small"),
    "distil": Distil,
    "jbda": lambda: Jbda(**JBDA),
    "jbda-hard": lambda: Jbda(labels="hard", choose="random", flip_every=2, **JBDA),
    "jbda-reservoir": lambda: Jbda(reservoir=20, reservoir_after=1, **JBDA),
    "jbda-tr": lambda: JbdaTargeted(**JBDA),
    "composite": Composite,
    "composite-3": lambda: Composite(parts=3, concentration=0.5),
    "composite-fresh": lambda: Composite(per_epoch=40),
    "attribution": Attribution,
}
every = pytest.mark.parametrize("make", ATTACKS.values(), ids=ATTACKS)


class Cut(VictimError):
    """The victim is gone."""


class Toy(CallableVictim):
    """The toy's answers, with maps; may go away after so many samples."""

    def __init__(self, *, until: int | None = None) -> None:
        self.samples, self.until = 0, until
        super().__init__(
            self.answer,
            shape=SHAPE,
            classes=CLASSES,
            explain=lambda images: (self.answer(images), images[:, 0, ::4, ::4] / 255),
            maps=(2, 2),
        )

    def answer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.until is not None and self.samples + len(images) > self.until:
            raise Cut("gone")
        self.samples += len(images)
        return answers(images)


def theft(attack: Attack, victim: Toy, out: Path, budget: int, **more: Any) -> TransferSet:
    run = steal(victim, block_pool(300), attack, budget=budget, out=out, batch=16, **more)
    return asyncio.run(run)


def test_the_table_holds_every_attack_of_ours() -> None:
    assert {make().kind for make in ATTACKS.values()} == set(BUILT_IN)


@every
def test_a_theft_can_be_repeated_cut_short_and_goes_on_after_any_loss(
    make: Make, tmp_path: Path
) -> None:
    whole = Toy()
    with theft(make(), whole, tmp_path / "whole", 120) as stolen:
        images, said = stolen.prefix(120)
    assert whole.samples == 120
    with theft(make(), Toy(), tmp_path / "smaller", 77) as smaller:
        np.testing.assert_array_equal(smaller.prefix(77)[0], images[:77])
    cut = tmp_path / "cut"
    victims = [Toy(until=50), Toy(until=33), Toy()]
    for turn, victim in enumerate(victims):
        try:
            theft(make(), victim, cut, 120, resume=turn > 0).close()
        except Cut:
            assert victim is not victims[-1]
    with TransferSet.read(cut) as found:
        np.testing.assert_array_equal(found.prefix(120)[0], images)
        np.testing.assert_array_equal(found.prefix(120)[1], said)
    assert sum(victim.samples for victim in victims) == 120, "nothing is paid for twice"


@every
def test_what_is_asked_is_what_is_learnt_from(make: Make, tmp_path: Path) -> None:
    with theft(make(), Toy(), tmp_path, 120) as stolen:
        images, said = stolen.prefix(120)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(said, answers(images))
    distinct = len({image.tobytes() for image in images})
    assert distinct == 120 or make().kind == "composite"


@pytest.mark.parametrize(
    "name",
    ["knockoff", "knockoff-all", "distil", "jbda", "jbda-tr", "composite", "attribution"],
)
def test_fidelity_rises_with_the_budget(name: str, tmp_path: Path) -> None:
    """Clones of an undefended victim, soft and hard, at three budgets."""
    test = blocks(300, seed=2)
    recipe = CloneRecipe(architecture="cnn-small", epochs=12)
    with theft(ATTACKS[name](), Toy(), tmp_path, 240) as stolen:
        for soft in (True, False):
            curve = []
            for budget in (8, 60, 240):
                images, said = stolen.prefix(budget)
                targets = said if soft else hard_labels(said)
                clone = train_clone(images, targets, classes=CLASSES, recipe=recipe, seed=0)
                curve.append(fidelity(predict(clone, test), test))
            assert rises(curve, slack=0.05), curve
            assert curve[0] < curve[-1], curve
            assert curve[-1] > 0.8, curve


@pytest.mark.parametrize(
    ("make", "stated"),
    [
        (Knockoff, "knockoff(seed=0)"),
        (
            ATTACKS["knockoff-loss"],
            "knockoff(strategy='adaptive', reward='loss', stride=16, clone='cnn-small', seed=0)",
        ),
        (Distil, "distil(seed=0)"),
        (Attribution, "attribution(seed=0)"),
        (Composite, "composite(parts=2, concentration=1.0, per_epoch=None, seed=0)"),
        (
            lambda: Jbda(seed=3, device="cuda:1"),
            "jbda(clone='lenet', seeds=150, choose='first', step='ini', epochs=10, labels='soft', "
            "flip_every=None, reservoir=None, reservoir_after=3, seed=3)",
        ),
        (
            JbdaTargeted,
            "jbda-tr(clone='lenet', seeds=150, choose='first', step='ini', epochs=10, "
            "labels='soft', flip_every=None, reservoir=None, reservoir_after=3, seed=0, steps=5)",
        ),
    ],
)
def test_a_theft_goes_on_under_a_stable_name(make: Make, stated: str) -> None:
    assert repr(make()) == stated


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        (Knockoff, {"strategy": "greedy"}, "strategy must be random or adaptive"),
        (Knockoff, {"reward": "fame"}, "reward must be one of cert, div, loss or all"),
        (Knockoff, {"stride": 0}, "stride must be at least 1"),
        (Composite, {"parts": 1}, "parts must be between 2 and 1000"),
        (Composite, {"concentration": 0.0}, "concentration must be a finite number > 0"),
        (Composite, {"per_epoch": 0}, "per_epoch must be at least 1"),
        (Jbda, {"step": "huge"}, "step must be ini, strong or a number"),
        (Jbda, {"step": 0.001}, "what is smaller is rounded away"),
        (Jbda, {"choose": "last"}, "choose must be first or random"),
        (Jbda, {"labels": "firm"}, "labels must be soft or hard"),
        (Jbda, {"reservoir": 0}, "reservoir must be at least 1"),
        (JbdaTargeted, {"steps": 0}, "steps must be at least 1"),
        *((kind, {"seed": -1}, "seed must be at least 0") for kind in BUILT_IN.values()),
    ],
)
def test_an_option_out_of_range_is_refused(
    kind: type[Attack], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        kind(**options)


def test_thefts_differ_by_seed(tmp_path: Path) -> None:
    asked = {}
    for name, seed in itertools.product(("knockoff", "composite", "jbda-tr"), (0, 1)):
        attack = make_attack(name, seed=seed, options=JBDA if name == "jbda-tr" else {})
        with theft(attack, Toy(), tmp_path / f"{name}{seed}", 100) as stolen:
            asked[name, seed] = stolen.prefix(100)[0].tobytes()
    assert len(set(asked.values())) == len(asked)
