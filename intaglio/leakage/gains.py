"""What add-ons added: the best of them on each defense, beside the same attack without one."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from attack_client.report.schema import Labels, Row
from intaglio.leakage.matrix import Matrix

__all__ = ["GAIN_HEADS", "Gain", "cells_of_gain", "gains"]

GAIN_HEADS = ("defense", "queries", "without", "best add-on", "with it", "gain", "seeds")


@dataclass(frozen=True, slots=True)
class Gain:
    """The best add-on on one defense: the one that added most on the seeds it was tried on.

    Attributes:
        defense: name in the table.
        attack: name of the entry with the add-on.
        labels: what its clones learn from.
        budget: queries allowed, alike for both.
        accuracy: mean of its clones.
        bare: mean of the better clones of the same attack without add-ons, over the same seeds,
            from labels of either kind; None where it was not measured.
        bare_labels: what those learn from.
        seeds: how many both have.
    """

    defense: str
    attack: str
    labels: Labels
    budget: int
    accuracy: float
    bare: float | None
    bare_labels: Labels | None
    seeds: int


def gains(matrix: Matrix, rows: Sequence[Row]) -> Iterator[Gain]:
    """One for each defense that an add-on was tried on, in order; at its largest such budget.

    The strongest attack of a defense may have had five times the queries of its add-ons, and says
    nothing of what they undo: that is only seen beside the same attack with as many.
    """
    adapted = {name for name, entry in matrix.attacks.items() if entry.adapt}
    for defense in matrix.defenses:
        own = [row for row in rows if row.defense == defense and row.queries]
        tried = [row for row in own if row.attack in adapted]
        budget = max((row.budget for row in tried), default=0)
        candidates = _means(tried, budget)
        if not candidates:
            continue
        attack, labels = _best(matrix, candidates, own, budget)
        by_seed = candidates[attack, labels]
        bare, bare_labels = _better(_plain(matrix, attack, own, budget), by_seed)
        mean = statistics.fmean(by_seed.values())
        yield Gain(defense, attack, labels, budget, mean, bare, bare_labels, len(by_seed))


def _best(
    matrix: Matrix,
    candidates: Mapping[tuple[str, Labels], Mapping[int, float]],
    own: Sequence[Row],
    budget: int,
) -> tuple[str, Labels]:
    """The one that added most on the seeds that all have, or else on its own.

    Most are tried on one seed and the best on all: none may lose because it was repeated on a seed
    whose victim leaks less.
    """
    shared = set.intersection(*(set(by_seed) for by_seed in candidates.values()))

    def worth(key: tuple[str, Labels]) -> tuple[bool, float]:
        by_seed = {seed: of for seed, of in candidates[key].items() if seed in (shared or {seed})}
        bare, _ = _better(_plain(matrix, key[0], own, budget), by_seed)
        return bare is not None, statistics.fmean(by_seed.values()) - (bare or 0.0)

    return max(candidates, key=worth)


def _plain(
    matrix: Matrix, attack: str, own: Sequence[Row], budget: int
) -> dict[tuple[str, Labels], dict[int, float]]:
    alike = _without(matrix, attack)
    return _means([row for row in own if row.attack in alike], budget)


def cells_of_gain(gain: Gain) -> tuple[str, ...]:
    """Text under ``GAIN_HEADS``."""
    return (
        gain.defense,
        f"{gain.budget:,}",
        "-" if gain.bare is None else f"{100 * gain.bare:.1f} {gain.bare_labels}",
        f"{gain.attack}, {gain.labels}",
        f"{100 * gain.accuracy:.1f}",
        "-" if gain.bare is None else f"{100 * (gain.accuracy - gain.bare):+.1f}",
        str(gain.seeds),
    )


def _means(rows: Sequence[Row], budget: int) -> dict[tuple[str, Labels], dict[int, float]]:
    """Clone accuracy by attack and labels, then by seed."""
    found: dict[tuple[str, Labels], dict[int, float]] = {}
    for row in rows:
        if row.budget == budget:
            found.setdefault((row.attack, row.labels), {})[row.seed] = row.clone_accuracy
    return found


def _better(
    plain: Mapping[tuple[str, Labels], Mapping[int, float]], seeds: Collection[int]
) -> tuple[float, Labels] | tuple[None, None]:
    """The better mean of either kind of labels over just these ``seeds``, and which labels."""
    means: list[tuple[float, Labels]] = [
        (statistics.fmean(of[seed] for seed in seeds), labels)
        for (_, labels), of in plain.items()
        if set(seeds) <= of.keys()
    ]
    return max(means, default=(None, None))


def _without(matrix: Matrix, name: str) -> set[str]:
    """Entries that are the attack ``name`` but for its add-ons."""
    entry = matrix.attacks[name]
    return {
        other
        for other, candidate in matrix.attacks.items()
        if not candidate.adapt
        and (candidate.attack or other) == (entry.attack or name)
        and (candidate.pool, candidate.options, candidate.augment, candidate.learn)
        == (entry.pool, entry.options, entry.augment, entry.learn)
    }
