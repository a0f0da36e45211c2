"""Every image is answered by one member: the same one, whatever else is in the batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.ensemble import BINS, RoutedEnsemble, member_of
from models.simplex import GRID, round_to_grid

MEMBERS, CLASSES, HASHED = 5, 4, 10


def convolutional(outputs: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6 * 64, outputs),
        )


@pytest.fixture
def ensemble() -> RoutedEnsemble:
    hashing = convolutional(HASHED, seed=99)
    with torch.no_grad():
        # Sure of some images, and not always of the same class.
        hashing.get_submodule("4").get_parameter("weight").mul_(20.0)
    return RoutedEnsemble(hashing, [convolutional(CLASSES, seed) for seed in range(MEMBERS)])


def pictures(count: int, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 8, 8), generator=draws) / 255.0


def published(row: list[float], members: int) -> int:
    """The formula as it is written, for one image."""
    classes, top = len(row), max(row)
    step = math.floor((classes * top - 1) * BINS / (classes - 1))
    return (BINS * row.index(top) + step) % members


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("members", [1, 2, 5, 7])
def test_routing_is_the_published_formula(classes: int, members: int) -> None:
    draws = torch.Generator().manual_seed(classes)
    said = (3 * torch.randn(500, classes, generator=draws)).softmax(dim=1)
    said = round_to_grid(said, GRID)
    ours = member_of(said, members).tolist()
    theirs = [published(row, members) for row in said.double().tolist()]
    # A confidence that lies on the edge of a bin is cut by the last bit of the float there.
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) <= 1
    assert set(ours) <= set(range(members))


def test_routing_by_hand() -> None:
    said = torch.tensor(
        [
            [0.50, 0.25, 0.25],  # floor((1.5 - 1) * 2 / 2) = 0, class 0
            [0.10, 0.80, 0.10],  # floor((2.4 - 1) * 2 / 2) = 1, class 1
            [0.00, 0.00, 1.00],  # floor(2 * 2 / 2) = 2, class 2: six, modulo five
            [1 / 3, 1 / 3, 1 / 3],  # never below zero; the lowest of equals leads
        ]
    )
    assert member_of(said, 5).tolist() == [0, 3, 1, 0]
    assert member_of(said[:0], 5).shape == (0,)


def test_members_get_about_equal_shares() -> None:
    logits = torch.randn(20_000, 10, generator=torch.Generator().manual_seed(0))
    shares = torch.bincount(member_of((3 * logits).softmax(dim=1), 5), minlength=5) / 20_000
    assert ((shares - 0.2).abs() < 0.03).all(), shares.tolist()


def test_the_last_bit_of_a_float_does_not_decide() -> None:
    draws = torch.Generator().manual_seed(3)
    said = (4 * torch.randn(2000, 10, generator=draws)).softmax(dim=1)
    noisy = said * (1 + 2e-7 * torch.randn(said.shape, generator=draws))
    moved = member_of(said, 5) != member_of(noisy, 5)
    assert moved.float().mean() < 0.002
    edge = torch.tensor([[0.55, *[0.05] * 9]])  # (10 * 0.55 - 1) * 2 / 9 is 1 on paper
    assert member_of(edge, 5).tolist() == member_of(edge.double(), 5).tolist() == [1]


def test_grouped_routing_equals_asking_all_and_choosing(ensemble: RoutedEnsemble) -> None:
    images = pictures(64)
    member = ensemble.route(images)
    assert set(member.tolist()) == set(range(MEMBERS)), "a batch that all members answer"
    everything = torch.stack([network(images) for network in ensemble.members])
    chosen = everything[member, torch.arange(64)]
    torch.testing.assert_close(ensemble.logits(images), chosen, atol=1e-5, rtol=0)
    others = everything[(member + 1) % MEMBERS, torch.arange(64)]
    assert ((ensemble(images) - others).abs().amax(dim=1) > 1e-3).all()


def test_every_query_runs_through_its_member_only(ensemble: RoutedEnsemble) -> None:
    images, seen = pictures(40), dict[str, list[int]]()
    names = ["hash", *(str(number) for number in range(MEMBERS))]
    for name, network in zip(names, [ensemble.hashing, *ensemble.members], strict=True):
        network.register_forward_hook(
            lambda module, inputs, output, name=name: seen.setdefault(name, []).append(
                len(inputs[0])
            )
        )
    member = ensemble.route(images)
    seen.clear()
    ensemble.logits(images)
    shares = torch.bincount(member, minlength=MEMBERS).tolist()
    assert seen == {"hash": [40]} | {str(n): [share] for n, share in enumerate(shares) if share}
    seen.clear()
    alone = images[:1]
    ensemble.logits(alone)
    assert seen == {"hash": [1], str(int(member[0])): [1]}


def test_an_image_has_one_member_and_one_answer_alone_and_in_any_batch(
    ensemble: RoutedEnsemble,
) -> None:
    images = pictures(48)
    members, logits = ensemble.route(images), ensemble.logits(images)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(1))
    assert torch.equal(ensemble.route(images[order]), members[order])
    torch.testing.assert_close(ensemble.logits(images[order]), logits[order], atol=1e-5, rtol=0)
    for row in range(48):
        alone = images[row : row + 1]
        assert ensemble.route(alone).item() == members[row]
        torch.testing.assert_close(ensemble.logits(alone)[0], logits[row], atol=1e-5, rtol=0)


def test_a_batch_for_one_member_and_a_batch_of_none(ensemble: RoutedEnsemble) -> None:
    images = pictures(64)
    same = images[ensemble.route(images) == 3]
    torch.testing.assert_close(ensemble.logits(same), ensemble.module(3)(same), atol=1e-5, rtol=0)
    assert ensemble.logits(images[:0]).shape == (0, CLASSES)
    assert ensemble.route(images[:0]).shape == (0,)


def test_asking_changes_nothing(ensemble: RoutedEnsemble) -> None:
    assert not any(module.training for module in ensemble.modules())
    before = {name: tensor.clone() for name, tensor in ensemble.state_dict().items()}
    flags = [parameter.requires_grad for parameter in ensemble.parameters()]
    images = pictures(16)
    given = images.clone()
    with torch.inference_mode():
        ensemble.logits(images)
    assert torch.equal(images, given)
    assert flags == [parameter.requires_grad for parameter in ensemble.parameters()]
    for name, tensor in ensemble.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_members_are_the_instances_that_were_given() -> None:
    networks = [convolutional(CLASSES, seed) for seed in range(2)]
    ensemble = RoutedEnsemble(convolutional(HASHED, 9), networks)
    assert [ensemble.module(member) for member in range(2)] == networks
    for wrong in (-1, 2):
        with pytest.raises(IndexError, match="members 0 to 1"):
            ensemble.module(wrong)
    with pytest.raises(ValueError, match="at least one member"):
        RoutedEnsemble(convolutional(HASHED, 9), [])
