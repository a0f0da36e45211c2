"""DeepDefense of maps: whose maps leave, what order they keep, and what happens where none does."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.func import functional_call

from defenses.chain import Chain
from defenses.contract import Answers, Output, Queries
from defenses.deep_defense_factors import Factors
from defenses.deep_defense_layers import grouped_at
from defenses.deep_defense_maps import DeepDefense, DeepDefenseMaps
from defenses.deep_defense_objective import Goal, log_odds, objective
from defenses.deep_defense_promise import keeps_order
from defenses.deep_defense_ranking import agreement, ranking, ranking_penalty
from defenses.deep_defense_search import seeded
from defenses.deep_defense_weights import Weights
from defenses.errors import OptionError
from defenses.explanations import Explainer
from defenses.label_only import LabelOnly
from defenses.registry import build_chain
from models.explain import GradientInterpreter, build_interpreter, cam_layer
from models.simplex import one_hot, top1
from models.victim import SingleVictim
from tests.defenses.misled import CLASSES, GROUPS, LAYERS, asked, goal, toy
from tests.defenses.toys import images, material
from tests.models.explain.networks import images as pictures_of
from tests.models.explain.networks import network as built

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from captum.attr import InputXGradient, LayerGradCam

INTERPRETERS = ("grad-cam", "gradient-x-input")

LINKS = {"deepdefense": DeepDefense, "dd-i": DeepDefenseMaps}

Form = Factors | Weights

everywhere = pytest.mark.parametrize("interpreter", INTERPRETERS)
either = pytest.mark.parametrize("weights", ["low-rank", "full"])


def interpreter_of(network: nn.Module, name: str) -> GradientInterpreter:
    made = build_interpreter(name, network)
    assert isinstance(made, GradientInterpreter)
    return made


def form_of(
    weights: str, network: nn.Module, queries: Queries, name: str, groups: Any = GROUPS
) -> Form:
    given: dict[str, Any] = {
        "groups": groups,
        "images": queries.images,
        "labels": top1(queries.victim),
        "interpreter": interpreter_of(network, name),
    }
    return Weights(network, **given) if weights == "full" else Factors(network, rank=2, **given)


def defended(network: nn.Module, name: str = "grad-cam", **options: Any) -> DeepDefense:
    return DeepDefense(
        victim=network, interpreter=interpreter_of(network, name), layers=LAYERS, **options
    )


def aim(queries: Queries, form: Form) -> Goal:
    assert form.maps is not None
    return replace(goal(queries, k=1), ranking=ranking(form.maps), ranking_weight=0.7)


def explaining(queries: Queries) -> Queries:
    return replace(queries, explain=torch.ones_like(queries.explain))


def left(defense: DeepDefense, queries: Queries) -> tuple[Tensor, Tensor]:
    answers = defense.apply(queries, Answers(queries.victim))
    assert answers.attributions is not None
    return answers.probabilities, answers.attributions


# -- what is searched through ----------------------------------------------------------------------


@everywhere
@either
def test_maps_inside_the_search_are_captums(weights: Any, interpreter: str) -> None:
    network = built("lenet")
    images, labels = pictures_of("lenet"), torch.tensor([0, 4, 2])
    victim = one_hot(labels, 5)
    queries = Queries(images, torch.arange(3), torch.ones(3, dtype=torch.bool), victim)
    groups = (("network.features.3.weight",), ("network.classifier.0.weight",))
    form = form_of(weights, network, queries, interpreter, groups)
    seen, _ = form.evaluate(form.start(lambda count: torch.zeros(3, count).double(), 1.0),
                            aim(queries, form))  # fmt: skip
    if interpreter == "grad-cam":
        theirs = LayerGradCam(network, cam_layer(network)).attribute(
            images, labels, relu_attributions=True
        )[:, 0]
    else:
        theirs = InputXGradient(network).attribute(images.clone().requires_grad_(), labels)
        theirs = theirs.detach().sum(dim=1)
    assert theirs.abs().max() > 1e-3
    for maps in (form.maps, seen.maps):
        assert maps is not None
        torch.testing.assert_close(maps.float(), theirs, atol=1e-5, rtol=1e-5)


@everywhere
def test_factors_make_the_maps_of_the_matrices_that_they_stand_for(interpreter: str) -> None:
    network = toy()
    queries = asked(network, 4)
    factors = form_of("low-rank", network, queries, interpreter)
    plain = form_of("full", network, queries, interpreter)
    assert isinstance(factors, Factors)
    update = factors.start(seeded(queries.seeds), 0.3)
    whole = {}
    for name in LAYERS:
        weight = network.get_parameter(name).double()
        change = update[f"{name}:C"] @ factors._rows[name].transpose(1, 2)
        if f"{name}:E" in update:
            change = change + factors._backs[name] @ update[f"{name}:E"].transpose(1, 2)
        whole[name] = weight + change.reshape(-1, *weight.shape)
    # What a map is made of listens to the layers above it.
    assert "4.weight:E" in update
    for _ in range(2):  # the second time from memory
        few, _ = factors.evaluate(update, aim(queries, factors))
        many, _ = plain.evaluate(whole, aim(queries, plain))
        assert few.maps is not None
        torch.testing.assert_close(few.maps, many.maps)
        torch.testing.assert_close(few.cosines, many.cosines)
        torch.testing.assert_close(few.log_probabilities, many.log_probabilities)
        assert factors.maps is not None
        assert (few.maps - factors.maps).abs().max() > 0.01


@everywhere
@either
def test_the_gradient_is_that_of_the_objective_with_maps(weights: Any, interpreter: str) -> None:
    network = toy()
    queries = asked(network, 8)
    form = form_of(weights, network, queries, interpreter)
    target = aim(queries, form)
    update = form.start(seeded(queries.seeds), 0.3)
    seen, gradient = form.evaluate(update, target)
    assert seen.maps is not None
    assert target.ranking is not None
    assert (ranking_penalty(seen.maps, target.ranking) > 1e-4).any()
    step = {
        name: torch.randn(value.shape, generator=torch.Generator().manual_seed(4)).double()
        for name, value in update.items()
    }

    def ahead(way: float) -> Tensor:
        moved = {name: value + way * 1e-6 * step[name] for name, value in update.items()}
        return objective(form.evaluate(moved, target)[0], target)

    slope = torch.stack([(gradient[n] * step[n]).flatten(1).sum(dim=1) for n in update]).sum(dim=0)
    torch.testing.assert_close((ahead(1.0) - ahead(-1.0)) / 2e-6, slope, rtol=1e-4, atol=1e-6)


def test_the_plain_form_is_eq_8_written_out_for_one_query() -> None:
    network = toy()
    queries = asked(network, 2)
    form = form_of("full", network, queries, "gradient-x-input", (LAYERS,))
    shares = torch.ones(1, dtype=torch.float64)
    target = replace(aim(queries, form), shares=shares)
    update = form.start(seeded(queries.seeds), 0.2)
    _, gradient = form.evaluate(update, target)
    base = {name: value.double() for name, value in network.named_parameters()}
    for row in range(2):
        label = target.order[row, :1]
        pixels = queries.images[row : row + 1].double().requires_grad_()
        mine = {name: value[row].clone().requires_grad_() for name, value in update.items()}
        own = {name: base[name].clone().requires_grad_() for name in LAYERS}
        pulled, maps = [], []
        for chosen in (own, mine):
            logits = functional_call(network, {**base, **chosen}, (pixels,))
            parts = torch.autograd.grad(
                log_odds(logits, label).sum(), list(chosen.values()), create_graph=True
            )
            pulled.append(torch.cat([part.flatten() for part in parts]))
            (slope,) = torch.autograd.grad(logits[0, label], pixels, create_graph=True)
            maps.append((pixels * slope)[0, 0].flatten())
        cosine = pulled[0] @ pulled[1] / (pulled[0].norm() * pulled[1].norm())
        victims = maps[0].detach().tolist()
        span = max(victims) - min(victims)
        order = sorted(range(len(victims)), key=lambda place: (-victims[place], place))
        order_loss = torch.zeros((), dtype=torch.float64)
        for before, after in pairwise(order):
            if victims[before] - victims[after] > 1e-6 * span:
                ahead = torch.relu(maps[1][after] - maps[1][before]) / span
                order_loss = order_loss + (0.5 * ahead**2 if ahead <= 0.3 else 0.3 * (ahead - 0.15))
        said = logits.softmax(dim=1)[0]
        rest = torch.cat([said[: label.item()], said[label.item() + 1 :]]).max()
        loss = cosine**2 + 10.0 * torch.relu(rest - said[label] + 0.05).sum() + 0.7 * order_loss
        expected = torch.autograd.grad(loss, list(mine.values()))
        for name, part in zip(mine, expected, strict=True):
            torch.testing.assert_close(gradient[name][row], part, atol=1e-10, rtol=1e-7)


def test_the_parts_are_split_where_the_map_is_made() -> None:
    network = built("resnet20")
    names = tuple(
        name for name, value in network.named_parameters() if value.ndim in {2, 4}
    )  # fmt: skip
    assert len(names) > 10
    shown = pictures_of("resnet20", 1)
    halves = [
        grouped_at(cam_layer(network, layer), network, names, shown) for layer in (None, "blocks.3")
    ]
    assert [len(parts) for parts in halves] == [2, 2]
    assert all(parts[0] + parts[1] != () for parts in halves)
    assert halves[0][1] == (names[-1],), "above the last layer there is the classifier alone"
    assert len(halves[1][0]) < len(halves[0][0])
    assert {name for part in halves[1] for name in part} == set(names)
    assert names[0] in halves[1][0]
    assert grouped_at(None, network, names, shown) == (names,)
    assert grouped_at(cam_layer(network), network, names[-1:], shown) == (names[-1:],)


# -- what order maps keep --------------------------------------------------------------------------


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


@everywhere
@either
def test_every_answer_keeps_what_it_promises_or_withholds_its_map(
    weights: Any, interpreter: str
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


@everywhere
def test_an_answer_and_its_map_depend_on_no_neighbour(interpreter: str) -> None:
    network = toy()
    queries = asked(network, 5)
    defense = defended(network, interpreter, steps=8, rate=0.02, map_agreement=0.5)
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


# -- DD-I ------------------------------------------------------------------------------------------


def maps_only(network: nn.Module, **options: Any) -> DeepDefenseMaps:
    return DeepDefenseMaps(
        victim=network,
        interpreter=interpreter_of(network, "grad-cam"),
        layers=LAYERS,
        **options,
    )


def test_dd_i_changes_maps_and_no_probability() -> None:
    network = toy()
    queries = asked(network, 8)
    some = replace(queries, explain=torch.arange(8) % 2 == 0)
    options: dict[str, Any] = {"steps": 20, "rate": 0.02, "map_agreement": 0.5}
    both, only = defended(network, **options), maps_only(network, **options)
    assert both.covers == frozenset(Output)
    assert only.covers == {Output.ATTRIBUTIONS}
    said, shown = left(only, some)
    assert torch.equal(said, queries.victim)
    assert not shown[1::2].any()
    torch.testing.assert_close(shown[::2], left(both, some)[1][::2], atol=1e-6, rtol=1e-6)
    assert shown[::2].flatten(1).any(dim=1).sum() >= 2
    silent = only.apply(queries, Answers(queries.victim))
    assert silent.attributions is None
    assert torch.equal(silent.probabilities, queries.victim)


def test_the_maps_that_leave_are_those_that_the_link_made() -> None:
    network = toy()
    queries = explaining(asked(network, 8))
    for link in (defended(network, steps=12, rate=0.02), maps_only(network, steps=12, rate=0.02)):
        chain = Chain([link, LabelOnly()])
        explainer = Explainer("grad-cam", SingleVictim(network), chain)
        assert explainer.covered
        maps = explainer.maps(queries, chain.run(queries).answers)
        victims = Explainer("grad-cam", SingleVictim(network), Chain([])).maps(
            queries, Answers(queries.victim)
        )
        assert not (maps == victims).flatten(1).all(dim=1).any()


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["deepdefense", "dd-i"])
@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"map_weight": -1.0}, r"defenses\[0\]\.map_weight: must be between 0 and 1e6"),
        ({"map_agreement": 1.5}, r"defenses\[0\]\.map_agreement: must be between 0 and 1, not 1.5"),
        ({"k": 5}, r"defenses\[0\]\.k: must be at most the 4 classes"),
        ({"interpreter": "grad-cam"}, r"defenses\[0\]\.interpreter: \S+ has no such option"),
    ],
)
def test_a_bad_option_is_named(kind: str, spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        build_chain([{"kind": kind, **spec}], material(4))


@pytest.mark.parametrize("kind", ["deepdefense", "dd-i"])
def test_who_cannot_be_defended_so_is_told_why(kind: str) -> None:
    given = material(4)
    with pytest.raises(OptionError, match=r"this model serves none: give it explanations"):
        build_chain([{"kind": kind}], replace(given, interpreter=None))
    members = {role: network.model_copy() for role, network in given.card.networks.items()} | {
        "member-1": given.card.networks["victim"],
        "hash": given.card.networks["victim"],
    }
    several = given.card.model_copy(update={"networks": members})
    with pytest.raises(OptionError, match="works on one network, and an ensemble answers"):
        build_chain([{"kind": kind}], replace(given, card=several))
    stranger = build_interpreter("gradient-x-input", given.networks["misinformation"])
    with pytest.raises(OptionError, match="misleads about its own victim only"):
        build_chain([{"kind": kind}], replace(given, interpreter=stranger))
    network = toy()
    cam = build_interpreter("relevance-cam", network)
    with pytest.raises(OptionError, match="which relevance-cam does not allow: set explanations"):
        LINKS[kind](victim=network, interpreter=cam, layers=LAYERS)


def test_the_victim_is_not_touched() -> None:
    network = toy()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for weights in ("low-rank", "full"):
        for name in INTERPRETERS:
            left(defended(network, name, steps=2, weights=weights), asked(network, 3))
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert not any(value.requires_grad or value.grad is not None for value in network.parameters())
    assert not any(module._forward_hooks or module.training for module in network.modules())
    assert not images(1).requires_grad
