"""Every defended set of weights against the attack that its paper uses, beside its controls.

    python -m benchmarks.defended_training [--scale small|full] [--jobs 1|2] [--only NAME,...]

MNIST victims are stolen with KnockoffNets from Fashion-MNIST, their strangers are KMNIST's test
images (``kmnist_t10k``); Fashion-MNIST victims are distilled with the very images that they were
trained on. The two families have a result each, and ``--only mnist`` or ``fashion`` does one.
Everything is done by the commands a user would type, for three seeds. A finished step is skipped:
a stopped run goes on where it was. InI's weights are chosen on validation images, with the first
seed: the largest that cost less than ``COST`` of accuracy against the plain model.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from attack_client.report import read_json
from benchmarks.defended_page import Finding, write_results
from benchmarks.defended_pieces import FORMS, SCALES, WEIGHTS, Piece, Scale, available, ini_at
from benchmarks.own_images import own_images, write_own_images
from intaglio.processes import serving
from models.bundle import read_card

SEEDS = (0, 1, 2)
COST = 0.005


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the whole benchmark.

    Attributes:
        out: where everything lies, a directory per seed below it.
        scale: how much of everything.
        jobs: commands at a time.
        only: names of pieces; empty for all.
    """

    out: Path
    scale: Scale
    jobs: int
    only: frozenset[str]

    def models(self, seed: int) -> Path:
        """Bundles of ``seed``."""
        return self.out / f"seed-{seed}" / "models"

    def report(self, piece: Piece, seed: int) -> Path:
        """What came of stealing ``piece``."""
        return self.out / f"seed-{seed}" / "attacks" / piece.name / "report.json"

    @property
    def own(self) -> Path:
        """The images that Fashion-MNIST's victims are trained on, for who has the same."""
        return self.out / "own-images.npz"

    def wanted(self, pieces: Sequence[Piece]) -> tuple[Piece, ...]:
        """Those that were asked for, and the undefended victims that they are measured against."""
        asked = [piece for piece in pieces if not self.only or self._asks(piece)]
        families = {piece.family for piece in asked}
        return tuple(
            piece
            for piece in pieces
            if piece in asked or (piece.defense == "none" and piece.family in families)
        )

    def _asks(self, piece: Piece) -> bool:
        """``mnist-ini`` asks for InI at every weight."""
        return bool({piece.name, piece.name.split("-x")[0], piece.family} & self.only)


def intaglio(command: Sequence[str]) -> None:
    """One command as a user types it; what it prints goes to the terminal."""
    sys.stdout.write("$ intaglio " + shlex.join(command) + "\n")
    sys.stdout.flush()
    subprocess.run([str(Path(sys.executable).with_name("intaglio")), *command], check=True)


def at_once(run: Run, steps: Sequence[Callable[[], None]]) -> None:
    """Do ``steps``, so many at a time as ``run`` allows; the first failure ends it."""
    with ThreadPoolExecutor(run.jobs) as pool:
        for done in [pool.submit(step) for step in steps]:
            done.result()


def train(run: Run, pieces: Sequence[Piece], seed: int) -> None:
    """The weights of ``pieces`` that are not there yet, undefended ones first."""
    models = run.models(seed)
    for plain in (True, False):
        absent = {
            piece.bundle: piece
            for piece in pieces
            if piece.plain == plain and not (models / piece.bundle).is_dir()
        }
        at_once(
            run,
            [
                lambda piece=piece: intaglio(piece.train(models, run.scale, seed))  # type: ignore[misc]
                for piece in absent.values()
            ],
        )


def steal(run: Run, pieces: Sequence[Piece], seed: int) -> None:
    """Serve those of ``pieces`` that have no report yet, and attack them."""
    todo = [piece for piece in pieces if not run.report(piece, seed).is_file()]
    if not todo:
        return
    models = run.models(seed)
    config = run.out / f"seed-{seed}" / "serve.yaml"
    served = {
        piece.name: {"victim": piece.bundle, "defenses": list(map(dict, piece.chain))}
        for piece in todo
    }
    secret = str((config.parent / "secret").resolve())
    config.write_text(
        yaml.safe_dump({"models": served, "threads": 1, "secret_file": secret}, sort_keys=False)
    )
    with serving(models, "--config", str(config), log=config.with_name("server.log")) as server:

        def attack(piece: Piece) -> None:
            out = run.report(piece, seed).parent
            command = piece.attack(models, out, run.scale, seed, run.own)
            intaglio([*command, "--url", server.url, "--resume", "--moved"])

        at_once(run, [lambda piece=piece: attack(piece) for piece in todo])  # type: ignore[misc]


def validation_accuracy(run: Run, piece: Piece, seed: int) -> float:
    """Of the victim of ``piece``, on the images its recipe holds out."""
    card = read_card(run.models(seed) / piece.bundle)
    # An ensemble's figures are of what is served, not of a member.
    measured = card.measured or card.networks["victim"].measured
    return next(figure.accuracy for figure in measured if figure.split == "validation")


def chosen_weight(run: Run, plain: Piece, name: str) -> float:
    """The largest weight of form ``name`` that costs less than ``COST`` on validation images.

    The smallest there is, where every one costs more.
    """
    bar = validation_accuracy(run, plain, SEEDS[0]) - COST
    cheap = [
        weight
        for weight in WEIGHTS
        if validation_accuracy(run, ini_at(name, weight), SEEDS[0]) >= bar
    ]
    return max(cheap, default=min(WEIGHTS))


def found(run: Run, piece: Piece, seed: int) -> Finding:
    """What ``piece`` came to."""
    report = run.report(piece, seed)
    verdicts = report.with_name("distillation.json")
    verdict = json.loads(verdicts.read_text())["verdicts"][-1] if verdicts.is_file() else None
    return Finding(
        piece=piece,
        seed=seed,
        rows=read_json(report).rows,
        validation=validation_accuracy(run, piece, seed),
        verdict=verdict,
    )


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/defended"))
@click.option("--scale", "scale_name", type=click.Choice(list(SCALES)), default="small")
@click.option("--jobs", type=click.IntRange(1, 2), default=1, help="Commands at a time.")
@click.option("--only", default="", metavar="NAME,...", help="mnist-ini, fashion-nasty, ...")
@click.option(
    "--until", type=click.Choice(["victims", "clones", "result"]), default="result",
    help="Stop after this phase.",
)  # fmt: skip
def main(
    *, data_root: Path | None, out: Path, scale_name: str, jobs: int, only: str, until: str
) -> None:
    """Train, serve, steal, report."""
    if data_root is not None:
        os.environ["INTAGLIO_DATA_ROOT"] = str(data_root)
    run = Run(out, SCALES[scale_name], jobs, frozenset(filter(None, only.split(","))))
    first = SEEDS[0]
    changes = tuple(run.scale.of_victim("fashion"))
    write_own_images(own_images("fashion-lenet", changes, data_root), run.own)
    fixed = run.wanted(available())
    curve = tuple(ini_at(name, weight) for name in FORMS for weight in WEIGHTS)
    curve = tuple(piece for piece in curve if not run.only or run._asks(piece))
    if curve and not fixed:
        fixed = tuple(piece for piece in available() if piece.name == "mnist-none")
    plain = next((piece for piece in fixed if piece.name == "mnist-none"), None)
    train(run, (*fixed, *curve), first)
    weights = {
        name: chosen_weight(run, plain, name)
        for name in FORMS
        if plain is not None and any(piece.defense.startswith(f"{name}-x") for piece in curve)
    }
    pieces = (*fixed, *(ini_at(name, weight) for name, weight in weights.items()))
    for seed in SEEDS[1:]:
        train(run, pieces, seed)
    if until == "victims":
        return
    steal(run, (*pieces, *curve), first)
    for seed in SEEDS[1:]:
        steal(run, pieces, seed)
    if until == "clones":
        return
    only_these = ["--only", only] if only else []
    write_results(
        [found(run, piece, seed) for piece in pieces for seed in SEEDS],
        [found(run, piece, first) for piece in curve],
        command=[
            "python", "-m", "benchmarks.defended_training", "--scale", scale_name, *only_these
        ],
        training=lambda piece: ["intaglio", *piece.train(run.models(first), run.scale, first)],
        weights=weights,
        scale=run.scale,
    )  # fmt: skip


if __name__ == "__main__":
    main()
