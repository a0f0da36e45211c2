"""What the figures of ``benchmarks.defended_training`` say of the papers' claims, in sentences."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["against_control", "worth_of_teachers"]

CONTROL = "outlier-exposure"
PLAIN = "none"


def against_control(best: Mapping[str, Sequence[float]]) -> list[str]:
    """Whether a trained defense beats its control, seed by seed.

    Args:
        best: accuracy of the better clone, by defense, in the same order of seeds.
    """
    if CONTROL not in best:
        return []
    sentences = []
    for name, figures in best.items():
        if not name.startswith("ini") or len(figures) != len(best[CONTROL]):
            continue
        gaps = [100 * (own - other) for own, other in zip(figures, best[CONTROL], strict=True)]
        listed = ", ".join(f"{gap:+.1f}" for gap in gaps)
        if max(gaps) < 0.0:
            said = "it beats its control with every seed"
        elif min(gaps) < 0.0:
            mean = statistics.fmean(gaps)
            said = f"{mean:+.1f} on average, and neither better nor worse with every seed: no claim"
        else:
            said = (
                "**it does not beat its control here**: the paper's claim does not carry over to "
                "this scale"
            )
        sentences.append(
            f"`{name}` against outlier exposure alone, points of its better clone by seed: "
            f"{listed}; {said}."
        )
    return sentences


def worth_of_teachers(
    distilled: Mapping[str, Iterable[float | None]], scratch: Sequence[float]
) -> list[str]:
    """What distilling adds to the labels that the attacker owns.

    Args:
        distilled: accuracy of the chosen student, by defense, in the same order of seeds.
        scratch: of the student of the labels alone.
    """
    sentences = []
    for name, given in distilled.items():
        figures = list(given)
        if len(figures) != len(scratch) or any(figure is None for figure in figures):
            continue
        gains = [100 * ((own or 0.0) - alone) for own, alone in zip(figures, scratch, strict=True)]
        mean = statistics.fmean(gains)
        listed = ", ".join(f"{gain:+.2f}" for gain in gains)
        sentence = f"Distilling `{name}` adds {mean:+.2f} points to the labels alone ({listed})"
        if name == PLAIN and min(gains) <= 0.0:
            sentence += (
                ": **even the undefended teacher teaches hardly anything that the labels do not**, "
                "so this scale can neither show nor refute what Nasty, sparse and adversarial "
                "sparse teachers are for"
            )
        sentences.append(sentence + ".")
    return sentences
