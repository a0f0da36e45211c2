"""Which layers DeepDefense changes: the few that an answer depends on most (IJCAI 2022, Eq. 9)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from defenses.deep_defense_objective import log_odds
from models.explain import Tap
from models.simplex import top1

__all__ = ["candidates", "grouped", "grouped_at", "most_sensitive", "sensitivity"]


def candidates(network: nn.Module) -> tuple[str, ...]:
    """Names of the weights that may be changed, in the order of the modules.

    Those of dense layers and of convolutions in one group with padding in numbers; weights that
    two layers share are left out.
    """
    found: dict[int, list[str]] = {}
    for name, module in network.named_modules():
        plain = isinstance(module, nn.Conv2d) and (
            module.groups == 1 and not isinstance(module.padding, str)
        )
        if plain or type(module) is nn.Linear:
            found.setdefault(id(module.weight), []).append(f"{name}.weight" if name else "weight")
    return tuple(names[0] for names in found.values() if len(names) == 1)


def sensitivity(network: nn.Module, images: Tensor) -> dict[str, float]:
    """``S_l = mean_i |d f(x_i)_y / d w_l|_1`` of every candidate, y the predicted class.

    A probability's gradient is ``f_y (1 - f_y)`` times that of its log-odds, which is how it is
    computed: a sure answer's would underflow otherwise. One image at a time, as a training step
    works: whatever network could be trained can be measured.

    Args:
        network: maps images to logits, in evaluation mode; not modified.
        images: ``(N, C, H, W)`` float32 in [0, 1], N at least 1.

    Returns:
        By name; nothing if the network has no candidate.
    """
    weights = {
        name: value.detach().double() if value.is_floating_point() else value
        for name, value in (*network.named_parameters(), *network.named_buffers())
    }
    totals = dict.fromkeys(candidates(network), 0.0)
    if not totals:
        return {}
    chosen = {name: weights[name].requires_grad_() for name in totals}
    for image in torch.split(images.double(), 1):
        logits = functional_call(network, {**weights, **chosen}, (image,))
        label = top1(logits.detach())
        said = torch.softmax(logits.detach(), dim=1).gather(1, label[:, None])
        pulled = torch.autograd.grad(
            log_odds(logits, label).sum(), list(chosen.values()), allow_unused=True
        )
        scale = (said * (1.0 - said)).item() / len(images)
        for name, part in zip(chosen, pulled, strict=True):
            totals[name] += 0.0 if part is None else scale * part.abs().sum().item()
    return totals


def most_sensitive(scores: Mapping[str, float], share: float) -> tuple[str, ...]:
    """The fewest layers that together have ``share`` of all sensitivity, in the given order.

    Args:
        scores: S of each candidate, not negative.
        share: CS, in (0, 1]; 0.9 in the paper.
    """
    total = sum(scores.values())
    taken: set[str] = set()
    held = 0.0
    for name in sorted(scores, key=lambda name: -scores[name]):
        if taken and held >= share * total * (1.0 - 1e-12):
            break
        taken.add(name)
        held += scores[name]
    return tuple(name for name in scores if name in taken)


def grouped(network: nn.Module, names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The bottom and the top part of Eq. 2 where no maps are made: convolutions and dense layers.

    In all our architectures that is where class activation maps are taken by default. A part
    without chosen layers is left out.
    """
    kinds = {
        name: isinstance(network.get_submodule(name.removesuffix("weight").rstrip(".")), nn.Conv2d)
        for name in names
    }
    parts = (
        tuple(name for name in names if kinds[name]),
        tuple(name for name in names if not kinds[name]),
    )
    return tuple(part for part in parts if part)


def grouped_at(
    place: nn.Module | None, network: nn.Module, names: tuple[str, ...], images: Tensor
) -> tuple[tuple[str, ...], ...]:
    """The bottom and the top part of Eq. 2: what the output of ``place`` depends on, and the rest.

    Args:
        place: a layer of the network; None: the image, which depends on no weight.
        network: maps images to logits.
        names: of the chosen weights.
        images: ``(B, C, H, W)``, of which the first is looked at.

    Returns:
        The parts, without an empty one.
    """
    if place is None:
        return (names,)
    weights = {name: network.get_parameter(name).detach().requires_grad_() for name in names}
    with torch.enable_grad():
        tap = Tap(lambda shown: functional_call(network, weights, (shown,)), place)
        total = tap(images[:1])[1].sum()
    below = frozenset[str]()
    if total.requires_grad:
        pulled = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        below = frozenset(n for n, part in zip(names, pulled, strict=True) if part is not None)
    parts = (
        tuple(name for name in names if name in below),
        tuple(name for name in names if name not in below),
    )
    return tuple(part for part in parts if part)
