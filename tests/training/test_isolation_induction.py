from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.errors import OptionError
from defenses.training.clone_gradients import ClonePass, of_gradient
from defenses.training.isolation_induction import (
    GRADIENT_NORM,
    ISOLATION,
    IsolationInduction,
    centred_log_distance,
    clone_from_victim,
    victim_from_clone,
)
from defenses.training.two_streams import OodBatchNorm, logits_of_both
from models.errors import NotFiniteError, TrainingError
from models.training.evaluate import accuracy, probabilities
from models.training.loop import fit
from models.training.objective import Batch
from tests.training.toys import (
    CLASSES,
    assert_same_bits,
    network,
    plan,
    problem,
    quadrants,
    strangers,
    weights,
)

FORMS = [
    {"isolation": isolation, "induction": induction, "gradient_norm": norm, "ood_bn": ood_bn}
    for isolation, induction, norm, ood_bn in itertools.product(
        ("kl_cv", "ce_vc"),
        ("l1", "kl"),
        ("mean_abs", "l2"),
        ("separate", "concatenated", "frozen"),
    )
]


def mixed(dtype: torch.dtype = torch.float64) -> Batch:
    known, labels = quadrants(7, 1)
    return Batch(known.to(dtype) / 255, labels, strangers(6, 2).to(dtype) / 255)


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


def objective(victim: nn.Module, clone: nn.Module, **options: Any) -> IsolationInduction:
    return IsolationInduction(victim, clone, **options)


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
            else dict(objective(victim, clone, second_order=second_order, **form).losses(batch))
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
    wanted = torch.randn(
        passed.pulled_back(torch.ones_like(said)).shape,
        generator=torch.Generator().manual_seed(1),
        dtype=torch.float64,
    )
    measures = dict(GRADIENT_NORM, cosine=lambda g: functional.cosine_similarity(g, wanted, dim=0))
    for measure in measures.values():

        def loss(answers: Tensor, measure: Any = measure) -> Tensor:
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
    cosine = functional.cosine_similarity(received, wanted, dim=0)
    direction = (wanted / wanted.norm() - cosine * received / received.norm()) / received.norm()
    tangent = passed.pushed_forward(direction)
    expected = -centred(c if form == "kl_cv" else v, tangent) / count

    loss = of_gradient(
        lambda g: functional.cosine_similarity(g, wanted, dim=0),
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
        losses = objective(victim, clone, isolation=form).losses(mixed())
        slopes = torch.autograd.grad(losses["isolation"], list(victim.parameters()))
        found.append(torch.cat([slope.flatten() for slope in slopes]))
    assert functional.cosine_similarity(found[0], found[1], dim=0) < 0.99


@pytest.mark.parametrize("second_order", [False, True])
def test_the_clone_is_never_changed(second_order: bool) -> None:
    victim, clone = network(1), network(2, dropout=0.5)
    before = weights({"clone": clone})
    data = problem(ood=True, count=100)
    fit(
        objective(victim, clone, second_order=second_order),
        data,
        plan(epochs=3, combiner="pcgrad"),  # twelve steps
    )
    assert_same_bits(weights({"clone": clone}), before)
    assert not clone.training
    assert all(p.grad is None and not p.requires_grad for p in clone.parameters())


def test_a_term_of_weight_zero_is_absent_and_the_clone_unused_without_its_terms() -> None:
    victim, clone = network(1), network(2)
    passes: list[int] = []
    clone.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    batch = mixed(torch.float32)
    wanted = {
        "gamma": {"cross_entropy", "isolation", "gradient_norm"},
        "delta": {"cross_entropy", "induction", "gradient_norm"},
        "epsilon": {"cross_entropy", "isolation", "induction"},
    }
    for weight, names in wanted.items():
        assert set(objective(victim, clone, **{weight: 0.0}).losses(batch)) == names
    passes.clear()
    losses = objective(victim, clone, gamma=0, delta=0, epsilon=0).losses(batch)
    assert set(losses) == {"cross_entropy"}
    assert passes == []


def test_each_clone_pass_is_shared_by_all_that_need_it() -> None:
    victim, clone = network(1), network(2)
    passes: list[int] = []
    clone.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    objective(victim, clone).losses(mixed(torch.float32))
    assert passes == [7, 7, 6, 6]  # images and strangers: once for both backward passes, one JVP


def test_soft_targets_and_labels_agree_where_the_former_are_one_hot() -> None:
    victim, clone, batch = network(1), network(2), mixed(torch.float32)
    soft = Batch(batch.images, functional.one_hot(batch.targets, CLASSES).float(), batch.ood)
    trained = objective(victim, clone)
    hard_losses, soft_losses = trained.losses(batch), trained.losses(soft)
    for name, value in hard_losses.items():
        assert torch.allclose(value, soft_losses[name], rtol=1e-4), name


def test_training_isolates_induces_and_still_classifies() -> None:
    victim, clone = network(1), network(2)
    trained = objective(victim, clone, epsilon=20.0)
    fitted = fit(trained, problem(ood=True, count=400), plan(epochs=10))
    images, labels = quadrants(200, 5)
    assert accuracy(probabilities(victim, images), labels) > 0.9
    first, last = fitted.history[0].losses, fitted.history[-1].losses
    assert last["isolation"] < 0.5 * first["isolation"]
    assert last["induction"] < 0.6 * first["induction"]
    assert last["gradient_norm"] < 0.5 * first["gradient_norm"]


def test_an_infinite_gradient_stops_the_run_at_the_term_it_comes_from() -> None:
    clone = network(2)
    with torch.no_grad():
        next(clone.parameters()).mul_(math.inf)
    with pytest.raises(NotFiniteError, match="'isolation' became nan in epoch 1, step 1"):
        fit(objective(network(1), clone), problem(ood=True), plan())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"gamma": -0.1}, "gamma: must be a finite number >= 0, not -0.1"),
        ({"delta": math.nan}, "delta: must be a finite number >= 0"),
        ({"epsilon": math.inf}, "epsilon: must be a finite number >= 0"),
        ({"isolation": "kl"}, "isolation: must be kl_cv or ce_vc, not 'kl'"),
        ({"induction": "l2"}, "induction: must be l1 or kl, not 'l2'"),
        ({"gradient_norm": "l1"}, "gradient_norm: must be mean_abs or l2, not 'l1'"),
        ({"ood_bn": "none"}, "ood_bn: must be separate, concatenated or frozen, not 'none'"),
    ],
)
def test_what_does_not_exist_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        objective(network(1), network(2), **wrong)
    assert str(caught.value).startswith(sentence)


def test_options_tell_the_effective_weights_and_forms() -> None:
    assert objective(network(1), network(2), delta=2).options() == {
        "gamma": 0.3,
        "delta": 2.0,
        "epsilon": 1000.0,
        "isolation": "kl_cv",
        "induction": "l1",
        "gradient_norm": "mean_abs",
        "ood_bn": "separate",
        "second_order": False,
    }


def test_a_run_against_another_clone_is_another_run(tmp_path: Path) -> None:
    data, settled = problem(ood=True), plan(epochs=1)
    fit(objective(network(1), network(2)), data, settled, state=tmp_path)
    with pytest.raises(TrainingError, match="another run"):
        fit(objective(network(1), network(3)), data, settled, state=tmp_path)
