"""One transfer set, one budget, one kind of labels: one clone, one row."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attack_client.adaptive.contract import PLAIN, Harvest, Tuition
from attack_client.answer_quality import accuracy_by_class, calibration_error
from attack_client.clone import CloneRecipe
from attack_client.clone_cache import CloneCache
from attack_client.honest import Honest
from attack_client.predictions import agreement, hard_labels, predict
from attack_client.reference import Reference
from attack_client.report.schema import Labels, Row
from attack_client.transfer_set import TransferSet
from attack_client.victim_input import TestSet
from models.training.progress import Reporter

__all__ = ["Evaluation", "clone_seed", "learnable", "score", "train_and_score"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Evaluation:
    """Against what clones are measured; the same for every row about one victim.

    Attributes:
        test: the victim's own task.
        honest: what honest callers are served, where it was measured.
        reference: the plain model, where it is known.
        defense: what the victim is defended by, where it is known.
        price_per_thousand: of a thousand queries, where it is known.
    """

    test: TestSet
    honest: Honest | None = None
    reference: Reference | None = None
    defense: str | None = None
    price_per_thousand: float | None = None


def train_and_score(
    stolen: TransferSet,
    *,
    budget: int,
    labels: Labels,
    recipe: CloneRecipe,
    evaluation: Evaluation,
    seed: int = 0,
    device: torch.device | str = "cpu",
    reporter: Reporter | None = None,
    cache: CloneCache | None = None,
    harvest: Harvest | None = None,
    tuition: Tuition = PLAIN,
    attack: str | None = None,
) -> Row:
    """Train a clone on the first ``budget`` answers of ``stolen`` and measure it.

    Args:
        stolen: open for reading; must hold that many answers.
        budget: the prefix; smaller budgets cost no new theft.
        labels: the answers as they are, or their argmax.
        recipe: of the clone.
        evaluation: what to measure it against.
        seed: of the attack. The clone's own is derived from it and does not depend on defense,
            budget or labels, so that rows differ in nothing else.
        device: where to train.
        reporter: told of the training.
        cache: shared by the rows of a table, so that no clone is trained twice.
        harvest: what add-ons made of that prefix, where there are any.
        tuition: how the clone learns, where add-ons change it.
        attack: what the row calls the attack, where its kind does not say enough.

    Raises:
        TransferSetError: there are fewer answers than ``budget``.
        ModelsError: the clone cannot be built or trained.
    """
    images, answers = stolen.prefix(budget)
    harvest = Harvest.of(images, answers) if harvest is None else harvest
    cache = CloneCache() if cache is None else cache
    clone = cache.train(
        harvest.images,
        learnable(harvest, labels),
        classes=stolen.provenance.classes,
        recipe=recipe,
        seed=clone_seed(seed),
        device=device,
        reporter=reporter,
        tuition=tuition,
    )
    return score(
        clone,
        stolen,
        images,
        labels=labels,
        recipe=recipe,
        evaluation=evaluation,
        seed=seed,
        device=device,
        attack=attack,
        training_seconds=cache.seconds,
    )


def clone_seed(seed: int) -> int:
    """A clone's own seed: it depends on nothing but the attack's."""
    return zlib.crc32(f"clone {seed}".encode())


def learnable(harvest: Harvest, labels: Labels) -> NDArray[np.float32] | NDArray[np.int64]:
    """What a clone learns: answers ``(M, K)``, or labels ``(M,)``.

    One-hot answers are labels, whatever they are called. Cross-entropy is linear in its targets,
    so what counts for less is a target below 1.
    """
    answers, weights = harvest.answers, harvest.weights
    hard = labels == "hard" or bool((answers.max(axis=1) == 1.0).all())
    if bool((weights == 1.0).all()):
        return hard_labels(answers) if hard else answers
    if hard:
        answers = np.eye(answers.shape[1], dtype=np.float32)[hard_labels(answers)]
    return answers * weights[:, np.newaxis]


def score(
    clone: nn.Module,
    stolen: TransferSet,
    images: NDArray[np.uint8],
    *,
    labels: Labels,
    recipe: CloneRecipe,
    evaluation: Evaluation,
    seed: int,
    device: torch.device | str = "cpu",
    attack: str | None = None,
    training_seconds: float | None = None,
) -> Row:
    """Measure a trained clone.

    Args:
        clone: on ``device``.
        stolen: open for reading.
        images: ``(N, C, H, W)``: the first N that were asked about, which the clone learnt from.
        labels: which side of the answers it learnt from.
        recipe: of the clone.
        evaluation: what to measure it against.
        seed: of the attack.
        device: where the clone is.
        attack: what the row calls the attack, where its kind does not say enough.
        training_seconds: what the clone took to train, where it was trained for this row.
    """
    budget = len(images)
    paid = stolen.paid(budget) * stolen.provenance.cost
    price = evaluation.price_per_thousand
    test, honest, reference = evaluation.test, evaluation.honest, evaluation.reference
    said = predict(clone, test.images, device=device)
    clone_accuracy = agreement(said, test.labels)
    plain = None if reference is None else reference.probabilities
    served = None if honest is None else honest.served
    victim_accuracy = None if plain is None else agreement(plain, test.labels)
    return Row(
        dataset=test.name,
        victim=stolen.provenance.model,
        pool=stolen.provenance.pool,
        clone=recipe.architecture,
        defense=evaluation.defense,
        attack=attack or stolen.provenance.attack,
        labels=labels,
        budget=budget,
        queries=budget,
        unique_queries=_distinct(images),
        sent=stolen.sent(budget) * stolen.provenance.cost,
        paid=paid,
        seed=seed,
        victim_accuracy=victim_accuracy,
        benign_accuracy=None if honest is None else honest.accuracy,
        benign_l1=None if plain is None or served is None else _mean_l1(plain, served),
        latency_p50_ms=None if honest is None else honest.latency_p50_ms,
        latency_p99_ms=None if honest is None else honest.latency_p99_ms,
        evaluation_queries=0 if honest is None else honest.queries,
        clone_accuracy=clone_accuracy,
        relative_accuracy=clone_accuracy / victim_accuracy if victim_accuracy else None,
        fidelity=None if plain is None else agreement(said, hard_labels(plain)),
        fidelity_served=None if served is None else agreement(said, hard_labels(served)),
        class_accuracy=accuracy_by_class(said, test.labels),
        victim_class_accuracy=None if plain is None else accuracy_by_class(plain, test.labels),
        clone_ece=calibration_error(said, test.labels),
        victim_ece=None if plain is None else calibration_error(plain, test.labels),
        served_ece=None if served is None else calibration_error(served, test.labels),
        theft_seconds=stolen.seconds(budget),
        training_seconds=training_seconds,
        cost=None if price is None else price * paid / 1000,
    )


def _distinct(images: NDArray[np.uint8]) -> int:
    return len({image.tobytes() for image in images})


def _mean_l1(plain: NDArray[np.float32], served: NDArray[np.float32]) -> float:
    """Mean over rows, in [0, 2]; float error above 2 is cut."""
    difference = np.abs(plain.astype(np.float64) - served).sum(axis=1)
    return min(2.0, float(difference.mean()))
