"""Who serves maps of MNIST's digits, and what they answer: asked once, kept in pieces."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from server.engine import Engine
from server.metrics import Metrics
from server.repository import load_models
from server.served import ServedModel
from server.settings import Settings

__all__ = ["COMPARED", "SERVED", "Answers", "ask", "serve"]

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

COMPARED = ("none", "label-only", "mad", "am", "edm", "dd-s", "dd-i")
"""Those that are robbed with every budget and seed."""

PIECE = 500
"""Queries whose answers are written down together."""

Answers = tuple[NDArray[np.float32], NDArray[np.float32], float]
"""Probabilities ``(n, K)``, maps ``(n, h, w)``, seconds of CPU."""


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
    engine: Engine, model: ServedModel, images: NDArray[np.uint8], folder: Path | None
) -> Answers:
    """What leaves for ``images``; what ``folder`` holds of it was asked before, of these images."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, len(images), PIECE):
        piece = images[start : start + PIECE]
        place = None if folder is None else folder / f"{start}-{start + len(piece)}.npz"
        if place is not None and place.is_file():
            with np.load(place) as found:
                parts.append((found["said"], found["maps"], float(found["spent"])))
            continue
        parts.append(_asked(engine, model, piece))
        if place is not None:
            said, maps, spent = parts[-1]
            unfinished = place.with_suffix(".part.npz")
            np.savez(unfinished, said=said, maps=maps, spent=spent)
            unfinished.replace(place)
            sys.stderr.write(f"{model.name}: {start + len(piece)} of {len(images)} answers\n")
    answers, explained, seconds = zip(*parts, strict=True)
    return np.concatenate(answers), np.concatenate(explained), sum(seconds)


def _asked(engine: Engine, model: ServedModel, images: NDArray[np.uint8]) -> Answers:
    """64 at a time, as a client asks."""
    began = time.process_time()
    parts = [
        engine.run(model, [images[at : at + 64]], np.ones(len(images[at : at + 64]), np.bool_))
        for at in range(0, len(images), 64)
    ]
    spent = time.process_time() - began
    maps = np.concatenate([part.attributions for part in parts if part.attributions is not None])
    return np.concatenate([part.probabilities for part in parts]), maps, spent
