from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.errors import OptionError
from defenses.top_k import keep_largest
from defenses.training.epd import epd
from defenses.training.sparse import sparse
from defenses.training.sparse_teacher import AdversarialSparseTeacher, SparseTeacher, Target
from models.training.objective import Batch
from tests.training.toys import assert_same_bits, network, quadrants, strangers, weights


def spikes(classes: int, kept: int) -> Tensor:
    target = torch.zeros(1, classes, dtype=torch.float64)
    target[:, :kept] = 1 / kept
    return target


def minimiser(target: Tensor) -> Tensor:
    logits = torch.zeros_like(target, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [logits],
        max_iter=500,
        tolerance_grad=1e-12,
        tolerance_change=1e-18,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimiser.zero_grad()
        value = epd(logits.softmax(dim=1), target)
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return logits.detach().softmax(dim=1)


@pytest.mark.parametrize(
    ("classes", "kept", "on", "off", "least"),
    [(100, 7, 0.0775, 0.0049, -0.0346), (10, 2, 0.308, 0.048, -0.120)],
)
def test_epd_is_least_half_way_to_uniform(
    classes: int, kept: int, on: float, off: float, least: float
) -> None:
    target = spikes(classes, kept)
    best = minimiser(target)
    level = best.exp() * (1 + best - target)
    assert (level.max() - level.min()).item() < 1e-5
    assert best[0, 0].item() == pytest.approx(on, abs=5e-4)
    assert best[0, -1].item() == pytest.approx(off, abs=5e-4)
    assert epd(best, target).item() == pytest.approx(least, abs=5e-4)
    if classes == 100:
        assert (best - (target + 1 / classes) / 2).abs().max().item() < 2e-3


def test_epd_is_zero_at_its_target_and_may_be_negative() -> None:
    torch.manual_seed(0)
    p, q = torch.randn(2, 2000, 10, dtype=torch.float64).softmax(dim=2)
    assert epd(q, q).item() == 0.0
    each = torch.stack([epd(a[None], b[None]) for a, b in zip(p, q, strict=True)])
    assert (each < 0).any()
    assert torch.allclose(each.mean(), epd(p, q))  # the mean over the batch, summed over classes


def test_the_gradient_of_epd_is_the_closed_form() -> None:
    torch.manual_seed(1)
    tau = 6.0
    logits = (20 * torch.randn(8, 10, dtype=torch.float64)).requires_grad_()
    target = torch.randn(8, 10, dtype=torch.float64).softmax(dim=1)
    p = (logits / tau).softmax(dim=1)
    (gradient,) = torch.autograd.grad(epd(p, target), logits, retain_graph=True)
    g = p.exp() * (1 + p - target)
    expected = p * (g - (p * g).sum(dim=1, keepdim=True)) / tau / 8
    assert torch.allclose(gradient, expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda z: epd((z / tau).softmax(dim=1), target), (logits,))


@pytest.mark.parametrize(
    ("classes", "ratio", "count"),
    [(10, 0.2, 2), (100, 0.07, 7), (100, 0.29, 29), (100, 0.57, 57), (4, 0.01, 1), (4, 1.0, 4)],
)
def test_sparse_keeps_the_rounded_share_and_nothing_else(
    classes: int, ratio: float, count: int
) -> None:
    torch.manual_seed(2)
    logits = torch.randn(16, classes)
    for tau in (1.0, 30.0):
        said = (sparse(logits, ratio) / tau).softmax(dim=1)
        assert ((said > 0).sum(dim=1) == count).all()
        assert torch.allclose(said.sum(dim=1), torch.ones(16))
    served = keep_largest(logits.softmax(dim=1), count)
    assert torch.allclose(sparse(logits, ratio).softmax(dim=1), served, atol=1e-6)


def test_zeroed_logits_leave_a_nearly_uniform_target_at_a_high_temperature() -> None:
    """What Stingy's README says beside what its code does."""
    logits = torch.tensor([[9.0, 7.0, -4.0, 1.0]])
    assert sparse(logits, 0.5, "zeroed").tolist() == [[9.0, 7.0, 0.0, 0.0]]
    zeroed, excluded = (
        (sparse(logits, 0.5, rest) / 30.0).softmax(dim=1)[0] for rest in ("zeroed", "excluded")
    )
    assert zeroed.min() > 0.2
    assert excluded[2:].tolist() == [0.0, 0.0]


def test_the_paper_s_other_readings_reach_the_loss() -> None:
    given = batch()
    victim, base = network(1).eval(), network(2).eval()

    def term(**options: Any) -> float:
        objective = SparseTeacher(victim, base, alpha=0.3, tau=5.0, sparsity=0.5, **options)
        return objective.losses(given)["sparse"].item()

    assert term(reduction="mean") == pytest.approx(term() / 4, abs=1e-6)  # classes
    said = base(given.images)
    q = (said.where(said >= said.topk(2).values[:, 1:], 0.0) / 5).softmax(dim=1)
    p = (victim(given.images) / 5).softmax(dim=1)
    assert term(rest="zeroed") == pytest.approx(0.3 * 25 * epd(p, q).item(), abs=1e-5)
    assert term(rest="zeroed") != pytest.approx(term(), abs=1e-4)
    with pytest.raises(OptionError, match="reduction: is EPD's"):
        term(loss="kl", reduction="mean")


def test_equal_logits_are_kept_from_the_lowest_index() -> None:
    said = sparse(torch.tensor([[1.0, 3.0, 1.0, 1.0]]), 0.5).softmax(dim=1)
    assert (said > 0).tolist() == [[True, True, False, False]]


def batch(paired: bool = True) -> Batch:
    images, labels = quadrants(12, 1)
    other = strangers(12, 2).float() / 255 if paired else None
    return Batch(images.float() / 255, labels, paired=other)


@pytest.mark.parametrize("loss", ["epd", "kl"])
@pytest.mark.parametrize("kind", ["stt", "ast", "ast-self"])
def test_losses_are_the_paper_s_terms(kind: str, loss: str) -> None:
    victim, base = network(1).eval(), network(2)
    options: dict[str, Any] = {"alpha": 0.3, "tau": 5.0, "sparsity": 0.5, "loss": loss}
    given = batch()
    assert given.paired is not None
    base.eval()
    if kind == "stt":
        objective: SparseTeacher = SparseTeacher(victim, base, **options)
        said = base(given.images)
    else:
        target: Target = "self" if kind == "ast-self" else "base"
        objective = AdversarialSparseTeacher(victim, base, target=target, **options)
        said = (victim if kind == "ast-self" else base)(given.paired)
    q = torch.zeros_like(said)
    order = said.argsort(dim=1, descending=True)[:, :2]
    q.scatter_(1, order, (said.gather(1, order) / 5).softmax(dim=1))
    logits = victim(given.images)
    p = (logits / 5).softmax(dim=1)
    if loss == "epd":
        distance = (p.exp() * (p - q)).sum(dim=1).mean()
    else:
        distance = torch.special.xlogy(q, q / p).sum(dim=1).mean()
    losses = objective.losses(given)
    assert list(losses) == ["cross_entropy", "sparse"]
    expected = 0.7 * functional.cross_entropy(logits, given.targets)
    assert torch.allclose(losses["cross_entropy"], expected)
    assert torch.allclose(losses["sparse"], 0.3 * 25 * distance, atol=1e-5)


class Shifted(nn.Module):
    """Doubles as a probe: which images it was shown in which mode."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((self.training, torch.is_grad_enabled()))
        logits: Tensor = self.inner(images)
        return logits


def test_own_answers_to_adversarial_images_teach_nothing_by_themselves() -> None:
    victim = Shifted(network(1)).train()
    given = batch()
    objective = AdversarialSparseTeacher(victim, network(2), target="self")
    reference = network(1).train()
    reference(given.images)
    objective.losses(given)["sparse"].backward()  # type: ignore[no-untyped-call]
    assert victim.seen == [(True, True), (False, False)]
    assert victim.training
    # Running statistics as after one pass over the clean images alone.
    assert_same_bits(weights({"": victim.inner}), weights({"": reference}))


@pytest.mark.parametrize("objective_type", [SparseTeacher, AdversarialSparseTeacher])
def test_the_base_learns_nothing(objective_type: type[SparseTeacher]) -> None:
    victim, base = network(1).train(), network(2).train()
    objective = objective_type(victim, base)
    before = weights({"base": base})
    torch.stack(list(objective.losses(batch()).values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in base.parameters())
    assert all(parameter.grad is not None for parameter in victim.parameters())
    assert_same_bits(weights({"base": base}), before)
    assert objective.frozen == {"base": base}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("alpha", 1.1),
        ("alpha", float("nan")),
        ("tau", 0.0),
        ("sparsity", 0.0),
        ("sparsity", 1.5),
        ("loss", "mse"),
        ("reduction", "none"),
        ("rest", "kept"),
        ("target", "other"),
    ],
)
def test_options_out_of_range_are_refused(option: str, value: Any) -> None:
    arguments: dict[str, Any] = {option: value}
    with pytest.raises(OptionError, match=f"{option}: must be"):
        AdversarialSparseTeacher(network(1), network(2), **arguments)
    assert AdversarialSparseTeacher(network(1), network(2)).options() == {
        "alpha": 0.05,
        "tau": 6.0,
        "sparsity": 0.2,
        "loss": "epd",
        "reduction": "sum",
        "rest": "excluded",
        "target": "base",
    }
