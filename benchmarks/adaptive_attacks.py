"""Every add-on against the defenses that it is meant to undo, beside what it is added to.

    python -m benchmarks.adaptive_attacks [--only none,mad] [--seeds 1] [--kept]

MNIST victims (LeNet, 12,000 training images), stolen with Fashion-MNIST by KnockoffNets with 10,000
queries in all, whatever an add-on makes of them. Victims answer in this process. A finished row is
kept: a stopped run goes on where it was, and ``--kept`` writes the result of what is finished.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from attack_client.adaptive.adaptations import Adaptations
from attack_client.adaptive.contract import Knowledge
from attack_client.adaptive.theft import adaptation_seed, unasked
from attack_client.attacks.knockoff import Knockoff
from attack_client.clone import CloneRecipe
from attack_client.contract import Pool, Reply, VictimFacts
from attack_client.honest import measure_honest
from attack_client.reference import Reference
from attack_client.report import Row, describe_environment
from attack_client.scoring import Evaluation, train_and_score
from attack_client.theft import steal
from attack_client.victim_input import TestSet, as_pool
from benchmarks.adaptive_subjects import BUNDLES, SUBJECTS, Attempt, Subject
from benchmarks.envelope import RESULTS
from defenses.contract import Queries
from intaglio.known_defenses import chain as known_chain
from models.bundle import open_bundle
from models.datasets import load
from models.simplex import GRID, round_to_grid
from models.training.data import to_unit
from server.repository import load_models
from server.seeds import query_seeds
from server.served import ServedModel
from server.settings import Settings

BUDGET = 10_000
TRAINED = ("data.train_limit=12000", "plan.epochs=4")
RECIPE = CloneRecipe(architecture="lenet", presentations=30_000)
PLAIN = "mnist-lenet"


class InProcess:
    """A served model as a black box, without a socket between."""

    def __init__(self, served: ServedModel) -> None:
        shape = served.card.input.shape
        self.facts = VictimFacts("http://victim", served.name, shape, served.card.classes)
        self._served = served

    async def query(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> Reply:
        """What leaves the chain."""
        del key, sending
        with torch.inference_mode():
            shown = to_unit(torch.tensor(images))
            said = self._served.victim.logits(shown).float().softmax(dim=1)
            outcome = self._served.chain.run(
                Queries(
                    images=shown,
                    seeds=torch.from_numpy(query_seeds(b"benchmark", self._served.weights, images)),
                    explain=torch.zeros(len(images), dtype=torch.bool),
                    victim=round_to_grid(said, GRID),
                )
            )
        if bool(outcome.failed.any()):
            raise RuntimeError(f"{self._served.name} broke an invariant")
        return Reply(np.asarray(outcome.answers.probabilities.numpy(), dtype=np.float32))


def train(models: Path, wanted: Collection[str], seed: int) -> None:
    """The bundles that are not there yet, by the command a user would type."""
    for recipe, changes in BUNDLES.items():
        if recipe not in wanted or (models / recipe).is_dir():
            continue
        sets = [f"--set={change}" for change in (*TRAINED, *changes, f"plan.seed={seed}")]
        command = ["train", recipe, *sets, "--out", str(models)]
        sys.stdout.write("$ intaglio " + " ".join(command) + "\n")
        sys.stdout.flush()
        subprocess.run([str(Path(sys.executable).with_name("intaglio")), *command], check=True)


def serve(models: Path, names: Collection[str]) -> Mapping[str, InProcess]:
    """Victims by their defenses."""
    settings = Settings(
        model_dir=models,
        secret=secrets.token_hex(16),
        models={
            name: {
                "victim": f"{SUBJECTS[name].bundle}/1",
                "defenses": list(SUBJECTS[name].chain),
            }
            for name in names
        },
    )
    served = load_models(settings, torch.device("cpu"))
    return {model.name: InProcess(model) for model in served}


def attempt_on(
    victim: InProcess,
    name: str,
    attempt: Attempt,
    *,
    pool: Pool,
    evaluation: Evaluation,
    seed: int,
    out: Path,
) -> Row:
    """Steal, undo, train, measure."""
    subject: Subject = SUBJECTS[name]
    adaptations = Adaptations.of(attempt.adapt, seed=seed)
    attack = adaptations.adapt(Knockoff(seed=seed))
    budget = attempt.budget or BUDGET
    classes = victim.facts.classes
    known = known_chain(classes=classes, links=subject.chain) if subject.invertible else None
    adaptations.check(
        labels=(attempt.labels,),
        budgets=(budget,),
        pool=len(pool.images),
        known=known is not None and adaptations.needs_defense,
    )
    # What is asked is the same under every add-on that asks nothing of its own.
    asked = "+".join(f"{one!r}" for one in adaptations.add_ons if one.seam == 0) or "plain"
    theft = steal(
        victim, pool, attack, budget=budget, out=out / f"{name}-{asked}", resume=True, batch=256
    )
    began = time.perf_counter()
    with asyncio.run(theft) as stolen:
        images, answers = stolen.prefix(budget)
        knowledge = Knowledge(
            classes=classes,
            seed=adaptation_seed(seed),
            known=known,
            unasked=unasked(pool.images, images),
        )
        harvest = adaptations.harvest(images, answers, knowledge)
        undone = time.perf_counter() - began
        row = train_and_score(
            stolen,
            budget=budget,
            labels=attempt.labels,
            recipe=RECIPE,
            evaluation=evaluation,
            seed=seed,
            harvest=harvest,
            tuition=adaptations.tuition(knowledge),
            attack=adaptations.title("knockoff"),
        )
    sys.stdout.write(
        f"{name:18} {row.attack:60} {attempt.labels} {len(harvest.images):6,} images "
        f"undone in {undone:5.1f} s  clone {100 * row.clone_accuracy:.2f} %\n"
    )
    sys.stdout.flush()
    return row


def kept_at(out: Path, name: str, attempt: Attempt) -> Path:
    """Where the row of an attempt is kept."""
    told = "+".join((*attempt.adapt, attempt.labels, str(attempt.budget or BUDGET)))
    return out / "rows" / f"{name}+{told}.json"


def measure(out: Path, seed: int, names: Collection[str]) -> None:
    """All rows of one seed that are not kept yet."""
    train(out / "models", {PLAIN, *(SUBJECTS[name].bundle for name in names)}, seed)
    victims = serve(out / "models", names)
    test_set, source = load("mnist"), load("fashion_mnist")
    plain = open_bundle(out / "models" / PLAIN / "1")
    shape = plain.card.input.shape
    test = TestSet.of(test_set, shape=shape, classes=plain.card.classes, spec=plain.card.input)
    pool, reference = as_pool(source, shape), Reference.of(plain, test)
    for name in names:
        honest = None
        for attempt in SUBJECTS[name].attempts:
            kept = kept_at(out, name, attempt)
            if kept.is_file():
                continue
            if honest is None:
                asked = measure_honest(victims[name], test, latency_requests=0, batch=256)
                honest = asyncio.run(asked)
            evaluation = Evaluation(test=test, honest=honest, reference=reference, defense=name)
            row = attempt_on(
                victims[name],
                name,
                attempt,
                pool=pool,
                evaluation=evaluation,
                seed=seed,
                out=out / "thefts",
            )
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(row.model_dump_json(), encoding="utf-8")


def strongest(rows: Sequence[Row]) -> dict[str, object]:
    """A line per defense: plain thefts beside the add-on whose clones are best, means of seeds."""
    lines = []
    for defense in dict.fromkeys(row.defense for row in rows):
        found: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if row.defense == defense and row.budget == BUDGET:
                found.setdefault((row.attack, row.labels), []).append(row.clone_accuracy)
        means = {key: f"{100 * statistics.fmean(each):.1f} %" for key, each in found.items()}
        added = {key: statistics.fmean(each) for key, each in found.items() if "+" in key[0]}
        best = max(added, key=lambda key: added[key]) if added else None
        lines.append(
            [
                str(defense),
                means.get(("knockoff", "soft"), "-"),
                means.get(("knockoff", "hard"), "-"),
                "-" if best is None else best[0].removeprefix("knockoff+"),
                "-" if best is None else means[best],
            ]
        )
    return {
        "title": "The best add-on on each defense, all at 10,000 queries; links that keep the "
        "top-1 leave hard labels as they are behind `none`",
        "header": ["defense", "clone soft", "clone hard", "best add-on", "its clone"],
        "rows": lines,
    }


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/adaptive"))
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1, 10))
@click.option("--only", default="", help="Defenses by name, with commas; all of them by default.")
@click.option("--kept", is_flag=True, help="Measure nothing; write what is kept.")
def main(data_root: Path | None, out: Path, seeds: int, only: str, kept: bool) -> None:
    """Measure, and keep the result."""
    if data_root is not None:
        os.environ["INTAGLIO_DATA_ROOT"] = str(data_root)
    names = tuple(filter(None, only.split(","))) or tuple(SUBJECTS)
    if unknown := set(names) - set(SUBJECTS):
        raise click.UsageError(f"--only: there is no {', '.join(sorted(unknown))}")
    places = [out / f"seed-{seed}" for seed in range(seeds)]
    if not kept:
        for seed, place in enumerate(places):
            measure(place, seed, names)
    files = [
        kept_at(place, name, attempt)
        for name, subject in SUBJECTS.items()
        for attempt in subject.attempts
        for place in places
    ]
    rows = [Row.model_validate_json(file.read_bytes()) for file in files if file.is_file()]
    command = ["python", "-m", "benchmarks.adaptive_attacks"]
    command += ["--seeds", str(seeds)] * (seeds > 1)
    document = {
        "schema": 1,
        "command": command,
        "environment": describe_environment(),
        "notes": [
            "Victims are LeNets trained on 12,000 images of MNIST for 4 epochs; strangers of "
            "`am`, `edm` (3 members) and `outlier-exposure` are KMNIST's test images. A clone is "
            "a LeNet shown 30,000 images, but at least 5 epochs, last epoch, no augmentation. "
            "Every row has 10,000 queries in all but where the budget says 2,000: with n queries "
            "per image, a clone has an n-th as many images. Answers come in process, so there are "
            "no latencies. A row that is missing was not measured. `reverse-sigmoid` has beta "
            "0.2, `reverse-sigmoid-1` has beta 1; `mad` is the argmax oracle with epsilon 1, "
            "`mad-extreme` the extreme one with 1.2.",
        ],
        "tables": [strongest(rows)],
        "rows": [row.model_dump(mode="json") for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "adaptive-attacks.json").write_text(
        json.dumps(document, indent=2) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
