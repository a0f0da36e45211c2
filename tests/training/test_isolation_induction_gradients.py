"""InI's losses and their gradients, against the formulas of paper and code and plain autograd."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.training.clone_gradients import ClonePass, of_gradient
from defenses.training.gradient_measures import CosineTo, Gradient, Measure
from defenses.training.isolation_induction import (
    GRADIENT_NORM,
    ISOLATION,
    IsolationInduction,
    centred_log_distance,
    clone_from_victim,
    victim_from_clone,
)
from defenses.training.two_streams import OodBatchNorm, logits_of_both
from models.training.objective import Batch
from tests.training.toys import CLASSES, mixed, network

FORMS = [
    {"isolation": isolation, "induction": induction, "gradient_norm": norm, "ood_bn": ood_bn}
    for isolation, induction, norm, ood_bn in itertools.product(
        ("kl_cv", "ce_vc"),
        ("l1", "kl"),
        ("mean_abs", "l2"),
        ("separate", "concatenated", "frozen"),
    )
]


def gradients(
    losses: dict[str, Tensor], parameters: list[nn.Parameter]
) -> dict[str, tuple[Tensor, ...]]:
    return {
        name: torch.autograd.grad(loss, parameters, retain_graph=True)
        for name, loss in losses.items()
    }


def as_published(
    victim: nn.Module, clone: nn.Module, batch: Batch, form: dict[str, str]
) -> dict[str, Tensor]:
    """The losses written out as in paper and code, with plain autograd through the clone."""
    clone = clone.eval().requires_grad_(True)
    parameters = list(clone.parameters())
    known, strange = logits_of_both(victim, batch, _treatment(form))
    assert batch.ood is not None
    c_known, c_strange = clone(batch.images), clone(batch.ood)

    def flat(loss: Tensor, create_graph: bool = False) -> Tensor:
        found = torch.autograd.grad(loss, parameters, create_graph=create_graph, retain_graph=True)
        return torch.cat([gradient.flatten() for gradient in found])

    def kl(ours: Tensor, theirs: Tensor) -> Tensor:
        p = ours.softmax(dim=1)
        return (p * (p.log() - theirs.softmax(dim=1).log())).sum(dim=1).mean()

    if form["isolation"] == "kl_cv":
        stolen = kl(c_known, known)
    else:
        stolen = -(known.softmax(dim=1) * c_known.log_softmax(dim=1)).sum(dim=1).mean()
    received = flat(stolen, create_graph=True)
    wanted = flat(functional.cross_entropy(c_known, batch.targets))
    left = flat(kl(c_strange, strange), create_graph=True)
    log_v = strange.softmax(dim=1).log()
    return {
        "cross_entropy": functional.cross_entropy(known, batch.targets),
        "isolation": received @ wanted / (received.norm() * wanted.norm()),
        "induction": 0.3
        * (
            (c_strange.detach() - (log_v - log_v.mean(dim=1, keepdim=True))).abs().mean()
            if form["induction"] == "l1"
            else kl(c_strange.detach(), strange)
        ),
        "gradient_norm": 1000
        * (left.abs().mean() if form["gradient_norm"] == "mean_abs" else left.norm()),
    }


def _treatment(form: dict[str, str]) -> OodBatchNorm:
    known: dict[str, OodBatchNorm] = {
        "separate": "separate",
        "concatenated": "concatenated",
        "frozen": "frozen",
    }
    return known[form["ood_bn"]]


def flat(gradient: Gradient) -> Tensor:
    return torch.cat([part.flatten() for part in gradient])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=["f64", "f32"]
)
def test_both_computations_are_the_published_losses_with_their_gradients(
    form: dict[str, str], dtype: torch.dtype, tolerance: float
) -> None:
    results = []
    for second_order in (None, False, True):
        victim, clone = network(1).to(dtype), network(2).to(dtype)
        batch = mixed(dtype)
        losses = (
            as_published(victim, clone, batch, form)
            if second_order is None
            else dict(
                IsolationInduction(victim, clone, second_order=second_order, **form).losses(batch)  # type: ignore[arg-type]
            )
        )
        results.append((losses, gradients(losses, list(victim.parameters()))))
    (expected, slopes), *ours = results
    for losses, found in ours:
        assert losses.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.allclose(losses[name], value, rtol=tolerance, atol=tolerance), name
            size = max(1.0, *(slope.abs().max().item() for slope in slopes[name]))
            for one, other in zip(found[name], slopes[name], strict=True):
                assert (one - other).abs().max() <= tolerance * size, name


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("theft", ISOLATION.values(), ids=ISOLATION)
def test_gradients_through_the_clone_agree_with_finite_differences(
    theft: Any, second_order: bool
) -> None:
    clone, batch = network(2).double().eval(), mixed()
    said = network(1).double().eval()(batch.images).detach().requires_grad_()
    passed = ClonePass(clone, batch.images)
    draws = torch.Generator().manual_seed(1)
    wanted = tuple(
        torch.randn(part.shape, generator=draws, dtype=torch.float64)
        for part in passed.pulled_back(torch.ones_like(said))
    )
    for measure in (*GRADIENT_NORM.values(), CosineTo(wanted)):

        def loss(answers: Tensor, measure: Measure = measure) -> Tensor:
            return of_gradient(measure, passed, answers, theft, second_order=second_order)

        assert torch.autograd.gradcheck(loss, (said,))


def test_terms_of_logits_agree_with_finite_differences_and_detach_nothing() -> None:
    draws = torch.Generator().manual_seed(0)
    clone, victim = (
        torch.randn(5, 6, generator=draws, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    for term in (victim_from_clone, clone_from_victim, centred_log_distance):
        assert torch.autograd.gradcheck(term, (clone, victim))
    assert victim_from_clone(victim, victim).item() == pytest.approx(0.0, abs=1e-12)
    shifted = victim - victim.mean(dim=1, keepdim=True)
    assert centred_log_distance(shifted, victim + 3.0).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("form", ["kl_cv", "ce_vc"])
def test_the_injected_gradient_of_the_cosine_is_the_closed_form(form: str) -> None:
    clone, batch = network(2).double().eval(), mixed()
    said = network(1).double().eval()(batch.images).detach().requires_grad_()
    passed = ClonePass(clone, batch.images)
    c, v = passed.logits.softmax(dim=1), said.detach().softmax(dim=1)
    count = len(said)

    def centred(weights: Tensor, values: Tensor) -> Tensor:
        return weights * (values - (weights * values).sum(dim=1, keepdim=True))

    pull = centred(c, c.log() - v.log()) if form == "kl_cv" else c - v
    received = passed.pulled_back(pull / count)
    wanted = passed.pulled_back((c - functional.one_hot(batch.targets, CLASSES)) / count)
    g, w = flat(received), flat(wanted)
    cosine = functional.cosine_similarity(g, w, dim=0)
    direction = (w / w.norm() - cosine * g / g.norm()) / g.norm()
    pieces = direction.split([part.numel() for part in wanted])
    tangent = passed.pushed_forward(
        tuple(piece.view_as(part) for piece, part in zip(pieces, wanted, strict=True))
    )
    expected = -centred(c if form == "kl_cv" else v, tangent) / count

    loss = of_gradient(
        CosineTo(wanted),
        passed,
        said,
        ISOLATION[form],
        second_order=False,
    )
    (found,) = torch.autograd.grad(loss, said)
    assert torch.allclose(found, expected, atol=1e-12)
    assert expected.abs().max() > 1e-4


def test_the_two_isolation_losses_are_not_the_same() -> None:
    """Guards against swapped arguments: KL(C || V) and CE(V, C) pull in different directions."""
    found = []
    for form in ("kl_cv", "ce_vc"):
        victim, clone = network(1).double(), network(2).double()
        losses = IsolationInduction(victim, clone, isolation=form).losses(mixed())
        slopes = torch.autograd.grad(losses["isolation"], list(victim.parameters()))
        found.append(torch.cat([slope.flatten() for slope in slopes]))
    assert functional.cosine_similarity(found[0], found[1], dim=0) < 0.99
