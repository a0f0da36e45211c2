"""DeepDefense of maps: the maps and gradients that are searched through."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from defenses.contract import Queries
from defenses.deep_defense_factors import Factors
from defenses.deep_defense_layers import grouped_at
from defenses.deep_defense_objective import log_odds, objective
from defenses.deep_defense_ranking import ranking_penalty
from defenses.deep_defense_search import seeded
from models.explain import Tap, cam_layer
from models.simplex import one_hot
from tests.defenses.misled import LAYERS, asked, toy
from tests.defenses.misled_maps import aim, by_gradients, every_way, form_of
from tests.models.explain.networks import images as pictures_of
from tests.models.explain.networks import network as built

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from captum.attr import InputXGradient, LayerGradCam, LayerLRP
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule


def relevance_cam_of_captum(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Relevance-CAM put together of captum's relevance of each class, which starts at its logit."""
    activations = Tap(network, cam_layer(network))(images)[1]
    above = network.get_submodule("network.features.5")  # captum has no relevance of a ReLU
    logits = network(images)
    relevance = torch.zeros_like(activations)
    for other in range(logits.shape[1]):
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.rule = Alpha1_Beta0_Rule()
        start = torch.where(labels == other, 1.0, -1.0 / logits.shape[1]) / logits[:, other]
        found = LayerLRP(network, above).attribute(
            images.clone().requires_grad_(), target=other, attribute_to_layer_input=True
        )
        relevance += start[:, None, None, None] * found.detach()
    return (relevance.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1)


@every_way
def test_maps_inside_the_search_are_captums(weights: str, interpreter: str) -> None:
    network = built("lenet")
    if interpreter == "relevance-cam":  # captum counts the bias of dense layers, the authors do not
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.bias.zero_()
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
    elif interpreter == "relevance-cam":
        theirs = relevance_cam_of_captum(copy.deepcopy(network), images, labels)
    else:
        theirs = InputXGradient(network).attribute(images.clone().requires_grad_(), labels)
        theirs = theirs.detach().sum(dim=1)
    assert theirs.abs().max() > 1e-3
    for maps in (form.maps, seen.maps):
        assert maps is not None
        torch.testing.assert_close(maps.float(), theirs, atol=1e-5, rtol=1e-5)


@by_gradients
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


@every_way
def test_the_gradient_is_that_of_the_objective_with_maps(weights: str, interpreter: str) -> None:
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
