"""What a chain promises, behind an ensemble that answers each query by one member."""

from __future__ import annotations

import multiprocessing

import pytest
import torch

from models.simplex import GRID, top1
from tests.conformance.process import every_answer_together
from tests.conformance.table import (
    CLASSES,
    IMAGES,
    Specs,
    build,
    ensemble,
    ensemble_pairs,
    identify,
    respond_together,
)
from tests.conformance.test_defenses import Comparison
from tests.defenses.toys import images

rows = pytest.mark.parametrize(
    ("specs", "classes"),
    [
        pytest.param(specs, classes, id=identify(specs, classes))
        for specs, classes in ensemble_pairs()
    ],
)


@rows
def test_shape_type_finite_simplex_and_promise(specs: Specs, classes: int) -> None:
    chain = build(specs, classes)
    said, served = respond_together(chain, classes, images(IMAGES))
    assert served.shape == said.shape == (IMAGES, classes)
    assert served.dtype == torch.float32
    assert served.isfinite().all()
    assert (served >= 0).all()
    assert ((served.double().sum(dim=1) - 1).abs() <= 1e-6).all()
    if chain.keeps_top1:
        assert torch.equal(top1(served), top1(said))


@pytest.mark.parametrize("classes", CLASSES)
def test_several_members_answer_on_the_canonical_grid(classes: int) -> None:
    said, served = respond_together(build((), classes), classes, images(IMAGES))
    members = ensemble(classes).route(images(IMAGES))
    assert len(set(members.tolist())) > 2
    units = said.double() * GRID
    torch.testing.assert_close(units, units.round(), atol=0.01, rtol=0)
    assert torch.equal(said, served)


def test_the_same_query_gets_the_same_answer_alone_in_a_batch_and_twice() -> None:
    comparison = Comparison()
    pictures = images(IMAGES)
    for specs, classes in ensemble_pairs():
        chain = build(specs, classes)
        batch = respond_together(chain, classes, pictures)
        assert torch.equal(respond_together(chain, classes, pictures)[1], batch[1])
        alone = [respond_together(chain, classes, row[None]) for row in pictures]
        said, served = (torch.cat(parts) for parts in zip(*alone, strict=True))
        comparison.compare(chain, (said, served), batch)
    comparison.conclude()


def test_the_same_query_gets_the_same_answer_in_another_process() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply_async(every_answer_together, (2,)).get(timeout=120)
    comparison = Comparison()
    for specs, classes in ensemble_pairs():
        said, served = there[identify(specs, classes)]
        here = respond_together(build(specs, classes), classes, images(IMAGES))
        comparison.compare(build(specs, classes), here, (torch.tensor(said), torch.tensor(served)))
    assert comparison.rows == len(there) * IMAGES
    comparison.conclude()
