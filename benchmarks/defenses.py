"""What each defense costs the server, as ratios to the undefended forward pass in the same run.

    python -m benchmarks.defenses [--device cpu|cuda] [--threads 1] [--rounds 15] [--out DIR]

For LeNet and ResNet-18, batches of 1 and of 64, on every kind of device there is, a result for
each. A link is timed alone, on answers that are there already, and its ratio is (forward + link) /
forward; weights that were trained to resist and the ensemble are forward passes of their own,
compared with the plain one. Rounds are interleaved; a figure is the median over rounds, its spread
the quartiles; on one CPU thread the clock is that of the process, which stands still while others
have the core. Peak memory is what a fresh process that serves batches of 64 that way, and nothing
else, holds beyond its libraries. DeepDefense searches for every query, and is compared with the
plain form of its own search.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from benchmarks.bars import Bar, draw_bars
from benchmarks.clock import clock
from benchmarks.defenses_deep import DEEP_ROUNDS, deep_notes, deep_rows
from benchmarks.defenses_subjects import FORWARDS, LINKS, PLAIN, SHAPES, forward, queries, subjects
from benchmarks.envelope import IMAGES, RESULTS, Row, on_device, quantile, write
from benchmarks.peak_memory import most_resident
from defenses.contract import Queries
from server.served import ServedModel

BATCHES = (1, 64)
ROUNDS = 15
LEAST_S = 0.02
"""A round repeats a subject for at least this long."""

TARGETS = {
    "label-only": 1.02, "top-k": 1.02, "rounding": 1.02, "reverse-sigmoid": 1.02, "mad": 1.05,
    "am": 2.1, "am-skip-in-distribution": 1.2, "edm-5": 1.3, "modelguard-w": 1.3, "grad2": 1.3,
    "trained-in": 1.0,
}  # fmt: skip
"""The largest ratio that was aimed at, of a ResNet-18 and a batch of 64."""


def naive_mad(surrogate: nn.Module, images: Tensor) -> None:
    """The gradients that MAD's published procedure collects: K backward passes for each image."""
    last = [module for module in surrogate.modules() if isinstance(module, nn.Linear)][-1]
    last.weight.requires_grad_(True)
    for image in images:
        log = torch.log_softmax(surrogate(image[None])[0], dim=0)
        for one in log:
            torch.autograd.grad(one, last.weight, retain_graph=True)
    last.weight.requires_grad_(False)


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds of one call, the mean of as many as fill ``LEAST_S``."""
    calls, spent = 0, 0.0
    while spent < LEAST_S:
        began = clock(device)
        work()
        spent += clock(device) - began
        calls += 1
    return spent / calls


def measure(architecture: str, device: torch.device, root: Path, rounds: int) -> list[Row]:
    """All ratios of one architecture on one device."""
    found = subjects(architecture, root, device)
    channels, height, width = SHAPES[architecture]
    rows: list[Row] = []
    for batch in BATCHES:
        images = torch.rand(
            (batch, channels, height, width), generator=torch.Generator().manual_seed(0)
        ).to(device)
        asked = queries(images, forward(found.forwards[PLAIN], images))
        works: dict[str, Callable[[], object]] = {
            **{
                name: functools.partial(forward, model, images)
                for name, model in found.forwards.items()
            },
            **{
                name: functools.partial(_chain, model, asked) for name, model in found.links.items()
            },
            "mad-naive-jacobian": functools.partial(naive_mad, found.surrogate, images),
        }
        for work in works.values():  # warm caches
            work()
        taken: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for name, work in works.items():
                if name == "mad-naive-jacobian" and len(taken[name]) >= 3:
                    continue
                taken[name].append(seconds(device, work))
        workload = f"{architecture}-{height}x{width}-b{batch}-{device.type}"
        rows += [row for name in works for row in _rows(workload, name, taken)]
    return rows


def _chain(model: ServedModel, asked: Queries) -> None:
    with torch.no_grad():
        outcome = model.chain.run(asked)
    if outcome.failed.any():
        raise RuntimeError(f"{model.name} broke an invariant")


def _rows(workload: str, name: str, taken: Mapping[str, Sequence[float]]) -> list[Row]:
    """The time of a subject, and its ratio with quartiles."""
    plain = statistics.median(taken[PLAIN])
    rows = [Row("defenses", workload, name, "time", statistics.median(taken[name]), "s")]
    if name == PLAIN:
        return rows
    own = name in FORWARDS
    ratios = [(each if own else plain + each) / plain for each in taken[name]]
    middle = statistics.median(ratios)
    for metric, value in (
        ("ratio", middle),
        ("ratio, first quartile", quantile(ratios, 0.25)),
        ("ratio, third quartile", quantile(ratios, 0.75)),
    ):
        rows.append(Row("defenses", workload, name, metric, value, "x", PLAIN, value))
    return rows


def peak(architecture: str, name: str, root: str, device_name: str, threads: int) -> float:
    """MiB that a process needs at most, beyond its libraries, to serve batches of 64 so."""
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    before = most_resident()
    found = subjects(architecture, Path(root), device, only=name)
    model = {**found.forwards, **found.links}[name]
    images = torch.rand((max(BATCHES), *SHAPES[architecture])).to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        _chain(model, queries(images, forward(model, images)))
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return (most_resident() - before) / 2**20


def memory(architecture: str, device: torch.device, root: Path, threads: int) -> list[Row]:
    """Peak memory of every subject, each in a process of its own.

    On a GPU, where a process is asked what it allocated itself, several at once.
    """
    _, height, width = SHAPES[architecture]
    workload = f"{architecture}-{height}x{width}-b{max(BATCHES)}-{device.type}"
    names = (PLAIN, *FORWARDS, *LINKS)
    at_once = 1 if device.type == "cpu" else min(8, os.cpu_count() or 1)
    fresh = multiprocessing.get_context("spawn")
    with fresh.Pool(at_once, maxtasksperchild=1) as pool:
        asked = [(architecture, name, str(root), str(device), threads) for name in names]
        found = dict(zip(names, pool.starmap(peak, asked, chunksize=1), strict=True))
    return [
        Row(
            "defenses", workload, name, "memory", mib, "MiB", None if name == PLAIN else PLAIN,
            None if name == PLAIN else mib / found[PLAIN],
        )
        for name, mib in found.items()
    ]  # fmt: skip


def verdicts(rows: Sequence[Row]) -> list[str]:
    """What became of every target: met, met but for the spread of the measurement, or missed."""
    found = {
        (row.workload.rpartition("-")[2], row.subject, row.metric): row.value
        for row in rows
        if row.workload.startswith("resnet18-") and "-b64-" in row.workload
    }
    notes = []
    for (device, subject, metric), value in found.items():
        if metric != "ratio" or subject not in TARGETS:
            continue
        target, low = TARGETS[subject], found[device, subject, "ratio, first quartile"]
        spread = "met but for the spread of this measurement" if low <= target else "**missed**"
        notes.append(
            f"{subject}, ResNet-18, batch of 64, {device}: {value:.3f} times the undefended model; "
            f"at most {target:g} was aimed at: {'met' if value <= target else spread}."
        )
    return notes


def picture(rows: Sequence[Row], path: Path) -> None:
    """A bar for each defense at the larger batch, a colour for each network."""
    bars = [
        Bar(row.subject, row.workload, row.value)
        for row in rows
        if row.metric == "ratio" and f"-b{max(BATCHES)}-" in row.workload
    ]
    draw_bars(bars, path, axis="time of a batch of 64, times that of the undefended model")


@click.command()
@click.option(
    "--device",
    "kinds",
    type=click.Choice(["cpu", "cuda"]),
    multiple=True,
    help="Repeat for several.  [default: every kind there is]",
)
@click.option("--threads", default=1, show_default=True, help="CPU threads of one computation.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=ROUNDS,
    show_default=True,
    help="Of everything, in turn; few only show that it works.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where result and picture go, instead of to the committed ones.",
)
def main(kinds: Sequence[str], threads: int, rounds: int, out: Path | None) -> None:
    """Measure, print and keep the result."""
    torch.set_num_threads(threads)
    found = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    absent = [kind for kind in kinds if kind not in found]
    if absent:
        raise click.UsageError(f"--device {absent[0]}: PyTorch finds no such device here")
    for kind in kinds or found:
        device = torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
        rows: list[Row] = []
        with tempfile.TemporaryDirectory() as scratch:
            for architecture in SHAPES:
                root = Path(scratch) / architecture
                rows += measure(architecture, device, root, rounds)
                rows += memory(architecture, device, root, threads)
                sys.stdout.write(f"{architecture} on {device}: done\n")
                sys.stdout.flush()
            deep = deep_rows(Path(scratch) / "lenet", device, min(rounds, DEEP_ROUNDS))
        command = ["python", "-m", "benchmarks.defenses", "--device", kind]
        command += ["--threads", str(threads), "--rounds", str(rounds)]
        notes = [*verdicts(rows), *deep_notes(deep)]
        name = on_device("defenses", kind)
        write(name, command, [*rows, *deep], folder=out or RESULTS, notes=notes, device=str(device))
        folder = out or IMAGES
        folder.mkdir(parents=True, exist_ok=True)
        picture(rows, folder / f"{name}.png")


if __name__ == "__main__":
    main()
