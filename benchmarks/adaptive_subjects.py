"""What ``benchmarks.adaptive_attacks`` compares: defenses, and the add-ons meant to undo each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attack_client.report import Labels

__all__ = ["BUNDLES", "SUBJECTS", "Attempt", "Subject"]

MEMBERS = 3

BUNDLES: Mapping[str, Sequence[str]] = {
    "mnist-lenet": (),
    "mnist-lenet-oe": ("data.ood=kmnist_t10k",),
    "mnist-lenet-am": ("data.ood=kmnist_t10k",),
    "mnist-lenet-edm": (
        "data.ood=kmnist_t10k",
        "objective.ensemble.hash.data=kmnist_t10k",
        f"objective.ensemble.members={MEMBERS}",
    ),
}
"""Recipes that are trained, and what is changed in them."""

VIEWS = "augmentation-averaging:n=5"
REPEATS = "repeat-averaging:n=5"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A theft and what is added to it.

    Attributes:
        adapt: add-ons as texts.
        labels: what the clone learns from.
        budget: queries; None is that of the run.
    """

    adapt: tuple[str, ...] = ()
    labels: Labels = "soft"
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A defense and the attempts on it.

    Attributes:
        bundle: whose weights answer.
        chain: what the answers pass through.
        attempts: in the order of the table.
        invertible: whether the attacker is given the chain as a function.
    """

    bundle: str = "mnist-lenet"
    chain: Sequence[Mapping[str, Any]] = ()
    attempts: tuple[Attempt, ...] = field(default=())
    invertible: bool = False


def _soft(*adapted: str) -> tuple[Attempt, ...]:
    return tuple(Attempt(tuple(each.split("+"))) for each in adapted)


def _inverted(kind: str, attempts: Sequence[Attempt], **options: Any) -> Subject:
    chain = [{"kind": kind, **options}]
    return Subject(chain=chain, attempts=(Attempt(), *attempts), invertible=True)


SUBJECTS: Mapping[str, Subject] = {
    "none": Subject(
        attempts=(
            Attempt(),
            Attempt(labels="hard"),
            *_soft("semi-supervised", VIEWS),
            Attempt(budget=2000),
        )
    ),
    "reverse-sigmoid-1": _inverted(
        "reverse-sigmoid",
        _soft("recover", "partial-bayes", "sharpen", "dirichlet-recover"),
        beta=1.0,
    ),
    "mad": _inverted("mad", _soft("partial-bayes", "recover"), epsilon=1.0, oracle="argmax"),
    "mad-extreme": _inverted(
        "mad", (*_soft("partial-bayes", "recover"), Attempt(labels="hard")), epsilon=1.2
    ),
    "outlier-exposure": Subject(
        bundle="mnist-lenet-oe",
        attempts=(
            Attempt(),
            Attempt(labels="hard"),
            *_soft(
                "filter-confidence", "near-distribution", "filter-confidence:mode=weigh", "sharpen"
            ),
        ),
    ),
    "am": Subject(
        bundle="mnist-lenet-am",
        chain=[{"kind": "am", "threshold": 0.5}],
        attempts=(
            Attempt(),
            Attempt(labels="hard"),
            *_soft("filter-confidence", f"{VIEWS}+filter-confidence", "near-distribution", VIEWS),
        ),
    ),
    "stingy": Subject(
        chain=[{"kind": "stingy", "ratio": 0.2}], attempts=(Attempt(), *_soft("sparse-repair"))
    ),
    "reverse-sigmoid": _inverted("reverse-sigmoid", _soft("recover", "partial-bayes")),
    "rounding": _inverted("rounding", _soft("partial-bayes"), decimals=1),
    "modelguard-w": _inverted(
        "modelguard-w", _soft("partial-bayes:samples=50000,rounds=0"), epsilon=1.0
    ),
    "edm": Subject(
        bundle="mnist-lenet-edm",
        attempts=(Attempt(), Attempt(labels="hard"), *_soft(VIEWS, REPEATS)),
    ),
}
"""By the name of the defense, in the order of the table."""
