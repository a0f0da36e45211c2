"""Composite images from a small pool, at the price of what else the same queries buy.

    python -m benchmarks.composite_pools [--data-root DIR] [--seeds 3]
    python -m benchmarks.composite_pools --task cifar10 --bundle DIR/cifar10-resnet18/1

The composite paper's table 4 compares composite images with standard mimicking at eighty times as
many queries. Here every row of a comparison pays the same: 5,000 queries about a pool of 500 or
2,000 images, which a plain theft cannot even spend, spent on blends of 2, 3 or 5 of its images or
on views of them (turned, moved and scaled); and below them what the pool alone gives, each image
asked once. Seeds are the outer loop and every finished row is kept and written, so a run that is
stopped has whole seeds; it goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import torch

from attack_client.clone import CloneRecipe
from attack_client.contract import BlackBox, Pool
from attack_client.reference import Reference
from attack_client.report import Row, describe_environment
from attack_client.scoring import Evaluation, train_and_score
from attack_client.theft import steal
from attack_client.victim_input import TestSet, as_pool
from benchmarks.attack_victim import RECIPE, in_process, trained_victim
from benchmarks.envelope import RESULTS
from benchmarks.pool_setting import SETTINGS, Setting
from benchmarks.pool_tables import claim, compared
from benchmarks.pool_ways import BUDGET, POOLS, WAYS, Way
from models.bundle import Bundle, open_bundle
from models.datasets import load
from models.training.atomic import write_atomically
from models.training.device import choose_device


def planned(seeds: int, first: int = 0) -> Iterator[tuple[int, int, Way]]:
    """Seed, size of the pool and way; whole seeds first."""
    chosen = range(first, first + seeds)
    return ((seed, size, way) for seed in chosen for size in POOLS for way in WAYS)


def kept_at(out: Path, seed: int, size: int, way: Way) -> Path:
    """Where a finished row is kept."""
    name = f"{way.name} {way.labels} {size} {seed}"
    return out / "rows" / f"{name.replace(', ', '-').replace(' ', '-')}.json"


def measured(
    victim: BlackBox,
    pool: Pool,
    way: Way,
    setting: Setting,
    *,
    seed: int,
    evaluation: Evaluation,
    out: Path,
    device: torch.device | str = "cpu",
) -> Row:
    """Steal, train, measure."""
    size = len(pool.images)
    budget = BUDGET if way.whole else size
    attack = way.attack(seed)
    theft = out / "thefts" / f"{attack.kind}{way.parts}-{size}-{seed}"
    run = steal(victim, pool, attack, budget=budget, out=theft, resume=True, batch=256)
    with asyncio.run(run) as stolen:
        return train_and_score(
            stolen,
            budget=budget,
            labels=way.labels,
            recipe=CloneRecipe(
                architecture=setting.clone,
                presentations=setting.presentations,
                augment=setting.augment if way.augmented else "none",
            ),
            evaluation=evaluation,
            seed=seed,
            device=device,
            attack=f"{way.name} of {size:,} images",
        )


def small(pool: Pool, size: int, seed: int) -> Pool:
    """``size`` images of ``pool``, drawn anew for every seed."""
    rows = np.random.default_rng([seed, size]).choice(len(pool.images), size, replace=False)
    return Pool(f"{pool.name} ({size} images)", pool.images[rows], pool.labels[rows])


def measure(
    setting: Setting,
    bundle: Bundle,
    missing: Sequence[tuple[int, int, Way]],
    *,
    data_root: Path | None,
    device: torch.device,
    out: Path,
) -> Iterator[Row]:
    """The rows that are missing, each kept as soon as it is there."""
    spec = bundle.card.input
    victim = in_process(bundle, device=device)
    task = load(setting.task, root=data_root)
    test = TestSet.of(task, shape=spec.shape, classes=bundle.card.classes, spec=spec)
    evaluation = Evaluation(test=test, reference=Reference.of(bundle, test), defense="none")
    pool = as_pool(load(setting.pool, root=data_root), spec.shape)
    for seed, size, way in missing:
        row = measured(
            victim,
            small(pool, size, seed),
            way,
            setting,
            seed=seed,
            evaluation=evaluation,
            out=out,
            device=device,
        )
        path = kept_at(out, seed, size, way)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(row.model_dump_json(), encoding="utf-8")
        yield row


def kept(
    setting: Setting, victim: str, plan: Sequence[tuple[int, int, Way]], out: Path
) -> list[tuple[int, Way, Row]]:
    """The rows of ``plan`` that are kept below ``out``.

    Raises:
        UsageError: they are of another victim, task or clone.
    """
    found = []
    for seed, size, way in plan:
        path = kept_at(out, seed, size, way)
        if not path.is_file():
            continue
        row = Row.model_validate_json(path.read_bytes())
        if (row.dataset, row.clone, row.victim) != (setting.task, setting.clone, victim):
            raise click.UsageError(
                f"{out} holds {row.clone} clones of {row.victim} ({row.dataset}), not "
                f"{setting.clone} clones of {victim} ({setting.task}): choose another --out"
            )
        found.append((size, way, row))
    return found


def write(
    setting: Setting,
    found: Sequence[tuple[int, Way, Row]],
    command: Sequence[str],
    *,
    victim: str,
    planned_rows: int,
    device: str,
    path: Path,
) -> None:
    """``found`` as a result at ``path``."""
    document = {
        "schema": 1,
        "command": command,
        "environment": describe_environment(device),
        "notes": [
            f"The victim is {victim}; it answers in process, on the service's grid. "
            f"{setting.said}, anew for every seed; a clone is shown {setting.presentations:,} "
            "images, and its last epoch counts. `views` asks about every image of the pool and "
            "about it turned by up to 15 degrees, moved and scaled; `standard` asks about every "
            "image once, and cannot spend more.",
            claim(found),
            *(
                [f"{len(found)} of {planned_rows} rows were measured."]
                if len(found) < planned_rows
                else []
            ),
        ],
        "tables": [compared(size, [(w, r) for of, w, r in found if of == size]) for size in POOLS],
        "rows": [row.model_dump(mode="json") for _, _, row in found],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(document, indent=2) + "\n").encode())


@click.command()
@click.option("--task", type=click.Choice(list(SETTINGS)), default="mnist", show_default=True)
@click.option("--bundle", "given", type=click.Path(path_type=Path), help="The victim of that task.")
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 10))
@click.option("--first-seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--epochs", default=1, show_default=True, help="Of MNIST's victim; its recipe has 8.")
@click.option("--device", default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Default: below runs.")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--only-write", is_flag=True, help="Write what is there, measure nothing.")
def main(
    *,
    task: str,
    given: Path | None,
    data_root: Path | None,
    seeds: int,
    first_seed: int,
    epochs: int,
    device: str,
    out: Path | None,
    results: Path,
    only_write: bool,
) -> None:
    """Train, steal, measure, write."""
    setting = SETTINGS[task]
    if given is None and task != "mnist":
        raise click.UsageError(f"--bundle is needed: the victim of {task} is not trained here")
    chosen = choose_device(device)
    out = Path("runs") / setting.result if out is None else out
    command = ["python", "-m", "benchmarks.composite_pools", "--seeds", str(seeds)]
    command += ["--first-seed", str(first_seed)] if first_seed else []
    victim, told = RECIPE, f"the recipe `{RECIPE}`, its epochs set to {epochs}"
    if given is not None:
        victim = open_bundle(given).card.name
        told = f"the bundle {victim}"
        command += ["--task", task, "--bundle", f"DIR/{'/'.join(given.resolve().parts[-2:])}"]
    plan = list(planned(seeds, first_seed))
    later = f"-from-seed{first_seed}" if first_seed else ""

    def written() -> None:
        write(
            setting,
            kept(setting, victim, plan, out),
            command,
            victim=told,
            planned_rows=len(plan),
            device=str(chosen),
            path=results / f"{setting.result}{later}.json",
        )

    kept(setting, victim, plan, out)  # before anything is spent
    missing = [each for each in plan if not kept_at(out, *each).is_file()]
    if missing and not only_write:
        bundle = (
            trained_victim(out / "models", epochs=epochs, data_root=data_root)
            if given is None
            else open_bundle(given)
        )
        for row in measure(setting, bundle, missing, data_root=data_root, device=chosen, out=out):
            said = f"{row.attack} {row.labels} {row.seed} {100 * row.clone_accuracy:.2f} %\n"
            sys.stdout.write(said)
            sys.stdout.flush()
            written()
    written()


if __name__ == "__main__":
    main()
