"""Whose map leaves, and what becomes of one that a link made or broke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from defenses.chain import Chain
from defenses.contract import Answers, Defense, Interpret, Output, Queries, Stage
from defenses.explanations import Explainer
from defenses.label_only import LabelOnly
from models.errors import ExplanationError
from models.simplex import GRID, round_to_grid
from models.victim import SingleVictim
from server.engine import Engine
from server.metrics import Metrics
from server.served import ServedModel
from tests.defenses.toys import SIZE, card, images, network, queries

CLASSES = 4
COUNT = 6


class Painter(Defense):
    """Puts a map of its own into every answer, as DeepDefense does."""

    kind = "painter"
    stage = Stage.REPLACE
    covers = frozenset(Output)

    def __init__(self, paint: Callable[[Tensor], Tensor]) -> None:
        self._paint = paint

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        return replace(answers, attributions=self._paint(queries.images[:, 0]))


class Swap(Defense):
    """Changes the label, and says so."""

    kind = "swap"
    stage = Stage.PERTURB
    keeps_top1 = False

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        return replace(answers, probabilities=answers.probabilities.flip(1))


class Elsewhere(Defense):
    """Answers as the victim does, and has another network explained."""

    kind = "elsewhere"
    stage = Stage.PERTURB

    def __init__(self, other: nn.Module) -> None:
        self._other = other

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        return answers

    def attribute(
        self, queries: Queries, classes: Tensor, maps: Tensor, interpret: Interpret
    ) -> Tensor:
        return interpret(self._other, queries.images, classes)


def asked() -> Queries:
    pictures = images(COUNT)
    said = network(CLASSES, seed=0)(pictures).softmax(dim=1)
    everybody = torch.ones(COUNT, dtype=torch.bool)
    return replace(queries(round_to_grid(said, GRID), pictures=pictures), explain=everybody)


def explainer(chain: Chain) -> Explainer:
    return Explainer("gradient-x-input", SingleVictim(network(CLASSES, seed=0)), chain)


def left(chain: Chain) -> Tensor:
    question = asked()
    return explainer(chain).maps(question, chain.run(question).answers)


def test_a_map_that_a_link_made_is_the_one_that_leaves() -> None:
    painted = left(Chain([Painter(lambda pictures: pictures), LabelOnly()]))
    pictures = asked().images[:, 0]
    least, most = pictures.amin(dim=(1, 2), keepdim=True), pictures.amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(painted, (pictures - least) / (most - least), atol=6e-4, rtol=0)
    assert (painted - left(Chain([]))).abs().amax(dim=(1, 2)).min() > 0.1


def test_a_map_that_is_withheld_is_all_zeros() -> None:
    assert torch.equal(left(Chain([Painter(torch.zeros_like)])), torch.zeros(COUNT, SIZE, SIZE))


def test_the_label_explained_is_the_one_after_the_last_link() -> None:
    swapped, plain = left(Chain([Swap()])), left(Chain([]))
    assert (swapped - plain).abs().amax(dim=(1, 2)).max() > 0.1
    torch.testing.assert_close(left(Chain([Swap(), Swap()])), plain, atol=1e-6, rtol=0)


def test_a_label_that_could_change_after_its_map_was_made_is_refused() -> None:
    painter = Painter(lambda pictures: pictures)
    with pytest.raises(ExplanationError, match="swap may change the label that painter explained"):
        explainer(Chain([painter, Swap()]))
    assert explainer(Chain([painter, LabelOnly()])).covered
    assert not explainer(Chain([LabelOnly()])).covered


def test_a_network_that_is_explained_in_another_size_is_refused() -> None:
    victim = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    other = nn.Sequential(nn.Conv2d(1, 2, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for each in (victim, other):
        each.eval().requires_grad_(False)
    question = replace(asked(), victim=torch.full((COUNT, 2), 0.5))
    chain = Chain([Elsewhere(other)])
    explain = Explainer("grad-cam", SingleVictim(victim), chain)
    with pytest.raises(ExplanationError, match=r"are \(2, 2\) and those of the victim \(4, 4\)"):
        explain.maps(question, chain.run(question).answers)


def test_a_row_whose_map_is_not_finite_fails_alone_and_shows_nothing() -> None:
    def broken(pictures: Tensor) -> Tensor:
        painted = pictures.clone()
        painted[:, 0, 0] = torch.where(pictures[:, 0, 0] > 0.5, torch.inf, 0.0)
        return painted

    pictures = (asked().images * 255).round().to(torch.uint8).numpy()
    chain = Chain([Painter(broken)])
    served = ServedModel(
        "m", "1", card(CLASSES), SingleVictim(network(CLASSES, 0)), chain, explainer(chain), 1
    )
    engine = Engine(torch.device("cpu"), secret=b"a secret of some length", metrics=Metrics())
    computed = engine.run(served, [pictures], np.ones(COUNT, dtype=np.bool_))
    high = pictures[:, 0, 0, 0] > 127
    assert 0 < high.sum() < COUNT
    np.testing.assert_array_equal(computed.failed, high)
    assert computed.attributions is not None
    assert np.isfinite(computed.attributions).all()
    assert not computed.attributions[high].any()
    np.testing.assert_allclose(computed.probabilities[high], 1 / CLASSES)
