"""The result of ``benchmarks.teacher_forms``: what is said of the figures, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.defended_page import spread
from benchmarks.envelope import Row
from benchmarks.few_labels import LABELLED
from benchmarks.teacher_forms_pieces import AST, FORMS, PLAIN, Found, Seen

__all__ = ["NAME", "alphas_of", "rows_of", "sentences", "survived", "table_of"]

NAME = "teacher-forms"
ALPHA = "objective.options.alpha"
LABELS_ALONE = "the labels alone"
NOTHING = "no difference that holds with every seed"


def differences(own: Sequence[Seen], other: Sequence[Seen], what: str) -> list[float]:
    """Points by which ``own`` lies above ``other``, seed by seed."""
    return [100 * (getattr(a, what) - getattr(b, what)) for a, b in zip(own, other, strict=True)]


def survived(of: Sequence[Seen | None]) -> list[Seen] | None:
    """Those of every seed; None if training was lost with one of them."""
    found = [one for one in of if one is not None]
    return found if len(found) == len(of) else None


def sentences(found: Found) -> list[str]:
    """What there is to defend, what each teacher leaves of it, and which changes matter."""
    plain = survived(found[PLAIN])
    assert plain is not None, "plain training survives"
    gains = [100 * (one.student - one.scratch) for one in plain]
    said = [
        f"A plain teacher adds {_listed(gains)} points to {LABELLED} labels, by seed"
        + ("." if min(gains) > 0.0 else ": **with some seed there is nothing to defend.**")
    ]
    for name, of in found.items():
        form, own = FORMS[name], survived(of)
        if name == PLAIN:
            continue
        if own is None:
            lost = [str(seed) for seed, one in enumerate(of) if one is None]
            said.append(f"{name}: training did not survive with seed {', '.join(lost)}.")
            continue
        other = survived(found[form.against])
        assert other is not None, "what is shipped survives"
        held = [
            f"{more if values[0] > 0 else less} with every seed ({_listed(values)} points)"
            for what, more, less in (
                ("benign", "is more accurate", "is less accurate"),
                ("student", "leaves a student more", "leaves a student less"),
            )
            for values in [differences(own, other, what)]
            if min(values) > 0 or max(values) < 0
        ]
        than = "plain" if form.against == PLAIN else "as shipped"
        said.append(f"{name}, against {than}: {' and '.join(held) or NOTHING}.")
    return said


def table_of(found: Found) -> dict[str, Any]:
    """A line per teacher, and one for the student who has none."""
    plain = survived(found[PLAIN])
    assert plain is not None, "plain training survives"
    lines = []
    for name, of in found.items():
        own = survived(of)
        if own is None:
            lines.append([name, *["lost"] * 4])
            continue
        gap = differences(own, plain, "student")
        entropies = spread(one.entropy / 100 for one in own)
        lines.append([name, *_means(own, "benign", "student"), _listed(gap), entropies])
    alone = [100 * (one.scratch - one.student) for one in plain]
    lines.append([LABELS_ALONE, "-", *_means(plain, "scratch"), _listed(alone), "-"])
    return {
        "title": f"Fashion-MNIST, students of {LABELLED} labelled images, mean and standard "
        "deviation over seeds; accuracies in percent",
        "header": ["teacher", "benign", "best student", "less the plain teacher's", "entropy"],
        "rows": lines,
    }


def rows_of(found: Found) -> list[Row]:
    """Every figure."""
    return [
        Row(NAME, f"fashion, {LABELLED} labels, seed {seed}", f"{name}, {what}", metric,
            getattr(one, what), unit)
        for name, of in found.items()
        for seed, one in enumerate(of)
        if one is not None
        for what, metric, unit in (
            ("benign", "share", "accuracy"), ("student", "share", "accuracy"),
            ("scratch", "share", "accuracy"), ("entropy", "entropy", "base-10 digits"),
        )
    ]  # fmt: skip


def alphas_of(found: Found) -> dict[float, list[Seen]]:
    """AST's teachers by their alpha alone, in order."""
    by_alpha: dict[float, list[Seen]] = {}
    for name, of in found.items():
        own, options = survived(of), FORMS[name].changes
        if own is None or FORMS[name].recipe != FORMS[AST].recipe:
            continue
        if not options or (len(options) == 1 and options[0].startswith(f"{ALPHA}=")):
            alpha = FORMS[name].trained("any", 0).objective.options["alpha"]
            by_alpha[float(str(alpha))] = own
    return dict(sorted(by_alpha.items()))


def _means(of: Sequence[Seen], *what: str) -> list[str]:
    return [spread(getattr(one, each) for one in of) for each in what]


def _listed(points: Sequence[float]) -> str:
    return ", ".join(f"{value:+.1f}" for value in points)
