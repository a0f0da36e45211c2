"""The invariants belong to the chain, whatever a link does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from defenses.chain import Chain
from defenses.contract import Answers, Defense, Output, Queries, Stage
from defenses.errors import OptionError
from defenses.label_only import LabelOnly
from defenses.reverse_sigmoid import ReverseSigmoid
from defenses.rounding import Rounding
from defenses.top_k import TopK
from models.simplex import GRID
from tests.defenses.toys import answers, images, queries

CLASSES = 10
Change = Callable[[Tensor], Tensor]


class Custom(Defense):
    """A link that does what a test wants."""

    kind: ClassVar[str] = "custom"
    stage: ClassVar[Stage] = Stage.PERTURB

    def __init__(self, change: Change, *, keeps_top1: bool = False) -> None:
        self._change = change
        self.keeps_top1 = keeps_top1

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        del queries
        return replace(answers, probabilities=self._change(answers.probabilities))


class Slow(Custom):
    timing_leak = True
    covers = frozenset({Output.ATTRIBUTIONS})


def row(index: int, value: Tensor | float) -> Change:
    def change(probabilities: Tensor) -> Tensor:
        changed = probabilities.clone()
        changed[index] = value
        return changed

    return change


def asked() -> Queries:
    return answers(CLASSES, images(8))


UNIFORM = torch.full((CLASSES,), 1 / CLASSES)


def test_no_links_say_what_the_victim_said() -> None:
    query = asked()
    outcome = Chain([]).run(query)
    assert torch.equal(outcome.answers.probabilities, query.victim)
    assert outcome.answers.probabilities.data_ptr() != query.victim.data_ptr()
    assert not outcome.failed.any()
    assert outcome.seconds == ()
    assert (Chain([]).name, Chain([]).covers, Chain([]).keeps_top1) == ("none", frozenset(), True)


BAD_ROWS = {
    "nan": row(3, float("nan")),
    "infinite": row(3, float("inf")),
    "too-much": row(3, 2 / CLASSES),
    "too-little": row(3, 0.0),
    "negative": row(3, torch.tensor([1.5, -0.5] + [0.0] * (CLASSES - 2))),
    "hardly-off": row(3, torch.tensor([1.0 + 3e-6] + [0.0] * (CLASSES - 1))),
}


@pytest.mark.parametrize("change", BAD_ROWS.values(), ids=BAD_ROWS.keys())
@pytest.mark.parametrize("later", [[], [TopK(k=2)], [LabelOnly(), Rounding(decimals=2)]])
def test_a_bad_row_fails_alone_and_is_blank(change: Change, later: list[Defense]) -> None:
    query = asked()
    outcome = Chain([Custom(change), *later]).run(query)
    assert outcome.failed.tolist() == [index == 3 for index in range(8)]
    assert torch.equal(outcome.answers.probabilities[3], UNIFORM)
    healthy = Chain(later).run(query)
    others = ~outcome.failed
    assert torch.equal(outcome.answers.probabilities[others], healthy.answers.probabilities[others])


def test_a_sum_within_the_tolerance_is_let_through() -> None:
    change = row(3, torch.tensor([1.0 - 5e-7] + [0.0] * (CLASSES - 1)))
    assert not Chain([Custom(change)]).run(asked()).failed.any()


def test_a_later_link_never_sees_a_bad_row() -> None:
    seen: list[Tensor] = []

    def look(probabilities: Tensor) -> Tensor:
        seen.append(probabilities)
        return probabilities

    Chain([Custom(row(3, float("nan"))), Custom(look)]).run(asked())
    assert torch.equal(seen[0][3], UNIFORM)


def test_a_failed_row_stays_blank_even_if_a_later_link_fills_in_what_the_victim_said() -> None:
    query = asked()

    def leak(probabilities: Tensor) -> Tensor:
        del probabilities
        return query.victim.clone()

    outcome = Chain([Custom(row(3, float("nan"))), Custom(leak)]).run(query)
    assert outcome.failed[3]
    assert torch.equal(outcome.answers.probabilities[3], UNIFORM)


def test_a_broken_promise_fails_the_row_and_no_promise_does_not() -> None:
    query = asked()
    rolled = query.victim[3].roll(1)
    promised = Chain([Custom(row(3, rolled), keeps_top1=True)]).run(query)
    assert promised.failed.tolist() == [index == 3 for index in range(8)]
    assert not Chain([Custom(row(3, rolled))]).run(query).failed.any()


def test_a_promise_is_judged_against_what_the_link_was_given() -> None:
    query = asked()
    # The first link moves the top; the second keeps what it was given, and is not blamed.
    links = [Custom(lambda given: given.roll(1, dims=1)), ReverseSigmoid(beta=0.2)]
    assert not Chain(links).run(query).failed.any()


def test_a_promise_cannot_be_cheated_by_writing_into_the_input() -> None:
    def shift(probabilities: Tensor) -> Tensor:
        probabilities.copy_(probabilities.roll(1, dims=1))
        return probabilities

    query = asked()
    said = query.victim.clone()
    outcome = Chain([Custom(shift, keeps_top1=True)]).run(query)
    assert outcome.failed.all()
    assert torch.equal(query.victim, said)


def boom(probabilities: Tensor) -> Tensor:
    del probabilities
    raise RuntimeError("boom")


WHOLE_BATCH: dict[str, Change] = {
    "raises": boom,
    "float64": lambda given: given.double(),
    "too-few-rows": lambda given: given[:-1],
    "too-few-classes": lambda given: given[:, :-1],
    "one-dimension": lambda given: given.sum(dim=1),
    "nothing": lambda given: None,  # type: ignore[dict-item, return-value]
    "elsewhere": lambda given: given.to("meta"),
}


@pytest.mark.parametrize("change", WHOLE_BATCH.values(), ids=WHOLE_BATCH.keys())
def test_a_fault_that_has_no_row_fails_the_batch_and_nothing_leaves(
    change: Change, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        outcome = Chain([Custom(change), TopK(k=5)]).run(asked())
    assert outcome.failed.all()
    assert torch.equal(outcome.answers.probabilities, UNIFORM.expand(8, -1))
    assert outcome.answers.attributions is None
    assert outcome.seconds == (0.0, 0.0)
    assert caplog.messages == ["custom failed for a batch of 8"]


def test_a_victim_that_is_itself_broken_fails_its_row_even_without_links() -> None:
    said = asked().victim.clone()
    said[2] = float("nan")
    for links in ([], [ReverseSigmoid(beta=0.2), TopK(k=3), Rounding(decimals=2)]):
        outcome = Chain(links).run(queries(said))
        assert outcome.failed.tolist() == [index == 2 for index in range(8)]
        assert torch.equal(outcome.answers.probabilities[2], UNIFORM)


class Maps(Defense):
    """Returns the attribution maps it was made with."""

    kind: ClassVar[str] = "maps"
    stage: ClassVar[Stage] = Stage.PERTURB

    def __init__(self, maps: Tensor) -> None:
        self._maps = maps

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        del queries
        return replace(answers, attributions=self._maps)


def test_a_map_is_judged_where_it_was_asked_for_and_emptied_with_its_row() -> None:
    query = asked()
    explain = torch.arange(8) < 4
    maps = torch.ones(8, 3, 3)
    maps[1, 0, 0] = maps[6, 0, 0] = float("nan")
    outcome = Chain([Maps(maps), TopK(k=3)]).run(replace(query, explain=explain))
    assert outcome.failed.tolist() == [index == 1 for index in range(8)]
    kept = outcome.answers.attributions
    assert kept is not None
    assert (kept[1] == 0).all()
    assert (kept[0] == 1).all()


@pytest.mark.parametrize("shape", [(8, 3), (7, 3, 3)])
def test_maps_of_a_wrong_shape_fail_the_batch(shape: tuple[int, ...]) -> None:
    assert Chain([Maps(torch.ones(shape))]).run(asked()).failed.all()


def test_a_batch_of_none_runs_no_link() -> None:
    outcome = Chain([Custom(boom), TopK(k=2)]).run(queries(torch.zeros(0, CLASSES)))
    assert outcome.answers.probabilities.shape == (0, CLASSES)
    assert outcome.failed.shape == (0,)
    assert outcome.seconds == (0.0, 0.0)


def test_each_link_is_timed() -> None:
    def sleep(probabilities: Tensor) -> Tensor:
        time.sleep(0.1)
        return probabilities

    outcome = Chain([Custom(sleep), TopK(k=2)]).run(asked())
    assert len(outcome.seconds) == 2
    assert 0.1 <= outcome.seconds[0] < 10.0
    assert 0.0 < outcome.seconds[1] < outcome.seconds[0]


def test_what_each_link_moved_is_measured_apart() -> None:
    query = asked()
    outcome = Chain([ReverseSigmoid(beta=0.5), Custom(lambda given: given), LabelOnly()]).run(query)
    bent = Chain([ReverseSigmoid(beta=0.5)]).run(query).answers.probabilities
    first = (bent - query.victim).abs().sum(dim=1)
    last = (outcome.answers.probabilities - bent).abs().sum(dim=1)
    assert outcome.moved.shape == (8, 3)
    torch.testing.assert_close(outcome.moved, torch.stack([first, 0 * first, last], dim=1))
    assert outcome.moved[:, 0].any()


def test_a_link_that_is_not_reached_moved_nothing() -> None:
    def fail(probabilities: Tensor) -> Tensor:
        raise ValueError("broken")

    outcome = Chain([Custom(fail), LabelOnly()]).run(asked())
    assert not outcome.moved.any()


def test_a_chain_sums_up_its_links() -> None:
    chain = Chain([Slow(lambda given: given), TopK(k=3)])
    assert chain.name == "custom+top-k"
    assert chain.covers == {Output.PROBABILITIES, Output.ATTRIBUTIONS}
    assert chain.timing_leaks == ("custom",)
    assert not chain.keeps_top1
    assert len(chain) == 2
    assert repr(Chain([TopK(k=3), LabelOnly()])) == "Chain([TopK(k=3), LabelOnly()])"


def test_check_names_the_link_and_its_option() -> None:
    with pytest.raises(OptionError) as refused:
        Chain([ReverseSigmoid(beta=0.1), TopK(k=11)]).check(CLASSES)
    assert str(refused.value) == (
        "defenses[1].k: must be at most 10, the number of classes, not 11"
    )
    Chain([ReverseSigmoid(beta=0.1), TopK(k=10)]).check(CLASSES)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_links_are_timed_by_events_and_answers_stay_there() -> None:
    query = asked()
    there = Queries(
        query.images.cuda(), query.seeds.cuda(), query.explain.cuda(), query.victim.cuda()
    )
    chain = Chain([ReverseSigmoid(beta=0.2), TopK(k=3)])
    outcome = chain.run(there)
    assert outcome.answers.probabilities.is_cuda
    assert outcome.failed.is_cuda
    assert all(0 < seconds < 10 for seconds in outcome.seconds)
    torch.testing.assert_close(
        outcome.answers.probabilities.cpu(),
        chain.run(query).answers.probabilities,
        atol=1e-6,
        rtol=0,
    )


@pytest.mark.parametrize("keeps_top1", [False, True])
def test_a_replaced_answer_lies_on_the_grid_like_one_that_was_not(keeps_top1: bool) -> None:
    """Otherwise a thief tells the two apart by their last digits, and drops what misleads."""

    class Replaces(Custom):
        kind = "replaces"
        stage = Stage.REPLACE

    def every_other(probabilities: Tensor) -> Tensor:
        changed = probabilities.clone()
        changed[::2] = 0.7 * changed[::2] + 0.3 / CLASSES
        return changed

    chain = Chain([Replaces(every_other, keeps_top1=keeps_top1)])
    outcome = chain.run(asked())
    served = outcome.answers.probabilities
    assert not outcome.failed.any()
    assert not torch.equal(served[::2], asked().victim[::2])
    assert torch.equal(served, (torch.round(served.double() * GRID) / GRID).float())


def test_a_tie_that_the_grid_makes_is_broken_toward_the_top_that_was_promised() -> None:
    class Replaces(Custom):
        kind = "replaces"
        stage = Stage.REPLACE

    nearly = torch.tensor([[0.499999, 0.500001]])
    link = Replaces(lambda _: nearly, keeps_top1=True)
    said = queries(torch.tensor([[0.2, 0.8]]))
    outcome = Chain([link]).run(said)
    assert not outcome.failed.any()
    assert outcome.answers.probabilities.argmax() == 1
