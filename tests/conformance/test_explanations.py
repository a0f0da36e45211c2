"""What every chain promises about attribution maps, kept by every row of the table."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from defenses.chain import Chain
from defenses.contract import Output, Queries
from defenses.explanations import Explainer
from models.explain import MAP_GRID
from models.simplex import GRID, round_to_grid
from models.victim import SingleVictim, Victim
from tests.conformance.table import (
    IMAGES,
    Specs,
    build,
    ensemble,
    ensemble_pairs,
    identify,
    pairs,
)
from tests.defenses.toys import images, network, queries

# A whole Jacobian of two hundred answers is slow, and has no say in a map.
TOGETHER = [
    (specs, classes, False)
    for specs, classes in pairs()
    if classes < 200 or all(spec.get("jacobian") != "full" for spec in specs)
]
TOGETHER += [(specs, classes, True) for specs, classes in ensemble_pairs()]

rows = pytest.mark.parametrize(
    ("specs", "classes", "several"),
    [
        pytest.param(*row, id=f"{'edm ' if row[2] else ''}{identify(row[0], row[1])}")
        for row in TOGETHER
    ],
)


def asked(victim: Victim, explain: Tensor) -> Queries:
    pictures = images(IMAGES)
    said = victim.logits(pictures).softmax(dim=1)
    return replace(queries(round_to_grid(said, GRID), pictures=pictures), explain=explain)


def select(everything: Queries, index: Tensor) -> Queries:
    return Queries(
        **{field.name: getattr(everything, field.name)[index] for field in fields(Queries)}
    )


def maps_of(explainer: Explainer, chain: Chain, question: Queries) -> Tensor:
    # Toy networks are linear, so that their gradients have no kinks to stumble over.
    return explainer.maps(question, chain.run(question).answers)


@rows
def test_maps(specs: Specs, classes: int, several: bool) -> None:
    chain = build(specs, classes)
    victim: Victim = ensemble(classes) if several else SingleVictim(network(classes, seed=0))
    explainer = Explainer("gradient-x-input", victim, chain)
    everybody, nobody = torch.ones(IMAGES, dtype=torch.bool), torch.zeros(IMAGES, dtype=torch.bool)
    every_other = torch.arange(IMAGES) % 2 == 0
    question = asked(victim, everybody)
    before = {field.name: getattr(question, field.name).clone() for field in fields(Queries)}

    # Probabilities are the same bits, whoever asks for a map.
    leaving = chain.run(question).answers.probabilities
    for explain in (nobody, every_other):
        other = chain.run(replace(question, explain=explain)).answers.probabilities
        assert torch.equal(other, leaving)

    # Shape, type, finite, on the grid, between 0 and 1.
    maps = maps_of(explainer, chain, question)
    assert maps.shape == (IMAGES, 6, 6)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert (maps >= 0).all()
    assert (maps <= 1).all()
    steps = maps.double() * MAP_GRID
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)

    # The same twice, alone, in another order, and whoever else asks; none for who does not ask.
    assert torch.equal(maps_of(explainer, chain, question), maps)
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(0))
    alone = [maps_of(explainer, chain, select(question, row[None])) for row in torch.arange(4)]
    some = maps_of(explainer, chain, replace(question, explain=every_other))
    assert_close(torch.cat(alone), maps[:4])
    assert_close(maps_of(explainer, chain, select(question, order)), maps[order])
    assert_close(some[every_other], maps[every_other])
    assert not some[~every_other].any()

    for name, value in before.items():
        assert torch.equal(getattr(question, name), value)


def assert_close(one: Tensor, other: Tensor) -> None:
    """The same maps, but for places at the edge of a step, by one step."""
    assert (one - other).abs().max() < 1.5 / MAP_GRID
    assert ((one - other).abs() > 1e-6).float().mean() < 0.01


@rows
def test_covered_is_what_the_links_declare_or_an_ensemble(
    specs: Specs, classes: int, several: bool
) -> None:
    chain = build(specs, classes)
    victim: Victim = ensemble(classes) if several else SingleVictim(network(classes, seed=0))
    declared = any(Output.ATTRIBUTIONS in link.covers for link in chain.links)
    assert Explainer("gradient-x-input", victim, chain).covered is (declared or several)
    # Of the links that there are, these see to maps; a kind that joins them says so here.
    kinds = {link.kind for link in chain.links if Output.ATTRIBUTIONS in link.covers}
    assert kinds <= {"am", "dd-i", "deepdefense"}
