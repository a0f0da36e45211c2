"""DeepDefense: what it promises, how it searches, and what it never says."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from defenses.contract import Answers, Queries
from defenses.deep_defense import DeepDefenseProbabilities
from defenses.deep_defense_factors import Factors
from defenses.deep_defense_layers import candidates, grouped, most_sensitive, sensitivity
from defenses.deep_defense_objective import Goal, log_odds, objective
from defenses.deep_defense_promise import keeps_order
from defenses.deep_defense_search import seeded
from defenses.deep_defense_weights import Weights
from defenses.errors import OptionError
from defenses.registry import build_chain
from models.simplex import GRID, one_hot, round_to_grid, top1
from tests.defenses.misled import CLASSES, GROUPS, LAYERS, asked, goal, toy
from tests.defenses.toys import images, material


def defended(network: nn.Module, **options: Any) -> DeepDefenseProbabilities:
    return DeepDefenseProbabilities(victim=network, layers=LAYERS, **options)


def said(defense: DeepDefenseProbabilities, queries: Queries) -> Tensor:
    return defense.apply(queries, Answers(queries.victim)).probabilities


@pytest.mark.parametrize("weights", ["low-rank", "full"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_every_answer_keeps_the_order_it_promises(k: int, weights: Any) -> None:
    network = toy()
    queries = asked(network, 40 if weights == "low-rank" else 12)
    # As often as not the victim's word is not this network's, and the search starts outside.
    mixed = torch.where(
        torch.arange(len(queries.victim))[:, None] % 2 == 0,
        queries.victim,
        queries.victim.roll(1, dims=0),
    )
    queries = replace(queries, victim=mixed)
    answers = said(defended(network, k=k, steps=12, rate=0.02, weights=weights), queries)
    assert keeps_order(answers, mixed, k).all()
    assert torch.equal(top1(answers), top1(mixed))


@pytest.mark.parametrize("weights", ["low-rank", "full"])
def test_answers_are_misdirected_and_not_the_victims(weights: Any) -> None:
    network = toy()
    queries = asked(network)
    defense = defended(network, steps=30, rate=0.02, weights=weights)
    with torch.no_grad():
        found = defense.misdirection.find(queries.images, queries.victim, queries.seeds)
    assert found.good.double().mean() > 0.6
    shares = torch.tensor([0.5, 0.5], dtype=torch.float64)
    turned = (found.cosines[found.good] * shares).sum(dim=1)
    assert (turned <= 0.9).all()
    assert turned.median() < 0.6
    moved = (said(defense, queries) - queries.victim).abs().sum(dim=1)
    assert (moved > 0.01).double().mean() > 0.8


def test_at_the_victims_own_weights_nothing_moves() -> None:
    network = toy()
    queries = asked(network)
    form = Weights(network, groups=GROUPS, images=queries.images, labels=top1(queries.victim))
    start = form.start(lambda count: torch.zeros(len(queries.seeds), count).double(), 1e-2)
    seen, gradient = form.evaluate(start, replace(goal(queries, k=1), lead=0.0))
    torch.testing.assert_close(seen.cosines, torch.ones_like(seen.cosines))
    assert max(float(part.abs().max()) for part in gradient.values()) < 1e-7


def test_what_keeps_no_promise_leaves_as_its_label() -> None:
    network = toy()
    queries = asked(network)
    impossible = defended(network, steps=2, turned=1e-6)
    expected = one_hot(top1(queries.victim), CLASSES)
    assert torch.equal(said(impossible, queries), expected)


def test_a_network_of_two_classes_and_one_layer_cannot_mislead_and_says_labels() -> None:
    chain = build_chain([{"kind": "dd-s", "steps": 4}], material(2))
    pictures = images(8)
    victim = round_to_grid(material(2).networks["victim"](pictures).softmax(dim=1), GRID)
    queries = Queries(pictures, torch.arange(8), torch.zeros(8, dtype=torch.bool), victim)
    assert torch.equal(chain.run(queries).answers.probabilities, one_hot(top1(victim), 2))


@pytest.mark.parametrize("weights", ["low-rank", "full"])
def test_an_answer_depends_on_no_neighbour_and_on_its_seed(weights: Any) -> None:
    network = toy()
    queries = asked(network, 5)
    defense = defended(network, steps=8, rate=0.02, weights=weights)
    together = said(defense, queries)
    assert torch.equal(said(defense, queries), together)
    for row in range(5):
        part = Queries(
            **{field.name: getattr(queries, field.name)[row : row + 1] for field in fields(Queries)}
        )
        torch.testing.assert_close(said(defense, part), together[row : row + 1], atol=1e-6, rtol=0)
    reseeded = said(defense, replace(queries, seeds=queries.seeds + 1))
    assert not torch.equal(reseeded, together)


def test_more_queries_than_lanes_are_answered_as_they_would_be_alone() -> None:
    network = toy()
    queries = asked(network, 35)
    defense = defended(network, steps=2, rate=0.02)
    last = Queries(**{field.name: getattr(queries, field.name)[34:] for field in fields(Queries)})
    torch.testing.assert_close(said(defense, last), said(defense, queries)[34:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("decoys", [False, True])
def test_the_plain_form_is_what_autograd_says_one_at_a_time(decoys: bool) -> None:
    network = toy()
    queries = asked(network, 3)
    labels, aim = top1(queries.victim), goal(queries, decoys=decoys)
    form = Weights(network, groups=GROUPS, images=queries.images, labels=labels)
    update = form.start(seeded(queries.seeds), 0.1)
    seen, gradient = form.evaluate(update, aim)
    for row in range(3):
        mine = {name: value[row].clone().requires_grad_() for name, value in update.items()}
        loss, cosines = by_hand(network, mine, queries.images[row : row + 1], aim, row)
        torch.testing.assert_close(seen.cosines[row], cosines.detach())
        for name, part in zip(mine, torch.autograd.grad(loss, list(mine.values())), strict=True):
            torch.testing.assert_close(gradient[name][row], part, atol=1e-10, rtol=1e-7)


def by_hand(
    network: nn.Module, weights: dict[str, Tensor], image: Tensor, aim: Goal, row: int
) -> tuple[Tensor, Tensor]:
    """Eq. 8 for one query, written out, and the cosines."""
    base = {name: value.double() for name, value in network.named_parameters()}
    label = aim.order[row, :1]
    pulled = []
    for chosen in ({name: base[name].clone().requires_grad_() for name in weights}, weights):
        logits = functional_call(network, {**base, **chosen}, (image.double(),))
        odds = log_odds(logits, label).sum()
        parts = torch.autograd.grad(odds, list(chosen.values()), create_graph=True)
        pulled.append(dict(zip(chosen, parts, strict=True)))
    cosines = []
    for group in GROUPS:
        one, other = (torch.cat([part[name].flatten() for name in group]) for part in pulled)
        cosines.append(one @ other / (one.norm() * other.norm()))
    p = logits.softmax(dim=1)[0]
    first, second, rest = aim.order[row, 0], aim.order[row, 1], aim.order[row, 2:]
    penalty = torch.relu(p[second] - p[first] + 0.05) + torch.relu(p[rest].max() - p[second] + 0.05)
    loss = 0.3 * cosines[0] ** 2 + 0.7 * cosines[1] ** 2 + 10.0 * penalty
    if aim.decoys is not None:
        loss = loss - 0.7 * p[(first + 1) % CLASSES].log()
    return loss, torch.stack(cosines)


def test_factors_say_what_the_whole_matrices_that_they_stand_for_say() -> None:
    network = toy()
    queries = asked(network, 4)
    labels, aim = top1(queries.victim), goal(queries)
    factors = Factors(network, groups=GROUPS, rank=2, images=queries.images, labels=labels)
    update = factors.start(seeded(queries.seeds), 0.3)
    plain = Weights(network, groups=GROUPS, images=queries.images, labels=labels)
    whole = {}
    for name in LAYERS:
        weight = network.get_parameter(name).double()
        change = update[f"{name}:C"] @ factors._rows[name].transpose(1, 2)
        if f"{name}:E" in update:
            change = change + factors._backs[name] @ update[f"{name}:E"].transpose(1, 2)
        whole[name] = weight + change.reshape(-1, *weight.shape)
    for _ in range(2):  # the second time from memory
        few, _ = factors.evaluate(update, aim)
        many, _ = plain.evaluate(whole, aim)
        torch.testing.assert_close(few.log_probabilities, many.log_probabilities)
        torch.testing.assert_close(few.cosines, many.cosines)
    assert (few.cosines < 0.999).any()


def test_the_gradient_of_factors_is_that_of_their_objective() -> None:
    network = toy()
    queries = asked(network, 3)
    labels, aim = top1(queries.victim), goal(queries, decoys=True)
    factors = Factors(network, groups=GROUPS, rank=2, images=queries.images, labels=labels)
    update = factors.start(seeded(queries.seeds), 0.3)
    _, gradient = factors.evaluate(update, aim)
    step = {
        name: torch.randn(value.shape, generator=torch.Generator().manual_seed(4)).double()
        for name, value in update.items()
    }
    ahead, behind = (
        objective(
            factors.evaluate({n: v + sign * 1e-6 * step[n] for n, v in update.items()}, aim)[0], aim
        )
        for sign in (1.0, -1.0)
    )
    slope = torch.stack([(gradient[n] * step[n]).flatten(1).sum(dim=1) for n in update]).sum(dim=0)
    torch.testing.assert_close((ahead - behind) / 2e-6, slope, rtol=1e-4, atol=1e-6)


def test_the_victim_is_not_touched() -> None:
    network = toy()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    identities = [id(parameter) for parameter in network.parameters()]
    for weights in ("low-rank", "full"):
        said(defended(network, steps=2, weights=weights), asked(network, 3))
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert [id(parameter) for parameter in network.parameters()] == identities
    assert not any(parameter.requires_grad or parameter.grad is not None
                   for parameter in network.parameters())  # fmt: skip
    assert not any(module._forward_hooks or module.training for module in network.modules())


def test_it_works_where_the_engine_calls_it_without_gradients() -> None:
    network = toy()
    queries = asked(network, 3)
    outside = said(defended(network, steps=2), queries)
    with torch.inference_mode():
        inside = said(defended(network, steps=2), asked(network, 3))
    assert torch.equal(inside, outside)


def test_an_early_stop_ends_sooner_and_is_declared() -> None:
    network = toy()
    queries = asked(network, 1)
    patient = defended(network, steps=60, rate=0.05)
    hasty = defended(network, steps=60, rate=0.05, early_stop=0.4)
    assert hasty.timing_leak
    assert not patient.timing_leak
    with torch.no_grad():
        counts = [
            [
                defense.misdirection.find(
                    queries.images, queries.victim, torch.tensor([seed])
                ).steps
                for seed in range(6)
            ]
            for defense in (patient, hasty)
        ]
    assert set(counts[0]) == {60}
    assert min(counts[1]) < 60


def test_sensitivity_is_the_mean_magnitude_of_the_gradients() -> None:
    network = toy()
    pictures = images(4, seed=8)
    expected = dict.fromkeys(LAYERS, 0.0)
    for picture in torch.split(pictures, 1):
        leaves = {name: network.get_parameter(name).clone().requires_grad_() for name in LAYERS}
        output = functional_call(network, leaves, (picture,)).softmax(dim=1).max()
        for name, part in zip(
            LAYERS, torch.autograd.grad(output, list(leaves.values())), strict=True
        ):
            expected[name] += float(part.abs().sum()) / 4
    found = sensitivity(network, pictures)
    assert tuple(found) == candidates(network) == LAYERS
    for name in LAYERS:
        assert found[name] == pytest.approx(expected[name], rel=1e-4)


def test_the_fewest_layers_that_have_the_share_are_chosen() -> None:
    scores = {"a": 4.0, "b": 27.0, "c": 65.0, "d": 4.0}
    assert most_sensitive(scores, 0.5) == ("c",)
    assert most_sensitive(scores, 0.9) == ("b", "c")
    assert most_sensitive(scores, 1.0) == ("a", "b", "c", "d")
    assert most_sensitive(dict.fromkeys("ab", 0.0), 0.9) == ("a",)
    assert grouped(toy(), LAYERS) == GROUPS
    assert grouped(toy(), LAYERS[1:]) == (LAYERS[1:],)


def test_the_order_is_that_of_the_victim_and_its_ties_bind_nobody() -> None:
    victim = torch.tensor([[0.5, 0.2, 0.2, 0.1]])
    swapped = torch.tensor([[0.4, 0.2, 0.3, 0.1]])
    assert keeps_order(swapped, victim, 3).all()
    assert not keeps_order(torch.tensor([[0.4, 0.2, 0.1, 0.3]]), victim, 3).any()
    assert not keeps_order(torch.tensor([[0.3, 0.4, 0.2, 0.1]]), victim, 1).any()
    assert keeps_order(torch.tensor([[0.4, 0.0, 0.2, 0.4]]), victim, 1).all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"k": 0}, "k"),
        ({"k": 7}, "k"),
        ({"steps": 0}, "steps"),
        ({"steps": 201}, "steps"),
        ({"rate": 0.0}, "rate"),
        ({"noise": 0.0}, "noise"),
        ({"alpha": 1.5}, "alpha"),
        ({"lead": 0.6}, "lead"),
        ({"turned": 0.0}, "turned"),
        ({"decoy": -1.0}, "decoy"),
        ({"rank": 0}, "rank"),
        ({"early_stop": 2.0}, "early_stop"),
        ({"weights": "half"}, "weights"),
        ({"layers": ()}, "layers"),
        ({"layers": ("0.bias",)}, "layers"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError) as error:
        DeepDefenseProbabilities(victim=toy(), **{"layers": LAYERS, **options}).check(CLASSES)
    assert error.value.option == named


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"sensitivity": 0.0}, "sensitivity: must be above 0"),
        ({"sensitivity": 0.5, "layers": ["1.weight"]}, "not both"),
        ({"layers": ["2.weight"]}, "there are 1.weight"),
    ],
)
def test_a_choice_of_layers_that_cannot_be_made_is_refused(
    spec: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(OptionError, match=sentence):
        build_chain([{"kind": "dd-s", **spec}], material(4))


def test_a_bundle_without_sensitivities_is_refused_and_layers_by_name_are_not() -> None:
    given = material(4)
    bare = replace(given, card=given.card.model_copy(update={"sensitivity": None}))
    with pytest.raises(OptionError, match="holds no sensitivities"):
        build_chain([{"kind": "dd-s"}], bare)
    assert "1.weight" in repr(build_chain([{"kind": "dd-s", "layers": ["1.weight"]}], bare))
