"""The chain: a fold over defenses that owns the invariants of every answer.

A link is trusted with nothing. After each one, every row is checked: shape, type, finite,
on the simplex, top-1 kept where that was promised. A row that breaks an invariant is marked
and blanked there and then, so that neither the caller nor a later link sees what it held. What a
link put in the place of the victim's answer is rounded as the victim's answers are, so that
nothing but its content tells that it was put there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from defenses.contract import Answers, Defense, Output, Queries, Stage
from defenses.errors import OptionError
from defenses.invariants import TOLERANCE, WrongShape, broken, fault, require_shape
from defenses.order import check_order
from defenses.ties import break_ties
from defenses.timing import Stopwatch
from models.simplex import GRID, round_to_grid, top1

__all__ = ["TOLERANCE", "Chain", "Outcome"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a chain made of one batch.

    Attributes:
        answers: what may leave; rows marked in ``failed`` are uniform and must not.
        failed: ``(B,)`` bool, on the device of the answers: rows that broke an invariant.
        seconds: what each link took, in the order of the links; 0.0 for a link not reached.
        moved: ``(B, links)`` L1 distance between what each link was given and what it returned; 0
            for a link not reached, and without meaning in rows marked in ``failed``.
    """

    answers: Answers
    failed: Tensor
    seconds: tuple[float, ...]
    moved: Tensor


class Chain:
    """Defenses in an order that disarms none of them; no links at all is legal.

    Args:
        links: the defenses, first to last.

    Raises:
        OrderError: naming two links and what their order would disarm.
    """

    def __init__(self, links: Sequence[Defense]) -> None:
        check_order(links)
        self._links = tuple(links)

    @property
    def links(self) -> tuple[Defense, ...]:
        """The defenses, first to last."""
        return self._links

    @property
    def name(self) -> str:
        """Name in tables and reports: kinds joined by ``+``, or ``none``."""
        return "+".join(link.kind for link in self._links) or "none"

    @property
    def covers(self) -> frozenset[Output]:
        """Outputs that at least one link protects."""
        return frozenset[Output]().union(*(link.covers for link in self._links))

    @property
    def keeps_top1(self) -> bool:
        """Whether the label that leaves is always the victim's."""
        return all(link.keeps_top1 for link in self._links)

    @property
    def timing_leaks(self) -> tuple[str, ...]:
        """Kinds of the links whose work depends on what they decide."""
        return tuple(link.kind for link in self._links if link.timing_leak)

    @property
    def stateful(self) -> tuple[str, ...]:
        """Kinds of the links whose answers depend on what was asked before."""
        return tuple(link.kind for link in self._links if link.stateful)

    def check(self, classes: int) -> None:
        """Refuse links that cannot work for ``classes`` labels.

        Raises:
            OptionError: naming the link and its option.
        """
        for position, link in enumerate(self._links):
            try:
                link.check(classes)
            except OptionError as error:
                raise OptionError(f"defenses[{position}].{error.option}", error.problem) from None

    def run(self, queries: Queries, told: Callable[[str], None] | None = None) -> Outcome:
        """Pass what the victim said through every link.

        Nothing is raised for a row or for a link: a link that raises, or returns something of a
        wrong shape, fails the whole batch (the caller may try its requests one by one), a row
        that breaks an invariant fails alone. A batch of no rows runs no link.

        Args:
            queries: what was asked, and what the victim said.
            told: of each link that breaks an invariant or a promise, which link and which of
                them, in the order of the links. For a rehearsal: it waits for the device.
        """
        victim = queries.victim
        if victim.shape[0] == 0:
            return _nothing(victim, links=len(self._links))
        answers = Answers(victim)
        failed = broken(answers, queries)
        if told is not None:
            _tell(told, "the victim", fault(answers, queries))
        answers = _blank(answers, failed)
        top = top1(answers.probabilities)
        moved = torch.zeros(len(victim), len(self._links), device=victim.device)
        watch = Stopwatch(victim.device)
        watch.mark()
        for place, link in enumerate(self._links):
            try:
                returned = link.apply(queries, answers)
                require_shape(returned, queries)
            except Exception as error:
                log.exception("%s failed for a batch of %d", link.kind, victim.shape[0])
                if told is not None:
                    own = not isinstance(error, WrongShape)
                    _tell(told, link.kind, f"raised {error!r}" if own else str(error))
                failed = torch.ones_like(failed)
                answers = Answers(_uniform(victim))
                break
            failed = failed | broken(returned, queries)
            why = None if told is None else fault(returned, queries)
            if link.stage is Stage.REPLACE:
                returned = _canonical(_blank(returned, failed), top if link.keeps_top1 else None)
            after = top1(returned.probabilities)
            if link.keeps_top1:
                failed = failed | (after != top)
                if told is not None and why is None and (after != top).any():
                    why = "moved the top-1 though it promises to keep it"
            if told is not None:
                _tell(told, link.kind, why)
            given, top = answers.probabilities, after
            answers = _blank(returned, failed)
            watch.mark()
            moved[:, place] = (answers.probabilities - given).abs().sum(dim=1)
        laps = watch.laps()
        laps += (0.0,) * (len(self._links) - len(laps))
        return Outcome(answers, failed, laps, moved)

    def __len__(self) -> int:
        return len(self._links)

    def __repr__(self) -> str:
        return f"Chain([{', '.join(map(repr, self._links))}])"


def _tell(told: Callable[[str], None], whose: str, why: str | None) -> None:
    if why is not None:
        told(f"{whose}: {why}")


def _nothing(victim: Tensor, *, links: int) -> Outcome:
    failed = torch.zeros(0, dtype=torch.bool, device=victim.device)
    moved = torch.zeros(0, links, device=victim.device)
    return Outcome(Answers(victim.clone()), failed, (0.0,) * links, moved)


def _uniform(victim: Tensor) -> Tensor:
    return torch.full_like(victim, 1.0 / victim.shape[1], dtype=torch.float32)


def _canonical(answers: Answers, top: Tensor | None) -> Answers:
    """The answers on the victim's own grid, with ``top`` as their top-1 where it was kept.

    What the victim said is on the grid. An answer beside it would tell a thief that this one was
    replaced, and its float noise would differ with the batch.
    """
    rounded = round_to_grid(answers.probabilities, GRID)
    if top is not None:
        rounded = break_ties(rounded, top, steps=GRID)
    return replace(answers, probabilities=rounded)


def _blank(answers: Answers, failed: Tensor) -> Answers:
    """A copy of the answers with every failed row uniform and its map empty.

    A copy always: a link that writes into what it is given must not rewrite what the victim said.
    Rows that failed earlier are blanked again, since a later link may have filled them in.
    """
    rows = failed[:, None]
    uniform = _uniform(answers.probabilities)
    blanked = replace(answers, probabilities=torch.where(rows, uniform, answers.probabilities))
    if answers.attributions is None:
        return blanked
    return replace(blanked, attributions=answers.attributions.masked_fill(rows[:, None], 0.0))
