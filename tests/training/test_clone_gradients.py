from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp
from torch.nn import functional

from defenses.training.clone_gradients import ClonePass, of_gradient
from defenses.training.gradient_measures import EuclideanNorm
from defenses.training.shared_forward import Remembering, Replaying
from models.errors import TrainingError


class Odd(nn.Module):
    """Whatever may stand between images and logits, and a layer used twice."""

    fixed: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding="same", padding_mode="reflect", bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.down = nn.Conv2d(6, 4, 2, stride=2)
        self.up = nn.ConvTranspose2d(4, 4, 3)
        self.scale = nn.Parameter(torch.full((4, 1, 1), 0.7))
        self.unused = nn.Parameter(torch.ones(3))
        self.register_buffer("fixed", torch.randn(5, 4))
        self.hidden = nn.Linear(5, 5)

    def forward(self, images: Tensor) -> Tensor:
        first = functional.silu(self.norm(self.stem(images)))
        again = self.grouped(functional.relu(self.grouped(first))) + first
        maps = self.up(functional.max_pool2d(self.down(again), 2)) * self.scale
        pooled = functional.linear(maps.mean(dim=(2, 3)), weight=self.fixed)
        logits: Tensor = self.hidden(torch.tanh(self.hidden(pooled)))
        return logits


@pytest.fixture
def clone() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Odd().double().eval().requires_grad_(False)


@pytest.fixture
def images() -> Tensor:
    draws = torch.Generator().manual_seed(1)
    return torch.rand(4, 2, 9, 9, generator=draws, dtype=torch.float64)


def directions(clone: nn.Module) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(2)
    return {
        name: torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
        for name, parameter in clone.named_parameters()
    }


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch's own jvp
def test_both_derivatives_of_an_odd_network_are_torch_s_own(
    clone: nn.Module, images: Tensor
) -> None:
    parameters = {name: p.detach() for name, p in clone.named_parameters()}
    along = directions(clone)

    def logits(weights: dict[str, Tensor]) -> Tensor:
        answers: Tensor = functional_call(clone, weights, (images,))
        return answers

    value, tangent = jvp(logits, (parameters,), (along,))[:2]
    pull = vjp(logits, parameters)[1]
    ours = ClonePass(clone, images)
    assert torch.allclose(ours.logits, value, atol=1e-12)
    assert torch.allclose(ours.pushed_forward(tuple(along.values())), tangent, atol=1e-12)
    assert tangent.abs().min() > 1e-3
    (expected,) = pull(torch.ones_like(value))
    found = ours.pulled_back(torch.ones_like(value))
    for one, other in zip(found, expected.values(), strict=True):
        assert torch.allclose(one, other, atol=1e-12)


class InPlace(nn.Module):
    """Changes in place what convolutions and a pool give, as pre-activation networks do."""

    def __init__(self, change: str) -> None:
        super().__init__()
        self.change = change
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        before = self.first(images)
        after = self.second(torch.tanh(before))
        if self.change == "add":
            after += before
        elif self.change == "silu":
            functional.silu(after, inplace=True)
        else:
            after = functional.max_pool2d(after, 2)
            after *= 3.0
        logits: Tensor = self.head(after.mean(dim=(2, 3)))
        return logits


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch's own jvp
@pytest.mark.parametrize("change", ["add", "silu", "pool"])
def test_what_a_network_changes_in_place_is_computed_again(images: Tensor, change: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        clone = InPlace(change).double().eval().requires_grad_(False)
    parameters = {name: p.detach() for name, p in clone.named_parameters()}
    along = directions(clone)

    def logits(weights: dict[str, Tensor]) -> Tensor:
        answers: Tensor = functional_call(clone, weights, (images,))
        return answers

    expected = jvp(logits, (parameters,), (along,))[1]
    ours = ClonePass(clone, images)
    for _ in range(2):
        assert torch.allclose(ours.pushed_forward(tuple(along.values())), expected, atol=1e-12)


def test_the_forward_mode_pass_repeats_no_product(clone: nn.Module, images: Tensor) -> None:
    ours = ClonePass(clone, images)
    with Remembering() as seen:
        clone(images)
    assert [len(kept) for kept in seen.kept] == [1, 1, 1, 1, 2, 1, 1, 1]
    # stem, grouped twice, down, the pool with where its maxima are, fixed, hidden twice
    with pytest.raises(StopIteration), Replaying(seen.kept[:-1]):
        clone(images)
    wrong = [(torch.full_like(kept[0], 2.0), *kept[1:]) for kept in seen.kept]
    with Replaying(wrong):
        assert torch.equal(clone(images), wrong[-1][0])  # taken as given, not computed
    assert torch.equal(ours.logits, clone(images))


@pytest.mark.parametrize("second_order", [False, True])
def test_an_odd_network_passes_finite_differences(
    clone: nn.Module, images: Tensor, second_order: bool
) -> None:
    draws = torch.Generator().manual_seed(5)
    said = torch.randn(4, 5, generator=draws, dtype=torch.float64, requires_grad=True)
    passed = ClonePass(clone, images)

    def loss(answers: Tensor) -> Tensor:
        return of_gradient(
            EuclideanNorm(),
            passed,
            answers,
            lambda ours, theirs: functional.cross_entropy(ours, theirs.softmax(dim=1)),
            second_order=second_order,
        )

    assert torch.autograd.gradcheck(loss, (said,))
    assert all(parameter.grad is None for parameter in clone.parameters())


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(2, dilation=2, ceil_mode=True),
        nn.MaxPool2d(2, return_indices=True),
    ],
    ids=["padded", "dilated", "own-indices"],
)
def test_any_pooling_is_pushed_forward_as_torch_does(pool: nn.Module, images: Tensor) -> None:
    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(2, 3, 3, padding=1)

        def forward(self, images: Tensor) -> Tensor:
            pooled = pool(self.stem(images))
            maps: Tensor = pooled[0] if isinstance(pooled, tuple) else pooled
            return maps.flatten(1)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        clone = Pooling().double().eval().requires_grad_(False)
    along = directions(clone)
    step = 1e-6
    ends = []
    for sign in (1, -1):
        moved = {name: p + sign * step * along[name] for name, p in clone.named_parameters()}
        ends.append(functional_call(clone, moved, (images,)))
    tangent = ClonePass(clone, images).pushed_forward(tuple(along.values()))
    assert torch.allclose(tangent, (ends[0] - ends[1]) / (2 * step), atol=1e-6)


def test_channels_last_images_and_weights_give_the_same(clone: nn.Module, images: Tensor) -> None:
    along = tuple(directions(clone).values())
    expected = ClonePass(clone, images).pushed_forward(along)
    clone.to(memory_format=torch.channels_last)
    turned = images.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(ClonePass(clone, turned).pushed_forward(along), expected, atol=1e-12)


def test_a_layer_without_a_forward_mode_derivative_gives_a_sentence() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)).eval().requires_grad_(False)
    images = torch.rand(4, 3, generator=torch.Generator().manual_seed(1))
    said = torch.zeros(4, 2, requires_grad=True)

    def loss(second_order: bool) -> Tensor:
        return of_gradient(
            EuclideanNorm(),
            ClonePass(layer, images),
            said,
            lambda ours, theirs: functional.cross_entropy(ours, theirs.softmax(dim=1)),
            second_order=second_order,
        )

    with pytest.raises(TrainingError, match=r"no forward-mode derivative .*second_order"):
        loss(second_order=False)
    assert loss(second_order=True).isfinite()
