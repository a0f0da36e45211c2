"""What every defense and every chain promises, kept by every row of the table."""

from __future__ import annotations

import ast
import multiprocessing
from collections.abc import Callable, Collection
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from defenses.chain import Chain
from defenses.contract import Answers, Defense, Queries, Stage
from defenses.registry import kinds
from models.simplex import top1
from tests.conformance.process import every_answer
from tests.conformance.table import (
    CHAINS,
    IMAGES,
    LINKS,
    Specs,
    build,
    extremes,
    identify,
    pairs,
    respond,
)
from tests.defenses.toys import answers, images, queries

rows = pytest.mark.parametrize(
    ("specs", "classes"),
    [pytest.param(specs, classes, id=identify(specs, classes)) for specs, classes in pairs()],
)


def test_every_kind_has_rows_and_every_length_of_chain() -> None:
    missing = set(kinds()) - set(LINKS)
    assert not missing, f"add rows for {missing} to tests/conformance/table.py"
    assert all(LINKS.values())
    assert {len(specs) for specs in CHAINS} == {0, 2, 3}
    chained = {spec["kind"] for specs in CHAINS for spec in specs}
    assert chained == set(kinds()), "every kind stands in a chain too"


@rows
def test_shape_type_finite_simplex_and_promise(specs: Specs, classes: int) -> None:
    chain = build(specs, classes)
    for asked in (answers(classes, images(IMAGES)), extremes(classes)):
        outcome = chain.run(asked)
        served = outcome.answers.probabilities
        assert not outcome.failed.any()
        assert served.shape == asked.victim.shape
        assert served.dtype == torch.float32
        assert served.isfinite().all()
        assert (served >= 0).all()
        assert ((served.double().sum(dim=1) - 1).abs() <= 1e-6).all()
        if chain.keeps_top1:
            assert torch.equal(top1(served), top1(asked.victim))
        assert len(outcome.seconds) == len(specs)


@rows
def test_a_batch_of_none_and_of_one(specs: Specs, classes: int) -> None:
    chain = build(specs, classes)
    none = queries(torch.zeros(0, classes))
    assert chain.run(none).answers.probabilities.shape == (0, classes)
    for link in chain.links:
        assert link.apply(none, Answers(none.victim)).probabilities.shape == (0, classes)
    everything = extremes(classes)
    together = chain.run(everything).answers.probabilities
    alone = [
        chain.run(select(everything, torch.tensor([index]))).answers.probabilities
        for index in range(len(everything.victim))
    ]
    assert_same(chain, torch.cat(alone), together)


def replaces(chain: Chain) -> bool:
    """Whether another network than the victim may have answered."""
    return any(link.stage is Stage.REPLACE for link in chain.links)


def assert_same(chain: Chain, one: Tensor, other: Tensor) -> None:
    """The same answers, to 1e-6, given the same word of the victim.

    The word of another network has not been put on the grid yet, and may move by a step of it.
    """
    tolerance = 1e-4 if replaces(chain) else 1e-6
    torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


def select(asked: Queries, index: Tensor) -> Queries:
    return Queries(**{field.name: getattr(asked, field.name)[index] for field in fields(Queries)})


@rows
def test_a_row_depends_on_no_neighbour_and_no_position(specs: Specs, classes: int) -> None:
    chain = build(specs, classes)
    asked = answers(classes, images(IMAGES))
    served = chain.run(asked).answers.probabilities
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(0))
    shuffled = chain.run(select(asked, order)).answers.probabilities
    assert_same(chain, shuffled, served[order])


@rows
def test_arguments_are_not_modified(specs: Specs, classes: int) -> None:
    asked = extremes(classes)
    before = {field.name: getattr(asked, field.name).clone() for field in fields(Queries)}
    answer = Answers(asked.victim.clone())
    for link in build(specs, classes).links:
        given = answer.probabilities.clone()
        passed_on = link.apply(asked, answer)
        assert torch.equal(answer.probabilities, given)
        answer = passed_on
    for name, value in before.items():
        assert torch.equal(getattr(asked, name), value)


@rows
def test_repr_is_the_configuration(specs: Specs, classes: int) -> None:
    chain = build(specs, classes)
    again = tuple(written(link) for link in chain.links)
    assert repr(build(again, classes)) == repr(chain)


def written(link: Defense) -> dict[str, object]:
    """What an operator would write for a link, read off its ``repr``."""
    call = ast.parse(repr(link), mode="eval").body
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Name)
    by_class = {defense.__name__: kind for kind, defense in kinds().items()}
    options = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    assert options == link.options()
    return {"kind": by_class[call.func.id], **options}


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Notes every operation on tensors, with the shapes that it works on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.seen: list[tuple[str, list[torch.Size]]] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        shapes = [value.shape for value in args if isinstance(value, Tensor)]
        self.seen.append((str(func), shapes))
        return func(*args, **(kwargs or {}))


@rows
def test_the_work_depends_on_the_decision_only_where_that_is_declared(
    specs: Specs, classes: int
) -> None:
    chain = build(specs, classes)
    asked = answers(classes, images(IMAGES))
    sure = torch.eye(classes)[torch.arange(IMAGES) % classes]
    unsure = torch.full_like(sure, 1 / classes)
    mixed = torch.where(torch.arange(IMAGES)[:, None] % 2 == 0, sure, unsure)
    paths = []
    for said in (sure, unsure, mixed, asked.victim):
        with Operations() as operations:
            chain.run(replace(asked, victim=said))
        paths.append(operations.seen)
    if chain.timing_leaks:
        assert any(path != paths[0] for path in paths), "a leak that is declared, but is none"
    else:
        assert all(path == paths[0] for path in paths)


class Comparison:
    """Counts answers that differ by more than the promised 1e-6, and bounds them by cause.

    A forward pass differs in the last bits with the size of its batch. The canonical grid swallows
    that, but for a probability that lies at the edge of a step: there the victim's word moves by
    one step of 1e-5, and what leaves with it. The answer of a network that replaces the victim is
    put on the same grid, and may move alike.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.at_the_edge = 0
        self.otherwise = 0

    def compare(
        self, chain: Chain, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]
    ) -> None:
        (said, served), (said_there, served_there) = one, other
        assert ((said - said_there).abs() < 2.5e-5).all()
        moved = (said != said_there).any(dim=1)
        if replaces(chain):
            moved = torch.ones_like(moved)
        differs = (served - served_there).abs().amax(dim=1) > 1e-6
        self.rows += len(served)
        self.at_the_edge += int((differs & moved).sum())
        self.otherwise += int((differs & ~moved).sum())

    def conclude(self) -> None:
        counted = f"{self.at_the_edge} at the edge, {self.otherwise} otherwise, of {self.rows}"
        assert self.at_the_edge <= 0.02 * self.rows, counted
        assert self.otherwise <= 0.001 * self.rows, counted


def test_the_same_query_gets_the_same_answer_alone_in_a_batch_and_twice() -> None:
    comparison = Comparison()
    pictures = images(IMAGES)
    for specs, classes in pairs():
        chain = build(specs, classes)
        batch = respond(chain, classes, pictures)
        assert torch.equal(respond(chain, classes, pictures)[1], batch[1])
        alone = [respond(chain, classes, row[None]) for row in pictures]
        said, served = (torch.cat(parts) for parts in zip(*alone, strict=True))
        comparison.compare(chain, (said, served), batch)
    comparison.conclude()


def test_the_same_query_gets_the_same_answer_in_another_process() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply_async(every_answer, (2,)).get(timeout=120)
    comparison = Comparison()
    for specs, classes in pairs():
        said, served = there[identify(specs, classes)]
        chain = build(specs, classes)
        here = respond(chain, classes, images(IMAGES))
        comparison.compare(chain, here, (torch.tensor(said), torch.tensor(served)))
    assert comparison.rows == len(there) * IMAGES
    comparison.conclude()
