"""Charts as SVG text: they take their colours from the page, light or dark, and need no library."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

__all__ = ["COLOURS", "dots", "legend", "lines"]

COLOURS = (
    "var(--ink)",
    "#d55e00",
    "#2f8fd0",
    "#009e73",
    "#cc79a7",
    "#c98a00",
    "#56b4e9",
    "#8a6fd1",
)
"""Okabe and Ito's colours, a little darker or lighter where one page must show them on both."""

DASHES = ("", "5 3", "2 2", "8 3 2 3", "1 4", "10 4")
WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 40, 20, 12, 34

Point = tuple[float, float]


def styles() -> Iterator[tuple[str, str]]:
    """Colour and dashes of the first line, the second, ...: forty-eight that differ."""
    return itertools.cycle((colour, dash) for dash in DASHES for colour in COLOURS)


def legend(names: Sequence[str]) -> str:
    """The names of lines beside a piece of each."""
    items = [
        f'<span><svg viewBox="0 0 26 10" aria-hidden="true"><line x1="1" x2="25" y1="5" y2="5" '
        f'stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"/></svg>'
        f"{escape(name)}</span>"
        for name, (colour, dash) in zip(names, styles(), strict=False)
    ]
    return f'<p class="legend">{"".join(items)}</p>'


def lines(
    series: Mapping[str, Sequence[tuple[float, float, float, float]]],
    *,
    title: str,
    across: str,
    level: float | None = None,
) -> str:
    """Shares in percent against a logarithmic axis, with a band from the least to the most.

    Args:
        series: by name ``(x, low, mean, high)`` each, x above 0; equal names of several charts
            look alike where all of them have all names in one order.
        title: above the chart.
        across: what x is.
        level: a dashed line over the whole width, in percent.
    """
    xs = sorted({x for points in series.values() for x, *_ in points})
    low, high = (math.log10(xs[0]), math.log10(xs[-1])) if xs else (0.0, 1.0)
    if high - low < 0.05:
        low, high = low - 0.5, high + 0.5

    def at(x: float, y: float) -> Point:
        share = (math.log10(x) - low) / (high - low)
        return _place(share, y / 100)

    drawn = [_grid()]
    for x in _apart(xs):
        px, _ = at(x, 0)
        drawn.append(_text(px, HEIGHT - BOTTOM + 14, f"{x:,.0f}", "middle"))
    if level is not None:
        (x1, y1), (x2, _) = _place(0, level / 100), _place(1, level / 100)
        drawn.append(
            f'<line class="level" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y1:.1f}"/>'
        )
    for points, (colour, dash) in zip(series.values(), styles(), strict=False):
        if len(points) > 1 and any(lowest != highest for _, lowest, _, highest in points):
            there = [at(x, highest) for x, _, _, highest in points]
            back = [at(x, lowest) for x, lowest, _, _ in reversed(points)]
            drawn.append(f'<polygon fill="{colour}" opacity=".15" points="{_path(there + back)}"/>')
        middle = [at(x, mean) for x, _, mean, _ in points]
        drawn.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" '
            f'stroke-dasharray="{dash}" points="{_path(middle)}"/>'
        )
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.8" fill="{colour}"/>' for x, y in middle]
    return _figure(drawn, title, across)


def dots(
    points: Sequence[tuple[str, float, float]],
    *,
    full: frozenset[str],
    title: str,
    across: str,
) -> str:
    """Named dots, percent upwards; those of ``full`` are filled, the others rings.

    Args:
        points: ``(name, x, y)`` each, y in percent.
        full: names of filled ones.
        title: above the chart.
        across: what x is.
    """
    xs, ys = [x for _, x, _ in points], [y for *_, y in points]
    span = (max(xs) - min(xs)) or 1.0
    left, right = min(xs) - 0.12 * span, max(xs) + 0.12 * span
    low, high = 10.0 * math.floor(min(ys) / 10 - 0.3), min(100.0, 10.0 * math.ceil(max(ys) / 10))
    high = max(high, low + 20.0)
    step = 5.0 if high - low <= 30 else 10.0 if high - low <= 60 else 20.0
    drawn = []
    for number in range(int((high - low) / step) + 1):
        drawn.append(_rule(low + number * step, number * step / (high - low)))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = min(xs) + share * (max(xs) - min(xs))
        px, _ = _place((value - left) / (right - left), 0)
        if share == 0 or span > 0:
            drawn.append(_text(px, HEIGHT - BOTTOM + 14, f"{value:.2g}", "middle"))
    taken: list[Point] = []
    for name, x, y in sorted(points, key=lambda point: -point[2]):
        px, py = _place((x - left) / (right - left), (y - low) / (high - low))
        fill = "#2f8fd0" if name in full else "none"
        drawn.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.6" fill="{fill}" stroke="#2f8fd0" '
            f'stroke-width="1.5"><title>{escape(name)}: {x:.3g}, {y:.1f} %</title></circle>'
        )
        # Names of dots that lie together go below each other; to the left of dots on the right.
        height = py
        while any(abs(height - other) < 9 and abs(px - beside) < 90 for beside, other in taken):
            height += 3.0
        taken.append((px, height))
        ends = px > LEFT + 0.55 * (WIDTH - LEFT - RIGHT)
        drawn.append(
            _text(px - 6 if ends else px + 6, height + 3, name, "end" if ends else "start")
        )
    return _figure(drawn, title, across)


def _figure(drawn: Sequence[str], title: str, across: str) -> str:
    label = _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, across, "middle")
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(drawn)}{label}</svg></figure>"
    )


def _grid() -> str:
    return "".join(_rule(percent, percent / 100) for percent in (0, 25, 50, 75, 100))


def _rule(percent: float, up: float) -> str:
    (x1, y), (x2, _) = _place(0, up), _place(1, up)
    line = f'<line class="grid" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(LEFT - 5, y + 3, f"{percent:.0f} %", "end")


def _place(across: float, up: float) -> Point:
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return LEFT + across * width, TOP + (1 - up) * height


def _apart(xs: Sequence[float]) -> list[float]:
    """Ticks at least a factor 1.5 apart, the last kept."""
    kept: list[float] = []
    for x in reversed(xs):
        if not kept or x * 1.5 <= kept[-1]:
            kept.append(x)
    return kept


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
