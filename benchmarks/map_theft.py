"""Theft with maps: what explanations give away behind each defense, and what defending them costs.

    python -m benchmarks.map_theft MODELS --data-root DIR [--queries 3000] [--name NAME]

MODELS holds ``mnist-lenet``, ``mnist-lenet-am`` and ``mnist-lenet-edm`` of the shipped recipes. A
LeNet is cloned from images of Fashion-MNIST by what the engine serves of each: answers alone, and
answers with Grad-CAM maps by the attack ``attribution``; judged on MNIST's test images, by which
nothing was chosen. Average Drop is that of the victim's score where all but the 15 % of an image
that a map points at are black, on the first test images: by the victim's own map and by the one
that leaves, with a paired t-test. A stopped run goes on where it was, in ``--out``.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ttest_rel
from torch import Tensor, nn

from attack_client.attacks.attribution_objective import Mirror, Mirroring, as_pictures
from attack_client.clone import CloneRecipe, train_clone
from benchmarks.bars import Bar, draw_bars
from benchmarks.envelope import IMAGES, Row, write
from models.datasets import load
from models.explain import Extent
from models.training.evaluate import accuracy, probabilities
from server.engine import Engine
from server.metrics import Metrics
from server.repository import load_models
from server.served import ServedModel
from server.settings import Settings

BENCHMARK = "map-theft"
LAMBDA = 1.0
CLASSES = 10
SHOWN = 0.15
"""Share of an image that a map points at, as in the paper."""

DD: Mapping[str, Any] = {"kind": "deepdefense"}
PLAIN = "mnist-lenet"
SERVED: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]] = {
    "none": (PLAIN, []),
    "label-only": (PLAIN, [{"kind": "label-only"}]),
    "mad": (PLAIN, [{"kind": "mad", "epsilon": 1.0, "oracle": "argmax"}]),
    "am": ("mnist-lenet-am", [{"kind": "am", "benign_cost": 0.01}]),
    "edm": ("mnist-lenet-edm", []),
    "dd-s": (PLAIN, [{"kind": "dd-s"}]),
    "dd-i": (PLAIN, [{"kind": "dd-i"}]),
    "deepdefense": (PLAIN, [DD]),
    "deepdefense, k: 3": (PLAIN, [{**DD, "k": 3}]),
    "deepdefense, k: 5": (PLAIN, [{**DD, "k": 5}]),
    "deepdefense, sensitivity: 0.5": (PLAIN, [{**DD, "sensitivity": 0.5}]),
}
"""Whose weights answer, and the chain."""

VARIANTS = tuple(name for name in SERVED if ", " in name)

Answers = tuple[NDArray[np.float32], NDArray[np.float32], float]
"""Probabilities ``(n, K)``, maps ``(n, h, w)``, seconds of CPU."""


class Kept:
    """Figures that need not be computed twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, float] = (
            json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        )

    def figure(self, name: str, compute: Callable[[], float]) -> float:
        """The figure of that name, computed now if it never was."""
        if name not in self._known:
            self._known[name] = compute()
            self._path.write_text(json.dumps(self._known, indent=2) + "\n", encoding="utf-8")
            sys.stderr.write(f"{name}: {self._known[name]:.4f}\n")
        return self._known[name]


def serve(models: Path, names: Sequence[str]) -> tuple[Engine, dict[str, ServedModel]]:
    """Everything of that name as the server loads it, maps included."""
    shown = {"interpreter": "grad-cam", "unprotected": True}
    served: dict[str, Any] = {
        name.replace(", ", "-").replace(": ", "-").replace(".", ""): {
            "victim": SERVED[name][0],
            "defenses": [dict(link) for link in SERVED[name][1]],
            "explanations": shown,
        }
        for name in names
    }
    settings = Settings(model_dir=models, secret=secrets.token_hex(16), models=served)
    loaded = {model.name: model for model in load_models(settings, torch.device("cpu"))}
    # Seeds of a fixed key: the figures can be measured again.
    engine = Engine(torch.device("cpu"), secret=b"a benchmark's secret", metrics=Metrics())
    return engine, {name: loaded[key] for name, key in zip(names, served, strict=True)}


def ask(
    engine: Engine, model: ServedModel, images: NDArray[np.uint8], place: Path | None
) -> Answers:
    """What leaves for ``images``, asked 64 at a time; from ``place`` if it was asked before."""
    if place is not None and place.is_file():
        with np.load(place) as found:
            return found["said"], found["maps"], float(found["spent"])
    began = time.process_time()
    parts = [
        engine.run(model, [images[at : at + 64]], np.ones(len(images[at : at + 64]), np.bool_))
        for at in range(0, len(images), 64)
    ]
    spent = time.process_time() - began
    maps = np.concatenate([part.attributions for part in parts if part.attributions is not None])
    said = np.concatenate([part.probabilities for part in parts])
    if place is not None:
        np.savez(place, said=said, maps=maps, spent=spent)
    return said, maps, spent


def pointed_at(maps: NDArray[np.float32], extent: Extent, size: tuple[int, int]) -> Tensor:
    """The ``SHOWN`` of each image ``(n, 1, H, W)`` where its map is greatest, as a mask."""
    lines = [
        _positions(length, count, first, last)
        for length, count, first, last in (
            (size[0], maps.shape[1], extent.top, extent.bottom),
            (size[1], maps.shape[2], extent.left, extent.right),
        )
    ]
    raised = torch.from_numpy(maps).double()
    large = (lines[0] @ raised @ lines[1].T).flatten(1)
    best = large.topk(round(SHOWN * large.shape[1]), dim=1).indices
    return torch.zeros_like(large).scatter(1, best, 1.0).reshape(-1, 1, *size).float()


def _positions(length: int, count: int, first: float, last: float) -> Tensor:
    """Bilinear weights ``(length, count)`` of a map's positions at pixels; none outside it."""
    pixels = np.arange(length) + 0.5
    places = (pixels - first) / (last - first) * count - 0.5
    weights = np.stack([np.interp(places, np.arange(count), row) for row in np.eye(count)], axis=1)
    covered = (pixels > first) & (pixels < last)
    return torch.from_numpy(np.where(covered[:, None], weights, 0.0))


def drops(network: nn.Module, images: NDArray[np.uint8], masks: Tensor) -> NDArray[np.float64]:
    """``relu(y - y')/y`` of each image, y the victim's score of its label."""
    pixels = torch.from_numpy(images) / 255.0
    with torch.no_grad():
        said, masked = (network(shown).softmax(dim=1) for shown in (pixels, pixels * masks))
    score, label = said.max(dim=1)
    left = masked.gather(1, label[:, None])[:, 0]
    found: NDArray[np.float64] = ((score - left).clamp(min=0) / score).double().numpy()
    return found


def average_drop(
    model: ServedModel, images: NDArray[np.uint8], own: Answers, shown: Answers
) -> list[Row]:
    """Average Drop of the victim's own maps and of those that leave, over what shows both."""
    extent = model.map_extent
    if extent is None:
        raise RuntimeError(f"{model.name} serves no maps")
    both = own[1].any(axis=(1, 2)) & shown[1].any(axis=(1, 2))
    size = (images.shape[2], images.shape[3])
    network = model.victim.module(0)
    one, other = (
        drops(network, images[both], pointed_at(maps[both], extent, size))
        for maps in (own[1], shown[1])
    )
    workload = f"mnist-test-{len(images)}"
    withheld = float((own[1].any(axis=(1, 2)) & ~shown[1].any(axis=(1, 2))).mean())
    return [
        Row(BENCHMARK, workload, "deepdefense", "share", withheld, "of maps withheld"),
        Row(BENCHMARK, workload, "none", "distance", float(one.mean()), "Average Drop"),
        Row(BENCHMARK, workload, "deepdefense", "distance", float(other.mean()), "Average Drop",
            "none", float(other.mean() / one.mean())),
        Row(BENCHMARK, workload, "deepdefense", "share", float(ttest_rel(one, other).pvalue),
            "p of a paired t-test of Average Drop"),
    ]  # fmt: skip


def thefts(name: str) -> list[tuple[str, str, float]]:
    """Attackers on the answers of ``name``: how called, which labels, lambda."""
    with_maps = ("answers and maps", "soft", LAMBDA)
    if name in VARIANTS:
        return [with_maps]
    if name == "dd-i":  # its answers are those of none
        return [with_maps]
    if name == "deepdefense":
        return [("answers", "soft", 0.0), with_maps, ("labels and maps", "hard", LAMBDA)]
    return [("answers", "soft", 0.0), with_maps]


def clone_accuracy(
    images: NDArray[np.uint8],
    targets: NDArray[np.float32] | NDArray[np.int64],
    maps: NDArray[np.float32],
    *,
    weight: float,
    presentations: int,
    test: tuple[Tensor, Tensor],
) -> float:
    """Test accuracy of a clone of answers ``(N, K)`` or labels ``(N,)``, and of maps by weight."""
    told: dict[str, Any] = {}
    if weight:
        channels, height, width = images.shape[1:]
        told = {
            "objective": partial(Mirroring, mirror=Mirror(weight=weight)),
            "paired": as_pictures(maps, (channels, height, width)),
        }
    recipe = CloneRecipe(architecture="lenet", presentations=presentations)
    clone = train_clone(images, targets, classes=CLASSES, recipe=recipe, seed=0, **told)
    return accuracy(probabilities(clone, test[0]), test[1])


def picture(rows: Sequence[Row], path: Path) -> None:
    """A bar for each clone of the largest theft, a colour for each attacker."""
    thefts = [row for row in rows if row.unit == "of test images"]
    largest = max(thefts, key=lambda row: int(row.workload.rpartition("-")[2])).workload
    bars = []
    for row in thefts:
        if row.workload == largest:
            subject, _, attacker = row.subject.rpartition(": ")
            bars.append(Bar(subject, attacker, 100 * row.value))
    draw_bars(bars, path, axis="accuracy of the clone, percent", logarithmic=False)


@click.command()
@click.argument("models", type=click.Path(exists=True, path_type=Path))
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--queries", "budgets", multiple=True, type=int, default=(3000,), show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(SERVED)), help="Of what is served.")
@click.option("--presentations", default=30_000, show_default=True)
@click.option("--honest", default=1000, show_default=True, help="Test images of honest callers.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/map-theft"))
@click.option("--name", default=BENCHMARK, show_default=True, help="Of the result's file.")
def main(
    *,
    models: Path,
    data_root: Path | None,
    budgets: tuple[int, ...],
    only: tuple[str, ...],
    presentations: int,
    honest: int,
    out: Path,
    name: str,
) -> None:
    """Measure everything; write results/NAME.json."""
    torch.set_num_threads(1)
    names = [each for each in SERVED if not only or each in only]
    engine, served = serve(models, names)
    kept = Kept(out / "figures.json")
    mnist = load("mnist", root=data_root)
    pool = load("fashion_mnist", root=data_root).train_images
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0)).numpy()
    test = (torch.from_numpy(mnist.test_images), torch.from_numpy(mnist.test_labels))
    rows: list[Row] = []
    honest_answers: dict[str, Answers] = {}
    for subject, model in served.items():
        told = ask(engine, model, mnist.test_images[:honest], out / f"{model.name}-honest.npz")
        honest_answers[subject] = told
        right = float((told[0].argmax(axis=1) == mnist.test_labels[:honest]).mean())
        rows.append(
            Row(BENCHMARK, f"mnist-test-{honest}", subject, "share", right, "of labels right")
        )
    if {"none", "deepdefense"} <= served.keys():
        given = mnist.test_images[:honest]
        pair = (honest_answers["none"], honest_answers["deepdefense"])
        rows += average_drop(served["deepdefense"], given, *pair)
    for budget in budgets:
        images = pool[order[:budget]]
        workload = f"mnist-from-fashion-{budget}"
        for subject, model in served.items():
            said, maps, spent = ask(engine, model, images, out / f"{model.name}-{budget}.npz")
            each = 1e3 * spent / budget
            rows.append(Row(BENCHMARK, workload, subject, "time", each, "ms of CPU per query"))
            for attacker, labels, weight in thefts(subject):
                targets = said if labels == "soft" else said.argmax(axis=1).astype(np.int64)
                clone = partial(
                    clone_accuracy, images, targets, maps,
                    weight=weight, presentations=presentations, test=test,
                )  # fmt: skip
                figure = f"{workload}, {presentations} presentations: {subject}, {attacker}"
                value = kept.figure(figure, clone)
                title = f"{subject}: {attacker}"
                rows.append(Row(BENCHMARK, workload, title, "share", value, "of test images"))
    command = ["python", "-m", "benchmarks.map_theft", str(models)]
    command += [part for budget in budgets for part in ("--queries", str(budget))]
    command += [part for each in only for part in ("--only", each)]
    command += ["--presentations", str(presentations), "--honest", str(honest)]
    write(name, command, rows)
    IMAGES.mkdir(parents=True, exist_ok=True)
    picture(rows, IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
