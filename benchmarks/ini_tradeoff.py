"""What InI leaves a thief against what it costs honest callers, over its weights; and its controls.

    python -m benchmarks.ini_tradeoff [--data-root DIR] [--out runs/ini-tradeoff]

MNIST victims with KMNIST's test images as strangers, stolen with Fashion-MNIST by clones that learn
probabilities or their argmax. Every setting is tried with the first seed. Of each curve the setting
that costs most, but no more than ``COST`` of accuracy on the images that the recipes hold out, is
repeated with the other seeds: neither a clone nor a test image chooses it. A stopped run goes on
where it was.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
import torch

from attack_client.report import describe_environment
from benchmarks.envelope import IMAGES, RESULTS
from benchmarks.ini_points import CURVES, SCALE, Point, Scale, Seen, measure
from benchmarks.ini_tradeoff_page import draw, rows_of, sentences, tables_of

SEEDS = (0, 1, 2)
COST = 0.005
NAME = "ini-tradeoff"


def chosen(curve: str, first: dict[Point, Seen]) -> Point:
    """The largest setting of ``curve`` that costs at most ``COST`` on validation images.

    The smallest there is, where every one costs more.
    """
    least = first[Point("none", 0.0)].validation - COST
    own = [point for point in first if point.curve == curve]
    cheap = [point for point in own if first[point].validation >= least]
    return max(cheap, key=lambda point: point.setting, default=min(own, key=lambda p: p.setting))


def collect(
    out: Path, data_root: Path | None, scale: Scale = SCALE
) -> tuple[dict[Point, Seen], dict[Point, list[Seen]]]:
    """Every point with the first seed; and those that were chosen, with all of them."""

    def seen(point: Point, seed: int) -> Seen:
        found = measure(point, seed, out=out, data_root=data_root, scale=scale)
        click.echo(f"{point.name}, seed {seed}: {found}")
        return found

    first: dict[Point, Seen] = {}
    repeated: dict[Point, list[Seen]] = {}
    for curve, settings in CURVES.items():
        first |= {point: seen(point, SEEDS[0]) for point in (Point(curve, at) for at in settings)}
        point = chosen(curve, first)
        repeated[point] = [seen(point, seed) for seed in SEEDS]
    return first, repeated


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/ini-tradeoff"))
def main(data_root: Path | None, out: Path) -> None:
    """Train, steal, report."""
    torch.set_num_threads(1)
    first, repeated = collect(out, data_root)
    document = {
        "schema": 1,
        "command": ["python", "-m", "benchmarks.ini_tradeoff"],
        "environment": describe_environment(),
        "notes": [f"Scale: {json.dumps(asdict(SCALE))}.", *sentences(repeated)],
        "tables": tables_of(first, repeated),
        "rows": [asdict(row) for row in rows_of(first, repeated)],
    }
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / f"{NAME}.json"
    kept.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    draw(first, repeated, IMAGES / f"{NAME}.png")
    click.echo(f"wrote {kept}")


if __name__ == "__main__":
    main()
