"""Each order that is refused is shown to be the hole that it is."""

from __future__ import annotations

import itertools

import pytest
import torch

from defenses.adaptive_misinformation import AdaptiveMisinformation
from defenses.chain import Chain
from defenses.contract import Answers, Defense, Stage
from defenses.errors import OrderError
from defenses.label_only import LabelOnly
from defenses.reverse_sigmoid import ReverseSigmoid
from defenses.rounding import Rounding
from defenses.top_k import TopK
from models.simplex import top1
from tests.defenses.toys import answers, apply, images, network

CLASSES = 10


def misinformation(threshold: float = 0.5) -> AdaptiveMisinformation:
    return AdaptiveMisinformation(
        misinformation=network(CLASSES, seed=1), threshold=threshold, steepness=1000.0
    )


def links() -> list[Defense]:
    return [misinformation(), ReverseSigmoid(beta=0.2), TopK(k=3), Rounding(decimals=2)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_exactly_the_orders_by_stage_are_accepted(count: int) -> None:
    for chosen in itertools.permutations(links(), count):
        stages = [link.stage for link in chosen]
        if stages == sorted(stages):
            assert Chain(chosen).links == chosen
        else:
            with pytest.raises(OrderError):
                Chain(chosen)


def test_the_refusal_names_both_links_and_the_remedy() -> None:
    with pytest.raises(OrderError) as refused:
        Chain([TopK(k=3), misinformation()])
    sentence = str(refused.value)
    assert sentence.startswith("defenses[1]: am must not follow top-k (defenses[0]): ")
    assert sentence.endswith("put am before top-k")


def test_two_links_that_replace_are_refused_and_the_second_would_forget_the_first() -> None:
    with pytest.raises(OrderError, match="keep one of them"):
        Chain([misinformation(), misinformation()])
    asked = answers(CLASSES, images(64))
    strict, lax = misinformation(0.9), misinformation(0.0)
    protected = strict.apply(asked, Answers(asked.victim))
    assert not torch.allclose(protected.probabilities, asked.victim)
    forgotten = lax.apply(asked, protected)
    torch.testing.assert_close(forgotten.probabilities, asked.victim)


def test_misinformation_after_label_only_lets_the_whole_posterior_out() -> None:
    asked = answers(CLASSES, images(64))
    label = LabelOnly().apply(asked, Answers(asked.victim))
    undone = misinformation(0.0).apply(asked, label)
    torch.testing.assert_close(undone.probabilities, asked.victim)
    assert LabelOnly.stage > AdaptiveMisinformation.stage


def test_misinformation_that_decided_from_a_label_would_never_fire() -> None:
    asked = answers(CLASSES, images(64))
    unsure = asked.victim.max(dim=1).values < 0.5
    assert 10 < unsure.sum() < 60
    link = misinformation(0.5)
    fired = (link.apply(asked, Answers(asked.victim)).probabilities != asked.victim).any(dim=1)
    assert fired[unsure].all()
    labels = apply(LabelOnly(), asked.victim)
    assert torch.equal(apply(link, labels), labels)


def test_misinformation_after_a_perturbation_forgets_it() -> None:
    asked = answers(CLASSES, images(64))
    bent = ReverseSigmoid(beta=0.2).apply(asked, Answers(asked.victim))
    assert not torch.allclose(bent.probabilities, asked.victim, atol=0.1)
    undone = misinformation(0.0).apply(asked, bent)
    torch.testing.assert_close(undone.probabilities, asked.victim)


def test_a_perturbation_after_label_only_tells_the_label_and_nothing_misleading() -> None:
    said = answers(CLASSES, images(64)).victim
    bent = apply(ReverseSigmoid(beta=0.2), apply(LabelOnly(), said))
    # One answer per label: whoever has seen each once undoes it by looking it up.
    for label in range(CLASSES):
        rows = bent[top1(said) == label]
        assert torch.equal(rows, rows[:1].expand_as(rows))
    assert len(torch.unique(bent, dim=0)) == len(set(top1(said).tolist()))


def test_a_perturbation_after_top_k_fills_in_what_was_cut_off() -> None:
    said = answers(CLASSES, images(64)).victim
    cut = apply(TopK(k=3), said)
    assert ((cut > 0).sum(dim=1) <= 3).all()
    assert (apply(ReverseSigmoid(beta=0.2), cut) > 0).all()


def test_a_perturbation_after_rounding_leaves_the_grid() -> None:
    said = answers(CLASSES, images(64)).victim
    bent = apply(ReverseSigmoid(beta=0.2), apply(Rounding(decimals=1), said))
    assert ((bent * 10 - (bent * 10).round()).abs() > 1e-3).any()


def test_stages_are_what_the_registry_relies_on() -> None:
    assert [link.stage for link in links()] == [
        Stage.REPLACE,
        Stage.PERTURB,
        Stage.TRUNCATE,
        Stage.TRUNCATE,
    ]
