"""What a training step of each objective costs, against a plain step of the same network.

    python -m benchmarks.training [--quick] [--out DIR]

One thread. Steps of all objectives are taken in turn, round by round, in one process, so that
whatever slows the machine down slows them all; a figure is the median of its rounds. On a CPU the
clock is that of the process, which stands still while others have the core. Memory is the most that
a process of its own holds while it builds the networks and takes three steps, beyond what it held
before; on a GPU, the most that is allocated at once.
"""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from benchmarks.clock import clock
from benchmarks.envelope import IMAGES, RESULTS, Row, on_device, write
from benchmarks.peak_memory import most_resident
from benchmarks.training_picture import Bar, draw_costs
from benchmarks.training_subjects import MEMBERS, SUBJECTS, Step, Subject, Workload
from models.training.kept_memory import kept_memory

BASELINE = "plain"
TARGETS = {
    "am": 4.0, f"edm, {MEMBERS} members": 2.0 * MEMBERS, "ast, set given": 1.5,
    "ini": 6.5, "ini, pcgrad": 8.0,
}  # fmt: skip
"""How many plain steps a step of each was meant to cost at most."""

MIB = 2**20
# Workload and rounds; those of the deep network cost seconds each.
WORKLOADS = ((Workload("lenet", (1, 28, 28), 128), 11), (Workload("resnet18", (3, 32, 32), 16), 5))
QUICK = ((Workload("lenet", (1, 28, 28), 32), 3),)
STEPS_FOR_MEMORY = 3


def seconds(workload: Workload, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Of every subject, round by round; a first round counts for nothing."""
    steps = {name: Step(subject, workload, device) for name, subject in SUBJECTS.items()}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    with kept_memory(device):  # as in the loop
        for number in range(1 + rounds):
            for name, step in steps.items():
                began = clock(device)
                step()
                if number:
                    taken[name].append(clock(device) - began)
    return taken


def peak(subject: Subject, workload: Workload, device: torch.device) -> float:
    """Most memory in MiB that the networks, the data and a step hold at once."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        take_steps(subject, workload, device)
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    # Forked, so that a child starts with the libraries read in and nothing else.
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()

    def measure() -> None:
        before = most_resident()
        take_steps(subject, workload, device)
        found.put(most_resident() - before)

    process = context.Process(target=measure)
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"the process that measured memory ended with {process.exitcode}")
    return float(found.get()) / MIB


def take_steps(subject: Subject, workload: Workload, device: torch.device) -> None:
    """Enough that the optimiser has its state and gradients were freed and made again."""
    step = Step(subject, workload, device)
    with kept_memory(device):
        for _ in range(STEPS_FOR_MEMORY):
            step()


def rows_of(
    named: str, taken: dict[str, list[float]], memory: dict[str, float]
) -> tuple[list[Row], list[Bar]]:
    """The table, and the bars of its picture."""
    base = statistics.median(taken[BASELINE])
    rows, bars = [], []
    for name, values in taken.items():
        compared = name != BASELINE
        value = statistics.median(values)
        held = memory[name]

        def row(what: str, metric: str, figure: float, unit: str, of: float | None) -> Row:
            return Row(
                "training", named, what, metric, figure, unit,
                BASELINE if of is not None and compared else None,  # noqa: B023
                figure / of if of is not None and compared else None,  # noqa: B023
            )  # fmt: skip

        rows += [
            row(name, "time", 1000 * value, "ms", 1000 * base),
            row(
                f"{name}, slowest less fastest",
                "time",
                1000 * (max(values) - min(values)),
                "ms",
                None,
            ),
            row(name, "memory", held, "MiB", memory[BASELINE]),
        ]
        bars.append(Bar(name, value / base, min(values) / base, max(values) / base))
    return rows, bars


def verdicts(rows: Sequence[Row]) -> list[str]:
    """A sentence on every figure that was aimed at: met or missed."""
    return [
        f"{row.subject}, {row.workload}: {row.ratio:.2f} plain steps; at most "
        f"{TARGETS[row.subject]:g} was aimed at: "
        f"{'met' if row.ratio <= TARGETS[row.subject] else '**missed**'}."
        for row in rows
        if row.subject in TARGETS and row.metric == "time" and row.ratio is not None
    ]


@click.command()
@click.option("--quick", is_flag=True, help="A small batch and few rounds: to see that it works.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False),
    help="Where result and picture go, instead of to the committed ones.",
)  # fmt: skip
def main(quick: bool, out: Path | None) -> None:
    """Measure, print, draw and keep the result."""
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    workloads = QUICK if quick else WORKLOADS
    for subject in SUBJECTS.values():  # reads the libraries in, which set memory of theirs aside
        take_steps(subject, Workload("cnn-small", (1, 28, 28), 1), device)
    # Memory first: a child that is forked later would start with what this process had freed.
    memory = {
        workload: {name: peak(subject, workload, device) for name, subject in SUBJECTS.items()}
        for workload, _ in workloads
    }
    rows: list[Row] = []
    panels: dict[str, list[Bar]] = {}
    for workload, rounds in workloads:
        named = workload.named(device)
        more, panels[named] = rows_of(named, seconds(workload, rounds, device), memory[workload])
        rows += more
    command = ["python", "-m", "benchmarks.training", *(["--quick"] if quick else [])]
    name = on_device("training", device.type)
    notes = verdicts(rows)
    write(name, command, rows, folder=out or RESULTS, notes=notes, device=device.type)
    draw_costs(panels, (out or IMAGES) / f"{name}.png")


if __name__ == "__main__":
    main()
