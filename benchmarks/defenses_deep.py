"""What a query costs behind DeepDefense: in ratios to the plain form of its search.

The plain form copies whole layers for each query and searches for one query at a time; it is what
the paper describes. The others make as many steps, for 32 queries side by side.
"""

from __future__ import annotations

import secrets
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.clock import clock
from benchmarks.envelope import Row, quantile
from benchmarks.workloads import write_random_bundle
from defenses.contract import Queries
from models.simplex import GRID, round_to_grid
from server.repository import load_models
from server.served import ServedModel
from server.settings import Settings

__all__ = ["DEEP_ROUNDS", "deep_notes", "deep_rows"]

BATCH = 32
DEEP_ROUNDS = 5
SHAPE = (1, 28, 28)
LAYERS = ["network.features.3.weight", "network.classifier.0.weight"]
"""Those with nine tenths of the sensitivity in a LeNet that was trained on MNIST."""

PLAIN = "dd-s, full weights, one at a time"
S: Mapping[str, Any] = {"kind": "dd-s", "layers": LAYERS}
DD: Mapping[str, Any] = {"kind": "deepdefense", "layers": LAYERS}
FULL = {"weights": "full"}
SUBJECTS: Mapping[str, tuple[Mapping[str, Any], str, int]] = {
    # by name: the link, the interpreter, how many queries at once
    PLAIN: ({**S, **FULL}, "grad-cam", 1),
    "dd-s, full weights, batch of 32": ({**S, **FULL}, "grad-cam", BATCH),
    "dd-s, low rank, one at a time": (S, "grad-cam", 1),
    "dd-s, low rank, batch of 32": (S, "grad-cam", BATCH),
    "deepdefense, Grad-CAM, batch of 32": (DD, "grad-cam", BATCH),
    "deepdefense, Gradient x Input, batch of 32": (DD, "gradient-x-input", BATCH),
}
LOW_RANK = "dd-s, low rank, batch of 32"
LEAST_FASTER = {"cpu": 3.0, "cuda": 10.0}
MOST_MS = 20.0


def deep_rows(root: Path, device: torch.device, rounds: int) -> list[Row]:
    """Seconds per query, and ratios to the plain form, of a LeNet on one device."""
    if not (root / "deep").is_dir():
        write_random_bundle(root, "deep", "lenet", SHAPE, classes=10, roles=("victim",), seed=7)
    named = {f"deep-{index}": name for index, name in enumerate(SUBJECTS)}
    served: dict[str, Any] = {
        key: {
            "victim": "deep",
            "defenses": [dict(SUBJECTS[name][0])],
            "explanations": {"interpreter": SUBJECTS[name][1], "unprotected": True},
        }
        for key, name in named.items()
    }
    settings = Settings(model_dir=root, secret=secrets.token_hex(16), models=served)
    models = {named[model.name]: model for model in load_models(settings, device)}
    works = {
        name: partial(_answer, model, _queries(model, SUBJECTS[name][2], device))
        for name, model in models.items()
    }
    taken: dict[str, list[float]] = defaultdict(list)
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(_seconds(device, work) / SUBJECTS[name][2])
    plain = statistics.median(taken[PLAIN])
    workload = f"lenet-28x28-deep-{device.type}, per query"
    rows = []
    for name, each in taken.items():
        rows.append(Row("defenses", workload, name, "time", statistics.median(each), "s"))
        if name != PLAIN:
            ratios = [one / plain for one in each]
            rows += [
                Row("defenses", workload, name, metric, value, "x", PLAIN, value)
                for metric, value in (
                    ("ratio", statistics.median(ratios)),
                    ("ratio, first quartile", quantile(ratios, 0.25)),
                    ("ratio, third quartile", quantile(ratios, 0.75)),
                )
            ]
    return rows


def deep_notes(rows: list[Row]) -> list[str]:
    """Whether the low-rank form is as fast as it was meant to be, a sentence each."""
    notes = []
    for row in rows:
        if row.subject != LOW_RANK or row.metric not in {"time", "ratio"}:
            continue
        device = row.workload.partition(",")[0].rpartition("-")[2]
        if row.metric == "ratio":
            least, found = LEAST_FASTER[device], 1.0 / row.value
            met = "met" if found >= least else "**missed**"
            notes.append(
                f"{LOW_RANK}, {device}: {found:.0f} times as fast as the plain form one at a time; "
                f"at least {least:g} was aimed at: {met}."
            )
        elif device == "cpu":
            found = 1e3 * row.value
            met = "met" if found < MOST_MS else "**missed**"
            notes.append(
                f"{LOW_RANK}, {device}: {found:.1f} ms per query; below {MOST_MS:g} was aimed at: "
                f"{met}."
            )
    return notes


def _queries(model: ServedModel, count: int, device: torch.device) -> Queries:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((count, *SHAPE), generator=generator).to(device)
    with torch.inference_mode():
        said = round_to_grid(model.victim.logits(images).float().softmax(dim=1), GRID)
    none = torch.zeros(count, dtype=torch.bool, device=device)
    return Queries(images, torch.arange(count, device=device), none, said.clone())


def _answer(model: ServedModel, asked: Queries) -> None:
    with torch.no_grad():
        outcome = model.chain.run(asked)
    if outcome.failed.any():
        raise RuntimeError(f"{model.name} broke an invariant")


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    began = clock(device)
    work()
    return clock(device) - began
