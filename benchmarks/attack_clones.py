"""From a step of ``benchmarks.attack_curves`` to its rows."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from attack_client.attacks.attribution_clone import train_attribution_clone
from attack_client.attacks.distil import Distil
from attack_client.attacks.distil_student import SCRATCH, Heard, row_of_scratch, teach
from attack_client.attacks.knockoff import Knockoff
from attack_client.clone import CloneRecipe
from attack_client.contract import BlackBox, Pool
from attack_client.http_victim import HttpVictim
from attack_client.report import Row
from attack_client.report.schema import Labels
from attack_client.scoring import Evaluation, score, train_and_score
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from attack_client.victim_input import as_pool
from benchmarks.attack_steps import MOST, Step
from benchmarks.attack_victim import SHAPE
from intaglio.processes import serving
from models.datasets import load

__all__ = ["PRESENTATIONS", "over_http", "stolen_rows"]

PRESENTATIONS = 20_000
"""Images that a clone is shown."""


def stolen_rows(
    step: Step, seed: int, victim: BlackBox, evaluation: Evaluation, out: Path
) -> list[Row]:
    """Steal, train, measure."""
    pool = as_pool(load(step.pool), SHAPE)
    attack = step.attack(seed=seed)
    run = steal(victim, pool, attack, budget=step.budget, out=out, resume=True, batch=256)
    rows = []
    with asyncio.run(run) as stolen:
        for labels, budgets in step.clones:
            for budget in budgets:
                make = _row if step.lesson is None else partial(_student, pool)
                row = make(step, stolen, evaluation, budget=budget, labels=labels, seed=seed)
                changes = {"published_queries": attack.published_queries(budget)}
                rows.append(row.model_copy(update=changes))
                sys.stdout.write(f"{step.name} {seed} {labels} {budget} {row.clone_accuracy}\n")
                sys.stdout.flush()
    return rows


def _row(
    step: Step,
    stolen: TransferSet,
    evaluation: Evaluation,
    *,
    budget: int,
    labels: Labels,
    seed: int,
) -> Row:
    """One clone."""
    recipe = CloneRecipe(
        architecture="lenet",
        presentations=PRESENTATIONS,
        augment=step.augment,
        per_epoch=step.attack(seed=seed).per_epoch,
    )
    if step.matching is None:
        return train_and_score(
            stolen,
            budget=budget,
            labels=labels,
            recipe=recipe,
            evaluation=evaluation,
            seed=seed,
            attack=step.name,
        )
    clone = train_attribution_clone(
        stolen, budget=budget, labels=labels, recipe=recipe, matching=step.matching, seed=seed
    )
    return score(
        clone,
        stolen,
        stolen.prefix(budget)[0],
        labels=labels,
        recipe=recipe,
        evaluation=evaluation,
        seed=seed,
        attack=step.name,
    )


def _student(
    pool: Pool,
    step: Step,
    stolen: TransferSet,
    evaluation: Evaluation,
    *,
    budget: int,
    labels: Labels,
    seed: int,
) -> Row:
    """One student, of the teacher and of labels that are the pool's own."""
    assert step.lesson is not None, "a step of students"
    recipe = CloneRecipe(architecture="lenet", presentations=PRESENTATIONS)
    images, answers = stolen.prefix(budget)
    truth = pool.labels[Distil(seed=seed).order(len(pool.images))[:budget]]
    heard = Heard(images, answers, np.ones(budget, dtype=np.float32), truth)
    taught = teach(heard, step.lesson, labels, recipe=recipe, seed=seed, device="cpu")
    row = score(
        taught.student,
        stolen,
        images,
        labels=labels,
        recipe=recipe,
        evaluation=evaluation,
        seed=seed,
        attack=step.name,
    )
    return row_of_scratch(row) if step.lesson == SCRATCH else row


def over_http(models: Path, out: Path, here: Path, evaluation: Evaluation) -> dict[str, Any]:
    """KnockoffNets from a server, beside the same theft in process."""
    pool = as_pool(load("fashion_mnist"), SHAPE)

    async def run(url: str) -> TransferSet:
        async with HttpVictim(url, "mnist-lenet") as victim:
            return await steal(
                victim, pool, Knockoff(), budget=MOST, out=out, resume=True, moved=True, batch=256
            )

    with serving(models, log=out.with_suffix(".log")) as server:
        stolen = asyncio.run(run(server.url))
    recipe = CloneRecipe(architecture="lenet", presentations=PRESENTATIONS)
    with stolen, TransferSet.read(here) as local:
        asked, said = stolen.prefix(MOST)
        asked_here, said_here = local.prefix(MOST)
        row = train_and_score(
            stolen, budget=MOST, labels="soft", recipe=recipe, evaluation=evaluation
        )
        return {
            "same_images": bool((asked == asked_here).all()),
            "largest_difference": float(abs(said - said_here).max()),
            "clone_accuracy": row.clone_accuracy,
        }
