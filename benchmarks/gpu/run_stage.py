"""One stage of ``reproduce.sh``: train, serve, steal, and leave behind rows and weights only."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from attack_client.report import Row, describe_environment, read_json
from benchmarks.gpu.stages import SMOKE, STAGES, Stage
from benchmarks.gpu.weights import pack, unpack
from intaglio.processes import serving
from models.bundle import read_card
from models.training.atomic import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a stage works.

    Attributes:
        given: rows and weights of earlier stages.
        work: everything else, of which nothing is kept.
        out: what is kept.
        seed: of training and theft.
    """

    given: Path
    work: Path
    out: Path
    seed: int


def shortened(stage: Stage, *, smoke: bool, epochs: int | None, clone_epochs: int | None) -> Stage:
    """``stage`` with other epochs, or on the bundled stand-ins with one epoch of everything."""
    stage = replace(
        stage, epochs=epochs or stage.epochs, clone_epochs=clone_epochs or stage.clone_epochs
    )
    if not smoke:
        return stage
    changes = [
        f"{key}={SMOKE.get(value, value)}"
        for key, _, value in (change.partition("=") for change in stage.changes)
    ]
    changes += ["architecture.name=cnn-small", "data.train_limit=400"]
    if stage.recipe is not None and not any(c.startswith("data.train=") for c in changes):
        changes.append(f"data.train={SMOKE[stage.test]}")
    if stage.recipe is not None and stage.recipe.endswith("-ast"):
        changes.append("objective.adversarial={epsilon: 0.3, step: 0.1, iterations: 2}")
    return replace(
        stage,
        changes=(*changes, "plan.augment=none"),
        epochs=1,
        clones=("cnn-small",),
        pool=SMOKE[stage.pool],
        test=SMOKE[stage.test],
        budget="100",
        clone_epochs=1,
    )


def intaglio(*command: str) -> list[str]:
    """Run one command; an installed script is not needed. Returns it as a user would type it."""
    sys.stdout.write("$ intaglio " + shlex.join(command) + "\n")
    sys.stdout.flush()
    program = "import sys; from intaglio.cli import main; sys.argv[0] = 'intaglio'; main()"
    subprocess.run([sys.executable, "-c", program, *command], check=True)
    return ["intaglio", *command]


def train(stage: Stage, place: Place) -> list[str]:
    """The victim of ``stage``."""
    assert stage.recipe is not None
    changes = [
        *stage.changes, f"name={stage.bundle}", "version=1", f"plan.epochs={stage.epochs}",
        f"plan.seed={place.seed}",
    ]  # fmt: skip
    sets = [part for change in changes for part in ("--set", change)]
    return intaglio("train", stage.recipe, "--out", str(place.work / "models"), *sets)


@dataclass(frozen=True, slots=True)
class Theft:
    """What one attack command came to."""

    command: list[str]
    rows: list[Row]
    verdicts: list[Any]


def steal(stage: Stage, place: Place) -> Iterator[Theft]:
    """A command per architecture and kind of labels, so that each is kept as soon as it is done."""
    models = place.work / "models"
    reference = next((name for name in stage.needs if not name.endswith("-ast")), stage.bundle)
    config = place.work / "serve.json"  # JSON is YAML
    config.write_text(
        json.dumps(
            {
                "models": {"victim": {"victim": f"{stage.bundle}/1", "defenses": []}},
                "secret_file": str(place.work / "secret"),
            }
        )
    )
    wanted = ("soft",) if stage.attack == "distil" else ("soft", "hard")
    first: Path | None = None
    with serving(models, "--config", str(config), log=place.work / "server.log") as server:
        for clone, labels in itertools.product(stage.clones, wanted):
            out = place.work / "attack" / f"{clone}-{labels}"
            if first is not None:  # the answers of the first clone serve the others
                shutil.copytree(first / "transfer", out / "transfer")
            first = first or out
            command = [
                "attack", stage.attack, "--labels", labels, "--model", "victim",
                "--pool", stage.pool, "--test", stage.test, "--budget", stage.budget,
                "--clone", clone, "--epochs", str(stage.clone_epochs), "--augment", stage.augment,
                "--reference", str(models / reference / "1"), "--defense", stage.defense,
                "--seed", str(place.seed), "--latency-requests", "0", "--out", str(out),
            ]  # fmt: skip
            run = intaglio(*command, "--url", server.url, "--resume")
            verdict = out / "distillation.json"
            said = [json.loads(verdict.read_text())] if verdict.is_file() else []
            rows = list(read_json(out / "report.json").rows)
            yield Theft(run, rows, [{"clone": clone, **one} for one in said])


def small_pools(stage: Stage, place: Place) -> None:
    """What small pools are worth against the victim of ``stage``; leaves a result of its own."""
    command = [
        "benchmarks.composite_pools", "--task", stage.test, "--seeds", "1",
        "--first-seed", str(place.seed),
        "--bundle", str(place.work / "models" / stage.bundle / "1"),
        "--out", str(place.work / "pools"), "--results", str(place.out),
    ]  # fmt: skip
    subprocess.run([sys.executable, "-P", "-m", *command], check=True)


def missing(stage: Stage, place: Place) -> list[str]:
    """Bundles of earlier stages that are not there, once those that are have been unpacked."""
    absent = []
    for name in stage.needs:
        card = place.given / f"{name}.card.json"
        if card.is_file():
            unpack(card, place.work / "models")
        if not (place.work / "models" / name / "1").is_dir():
            absent.append(name)
    return absent


def document(
    stage: Stage,
    commands: Sequence[Sequence[str]],
    rows: Sequence[Row],
    work: str,
    *,
    complete: bool,
    **more: Any,
) -> dict[str, Any]:
    """What a stage has to say; in its commands the scratch folder ``work`` is called WORK."""
    spent = [f"{stage.clone_epochs} epochs for a clone"] if stage.attack else []
    spent += [f"{stage.epochs} for the victim"] if stage.recipe is not None else []
    note = f"{stage.row}: {', '.join(spent)}"
    return {
        "schema": 1,
        "command": [[part.replace(work, "WORK") for part in command] for command in commands],
        "environment": describe_environment(more.pop("device")),
        "shortened": True,
        "row": stage.row,
        "seed": more.pop("seed"),
        "epochs": {
            "victim": stage.epochs or None,
            "clone": stage.clone_epochs if stage.attack else None,
            "published": stage.published_epochs,
        },
        "notes": [
            f"{note}; shortened from {stage.published_epochs}.",
            *([] if complete else [f"{stage.row} was cut off: rows are missing."]),
        ],
        "rows": [row.model_dump(mode="json") for row in rows],
        **more,
    }


@click.command()
@click.argument("name", type=click.Choice(list(STAGES)), metavar="STAGE")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="What is kept.")
@click.option("--in", "given", type=click.Path(path_type=Path), help="--out of earlier stages.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Scratch.")
@click.option("--seed", type=click.IntRange(min=0), default=0)
@click.option("--epochs", type=click.IntRange(min=1), envvar="EPOCHS")
@click.option("--clone-epochs", type=click.IntRange(min=1), envvar="CLONE_EPOCHS")
@click.option("--smoke", is_flag=True, help="Minutes become seconds, and figures nonsense.")
def main(
    *,
    name: str,
    out: Path,
    given: Path | None,
    work: Path,
    seed: int,
    epochs: int | None,
    clone_epochs: int | None,
    smoke: bool,
) -> None:
    """Run STAGE."""
    from models.training.device import choose_device

    began = time.monotonic()
    stage = shortened(STAGES[name], smoke=smoke, epochs=epochs, clone_epochs=clone_epochs)
    place = Place(given=given or out, work=work, out=out, seed=seed)
    absent = missing(stage, place)
    if absent:
        raise click.UsageError(
            f"{name} needs {', '.join(absent)}: run its stage first, and give what it left as --in"
        )
    out.mkdir(parents=True, exist_ok=True)
    if stage.attack == "small-pools":
        if clone_epochs is not None:
            raise click.UsageError(f"CLONE_EPOCHS: {name} shows its clones a number of images")
        small_pools(stage, place)
        return
    commands: list[list[str]] = []
    rows: list[Row] = []
    verdicts: list[Any] = []

    def keep(*, complete: bool) -> None:
        card = read_card(work / "models" / stage.bundle / "1")
        measured = [figure.model_dump(mode="json") for figure in card.networks["victim"].measured]
        result = document(
            stage,
            commands,
            rows,
            str(work),
            complete=complete,
            device=str(choose_device("auto")),
            seed=seed,
            smoke=smoke,
            victim=measured,
            verdicts=verdicts,
            seconds=round(time.monotonic() - began, 1),
        )
        text = json.dumps(result, indent=2) + "\n"
        write_atomically(out / f"gpu-{name}-seed{seed}.json", text.encode())

    if stage.recipe is not None:
        commands.append(train(stage, place))
        # Weights first: a stage that is cut off later has left what the next one needs.
        pack(work / "models" / stage.bundle / "1", out)
    if stage.attack:
        for theft in steal(stage, place):
            commands.append(theft.command)
            rows += theft.rows
            verdicts += theft.verdicts
            keep(complete=False)
    keep(complete=True)


if __name__ == "__main__":
    main()
