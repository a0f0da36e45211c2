"""DeepDefense of maps: the order that they keep, and what leaves where it is not kept."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from defenses.chain import Chain
from defenses.contract import Queries
from defenses.deep_defense_promise import keeps_order
from defenses.deep_defense_ranking import agreement, ranking, ranking_penalty
from defenses.deep_defense_search import seeded
from models.simplex import one_hot, top1
from tests.defenses.misled import CLASSES, asked, toy
from tests.defenses.misled_maps import (
    aim,
    defended,
    every_way,
    explaining,
    form_of,
    interpreter_of,
    left,
)


def test_the_penalty_is_of_neighbours_that_are_apart_and_out_of_order() -> None:
    victims = ranking(torch.tensor([[[4.0, 0.0], [2.0, 0.0]]]))
    assert victims.order.tolist() == [[0, 2, 1, 3]]  # equals by place
    assert victims.apart.tolist() == [[1.0, 1.0, 0.0]]
    assert victims.span.tolist() == [4.0]
    kept = torch.tensor([[[9.0, -1.0], [0.5, 7.0]]])  # the two equals may part as they like
    assert ranking_penalty(kept, victims).tolist() == [0.0]
    # 2.4 - 2 is 0.1 of the span: 0.005; then 4.4 - 2.4 is 0.5: 0.3 (0.5 - 0.15).
    broken = torch.tensor([[[2.0, 4.4], [2.4, 0.0]]])
    torch.testing.assert_close(ranking_penalty(broken, victims), torch.tensor([0.005 + 0.105]))
    flat = ranking(torch.zeros(1, 2, 2))
    assert ranking_penalty(broken, flat).tolist() == [0.0]


def test_agreement_is_spearmans_of_what_would_leave() -> None:
    generator = np.random.default_rng(0)
    victims = generator.integers(0, 4, (30, 3, 4)) / 3.0
    maps = victims + generator.normal(0, 0.4, victims.shape)
    maps = np.clip((maps * 3).round() / 3, 0, 1)
    expected = [
        spearmanr(one.ravel(), other.ravel()).statistic
        for one, other in zip(maps, victims, strict=True)
    ]
    found = agreement(torch.from_numpy(maps), torch.from_numpy(victims))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    flat = torch.zeros(30, 3, 4)
    assert (agreement(torch.from_numpy(maps), flat) == 1).all(), "there is no order to keep"
    assert (agreement(flat, torch.from_numpy(victims)) == 0).all()


@every_way
def test_every_answer_keeps_what_it_promises_or_withholds_its_map(
    weights: str, interpreter: str
) -> None:
    network = toy()
    queries = asked(network, 24 if weights == "low-rank" else 8)
    least = 0.85
    defense = defended(
        network, interpreter, k=2, steps=20, rate=0.02, weights=weights, map_agreement=least
    )
    probabilities, maps = left(defense, queries)
    assert keeps_order(probabilities, queries.victim, 2).all()
    victims = interpreter_of(network, interpreter)(queries.images, top1(queries.victim))
    # Of a map without contrast there is nothing to keep, and nothing to withhold.
    told = victims.flatten(1).any(dim=1)
    withheld = told & ~maps.flatten(1).any(dim=1)
    label = one_hot(top1(queries.victim), CLASSES)
    assert torch.equal(probabilities[withheld], label[withheld])
    agreed = agreement(maps, victims)[told & ~withheld]
    assert (agreed >= least - 0.01).all()  # the search judged in float64
    # Nobody is shown the victim's own map, nor told its own answer.
    shown = told & ~withheld
    assert shown.sum() > 2
    scale = victims[shown].flatten(1).abs().amax(dim=1)
    moved = (maps - victims)[shown].flatten(1).abs().amax(dim=1) / scale
    assert (moved > 1e-3).all()
    assert ((probabilities - queries.victim).abs().sum(dim=1) > 1e-3).double().mean() > 0.8


def test_what_keeps_no_promise_leaves_as_its_label_without_a_map() -> None:
    network = toy()
    queries = explaining(asked(network))
    cosine: dict[str, Any] = {"turned": 1e-6}
    order: dict[str, Any] = {"map_agreement": 1.0, "rate": 0.05}
    for impossible in (cosine, order):
        probabilities, maps = left(defended(network, steps=2, **impossible), queries)
        gone = ~maps.flatten(1).any(dim=1)
        assert gone.all() if impossible is cosine else gone.any()
        assert torch.equal(probabilities[gone], one_hot(top1(queries.victim), CLASSES)[gone])


def test_the_answer_is_the_same_whether_or_not_a_map_is_asked_for() -> None:
    network = toy()
    queries = asked(network, 6)
    chain = Chain([defended(network, steps=4, rate=0.02)])
    some = replace(queries, explain=torch.arange(6) % 2 == 0)
    said = [chain.run(each).answers.probabilities for each in (queries, some, explaining(queries))]
    assert torch.equal(said[0], said[1])
    assert torch.equal(said[0], said[2])


@every_way
def test_an_answer_and_its_map_depend_on_no_neighbour(weights: str, interpreter: str) -> None:
    network = toy()
    queries = asked(network, 5)
    defense = defended(network, interpreter, steps=8, rate=0.02, map_agreement=0.5, weights=weights)
    probabilities, maps = left(defense, queries)
    again = left(defense, queries)
    assert torch.equal(again[0], probabilities)
    assert torch.equal(again[1], maps)
    for row in range(5):
        one = Queries(
            **{field.name: getattr(queries, field.name)[row : row + 1] for field in fields(Queries)}
        )
        said, shown = left(defense, one)
        torch.testing.assert_close(said, probabilities[row : row + 1], atol=1e-6, rtol=0)
        torch.testing.assert_close(shown, maps[row : row + 1], atol=1e-6, rtol=1e-6)


def test_the_cosines_fall_step_by_step_while_the_label_stays() -> None:
    network = toy()
    queries = asked(network, 10)
    form = form_of("low-rank", network, queries, "grad-cam")
    target = replace(aim(queries, form), ranking_weight=0.0)
    update = form.start(seeded(queries.seeds), 1e-2)
    fallen = []
    for _ in range(12):
        seen, gradient = form.evaluate(update, target)
        fallen.append(float((seen.cosines.abs() * target.shares).sum(dim=1).mean()))
        update = {name: value - 0.003 * gradient[name].sign() for name, value in update.items()}
    assert fallen[0] > 0.95
    assert fallen[-1] < 0.8
    assert all(later < earlier for earlier, later in pairwise(fallen))
    label = top1(seen.log_probabilities.float())
    assert (label == top1(queries.victim)).double().mean() > 0.8
