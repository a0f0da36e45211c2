"""What ``benchmarks.accounts`` found, as a table and sentences."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from attack_client.adaptive.shared_victim import Split
from benchmarks.envelope import Row

__all__ = [
    "BUDGET",
    "LIFETIME",
    "WAYS",
    "Measured",
    "Way",
    "compared",
    "rows_of",
    "told",
    "watched",
]

BUDGET = 4800
"""Queries that every theft asks for."""

LIFETIME = 640
"""Samples that a key with a budget may ask in its life."""


@dataclass(frozen=True, slots=True)
class Way:
    """Whom a thief asks, and as whom.

    Attributes:
        attack: ``jbda``, ``knockoff``, or ``natural``: pictures of the task itself, and no clone.
        served: ``watched`` (label-only for suspects), ``unwatched`` or ``label-only`` for all.
        lifetime: samples of each key's budget; None for no limit.
        keys: accounts.
        split: how requests are shared out among several.
    """

    attack: str
    served: str
    lifetime: int | None
    keys: int
    split: Split | None = None

    @property
    def model(self) -> str:
        """Served under a name of its own: a monitor follows pairs of caller and model."""
        budget = "free" if self.lifetime is None else str(self.lifetime)
        return f"{self.attack}-{self.served}-{budget}-{self.keys}-{self.split or 'alone'}"


def watched(
    attack: str, keys: int, split: Split | None = None, *, lifetime: int | None = None
) -> Way:
    """Asking a model whose suspects are answered labels only."""
    return Way(attack, "watched", lifetime, keys, split)


def _ways(attack: str) -> Iterator[Way]:
    yield Way(attack, "unwatched", None, 1)
    yield Way(attack, "label-only", None, 1)
    yield watched(attack, 1)
    for keys in (4, 16, 64):
        yield watched(attack, keys, "even")
    yield watched(attack, 1, lifetime=LIFETIME)
    for keys in (4, 16):
        yield watched(attack, keys, "even", lifetime=LIFETIME)
        yield watched(attack, keys, "blocks", lifetime=LIFETIME)


WAYS = (*_ways("jbda"), *_ways("knockoff"), watched("natural", 1))


@dataclass(frozen=True, slots=True)
class Measured:
    """One theft.

    Attributes:
        seed: of the attack and the clone.
        asked: whom, and as whom.
        answered: queries that were answered.
        tightened: those of them that suspects asked.
        suspects: keys under suspicion at the end.
        tests: the monitor's, of all keys.
        failed: those of them that a caller did not pass.
        statistic: mean W of the tests; None if there was none.
        missed: samples that the monitor had no time for.
        clone: accuracy on the victim's test set; None where no clone was trained.
    """

    seed: int
    asked: Way
    answered: int
    tightened: int
    suspects: int
    tests: int
    failed: int
    statistic: float | None
    missed: int
    clone: float | None

    @property
    def share(self) -> float:
        """Of the queries that were answered, those that suspects asked."""
        return self.tightened / self.answered


def rows_of(found: Sequence[Measured]) -> list[Row]:
    """Every figure."""
    rows = []
    for one in found:
        figures: list[tuple[str, float | None, str]] = [
            ("count", one.answered, "queries answered"),
            ("share", one.share, "of them asked by suspects"),
            ("count", one.suspects, "suspects"),
            ("count", one.tests, "tests"),
            ("count", one.failed, "tests failed"),
            ("statistic", one.statistic, "mean W"),
            ("count", one.missed, "samples missed"),
            ("share", one.clone, "of test images, the clone's"),
        ]
        rows += [
            Row("accounts", one.asked.model, f"seed {one.seed}", metric, value, unit)
            for metric, value, unit in figures
            if value is not None
        ]
    return rows


def compared(found: Sequence[Measured]) -> dict[str, object]:
    """A line for each way that was measured, means over seeds."""
    lines = []
    for way in WAYS:
        same = _of(way, found)
        if not same:
            continue
        clones = [one.clone for one in same if one.clone is not None]
        tested = [one.statistic for one in same if one.statistic is not None]
        lines.append(
            [
                way.attack,
                way.served,
                "-" if way.lifetime is None else str(way.lifetime),
                str(way.keys),
                way.split or "-",
                str(len(same)),
                f"{_mean(same, lambda one: one.answered):,.0f}",
                f"{100 * _mean(same, lambda one: one.share):.1f} %",
                f"{_mean(same, lambda one: one.suspects):.3g}",
                f"{statistics.fmean(tested):.3f}" if tested else "-",
                f"{100 * statistics.fmean(clones):.2f} %" if clones else "-",
                f"{100 * min(clones):.2f} to {100 * max(clones):.2f}" if len(clones) > 1 else "-",
            ]
        )
    return {
        "title": f"Thefts that ask for {BUDGET:,} queries, means over seeds",
        "header": [
            *("attack", "served", "budget of a key", "keys", "split", "seeds", "answered"),
            *("tightened", "suspects", "mean W", "clone", "range, %"),
        ],
        "rows": lines,
    }


def told(found: Sequence[Measured]) -> list[str]:
    """What the figures say of monitors and budgets, in sentences."""
    sentences = []
    for attack in ("jbda", "knockoff"):
        parts = []
        for way in (watched(attack, 1), *(watched(attack, keys, "even") for keys in (4, 16, 64))):
            if same := _of(way, found):
                keys = "one key" if way.keys == 1 else f"{way.keys} keys"
                clone = 100 * _mean(same, lambda one: one.clone or 0.0)
                parts.append(
                    f"{100 * _mean(same, lambda one: one.share):.1f} % under {keys} "
                    f"({_mean(same, lambda one: one.suspects):.3g} suspected, clone {clone:.1f} %)"
                )
        if parts:
            sentences.append(
                f"Of the queries of `{attack}`, without budgets, the monitor tightened "
                + ", ".join(parts)
                + "."
            )
    bounded = [
        f"{_mean(same, lambda one: one.answered):,.0f} with {way.keys}"
        for way in (
            watched("jbda", 1, lifetime=LIFETIME),
            watched("jbda", 4, "even", lifetime=LIFETIME),
            watched("jbda", 16, "even", lifetime=LIFETIME),
        )
        if (same := _of(way, found))
    ]
    if _of(watched("jbda", 64, "even"), found):
        sentences.append(
            "*Tightened*: answered with labels only, because the key was suspected. A key is "
            f"judged by more than 100 distances: under 64 keys, {BUDGET // 64} queries each on "
            "average, few were."
        )
    if bounded:
        sentences.append(
            f"Of the {BUDGET:,} queries that `jbda` asked for, keys of {LIFETIME} samples each "
            f"were answered {', '.join(bounded)}."
        )
    few, free = (
        _of(watched("jbda", 1, lifetime=LIFETIME), found),
        _of(Way("jbda", "unwatched", None, 1), found),
    )
    if few and free:
        less, more = (100 * _mean(same, lambda one: one.clone or 0.0) for same in (few, free))
        sentences.append(
            f"Clones say little here: of {_mean(few, lambda one: one.answered):,.0f} answers one "
            f"came to {less:.1f} %, of {_mean(free, lambda one: one.answered):,.0f} to {more:.1f} "
            "%, since fewer images are seen more often; differences of two or three points between "
            "rows of one seed mean nothing."
        )
    twice = [
        _of(watched("jbda", 16, "even", lifetime=lifetime), found) for lifetime in (None, LIFETIME)
    ]
    if all(twice):
        shares = [f"{100 * _mean(same, lambda one: one.share):.1f}" for same in twice]
        sentences.append(
            f"Sixteen keys that share evenly are asked {BUDGET // 16} each on average, less than "
            "half of their budgets, so `jbda` under them was measured twice: that the monitor "
            f"tightened {' and '.join(shares)} % says how much hangs on which key is asked what."
        )
    return sentences


def _of(way: Way, found: Sequence[Measured]) -> list[Measured]:
    return [one for one in found if one.asked == way]


def _mean(found: Sequence[Measured], figure: Callable[[Measured], float]) -> float:
    return statistics.fmean(figure(one) for one in found)
