"""One theft under 1 to 64 API keys: what accounts undo of a monitor and of query budgets.

    python -m benchmarks.accounts [--data-root DIR] [--models DIR] [--seeds 3]

One server over HTTP: keys in a file, with and without a lifetime budget; the monitor on; suspects
are answered labels only. A LeNet of MNIST is stolen by ``jbda`` (seeds of MNIST, step ``strong``)
and by ``knockoff`` (Fashion-MNIST), soft labels, as ``--adapt accounts:file=...`` has it, and asked
about MNIST's test images as an honest caller would. Every theft has keys and a served model of its
own, since a monitor follows pairs of caller and model. A theft that no key may continue ends there,
and its clone learns from what was answered until then. Seeds are the outer loop and finished thefts
are kept: a run that was stopped goes on with the next.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np
import torch
import yaml
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter

from attack_client.adaptive.accounts import PASSING_ON, Accounts
from attack_client.attacks.jbda import Jbda
from attack_client.attacks.knockoff import Knockoff
from attack_client.clone import CloneRecipe
from attack_client.contract import Attack, BlackBox, Pool
from attack_client.errors import OverBudget
from attack_client.http_victim import HttpVictim
from attack_client.reference import Reference
from attack_client.report import describe_environment
from attack_client.scoring import Evaluation, train_and_score
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from attack_client.victim_input import TestSet, as_pool
from benchmarks.accounts_page import BUDGET, WAYS, Measured, Way, compared, rows_of, told
from benchmarks.attack_clones import PRESENTATIONS
from benchmarks.attack_victim import RECIPE, SHAPE, trained_victim
from benchmarks.envelope import RESULTS
from intaglio.processes import Running, serving
from models.datasets import load
from server.callers.assembly import open_key_store
from server.callers.keys import KeyRecord, new_key
from server.settings import Settings

CLONE = CloneRecipe(architecture="lenet", presentations=PRESENTATIONS)
LABELS_ONLY = [{"kind": "label-only"}]
SERVED: Mapping[str, Mapping[str, Any]] = {
    "watched": {"defenses": [], "tighten": LABELS_ONLY},
    "unwatched": {"defenses": []},
    "label-only": {"defenses": LABELS_ONLY},
}
KEPT = TypeAdapter(Measured)
STILL_S = 1.0
"""How long the monitor must have found nothing new to have looked at everything."""


def attack_of(way: Way, seed: int) -> Attack:
    """What chooses the images."""
    if way.attack == "jbda":
        return Jbda(step="strong", choose="random", seed=seed)
    return Knockoff(seed=seed)


def settings_of(out: Path, ways: Sequence[Way]) -> dict[str, Any]:
    """Of the server, as its configuration file has them."""
    return {
        "callers": {"store": "file"},
        "state_dir": str(out / "state"),
        "secret_file": str(out / "secret"),
        "threads": 1,
        "monitor": {"enabled": True, "callers": sum(way.keys for way in ways)},
        "models": {way.model: {"victim": f"{RECIPE}/1", **SERVED[way.served]} for way in ways},
    }


async def make_keys(settings: Settings, way: Way) -> tuple[str, ...]:
    """As many new keys as ``way`` has."""
    made = tuple(new_key(name=way.model, lifetime=way.lifetime) for _ in range(way.keys))
    async with open_key_store(settings) as store:
        for key in made:
            await store.change(key.record.id, partial(_instead, key.record))
    return tuple(key.secret for key in made)


def _instead(record: KeyRecord, _: KeyRecord | None) -> KeyRecord:
    return record


@asynccontextmanager
async def thief(url: str, way: Way, keys: Sequence[str], out: Path) -> AsyncIterator[BlackBox]:
    """The victim under one key or under several."""

    def caller(key: str) -> HttpVictim:
        return HttpVictim(url, way.model, api_key=key, retry=PASSING_ON)

    if way.split is None:
        async with caller(keys[0]) as victim:
            yield victim
        return
    file = out / "keys.txt"
    file.touch(mode=0o600)
    file.write_text("\n".join(keys), encoding="utf-8")
    # A budget for life is no matter of patience.
    opened = Accounts(file=str(file), split=way.split).open(caller, patience_s=0.0)
    async with opened as shared:
        yield shared


async def stolen_from(
    url: str, way: Way, keys: Sequence[str], pool: Pool, *, seed: int, out: Path
) -> TransferSet:
    """The theft, as far as the keys allow."""
    shutil.rmtree(out, ignore_errors=True)  # of a server that is gone, with what it had watched
    out.mkdir(parents=True)
    async with thief(url, way, keys, out) as victim:
        with suppress(OverBudget):
            attack = attack_of(way, seed)
            return await steal(victim, pool, attack, budget=BUDGET, out=out / "transfer")
    return TransferSet.read(out / "transfer")


def found_by_monitor(metrics: str, model: str) -> dict[str, float]:
    """What the monitor has found of ``model`` until now, by the names of its metrics."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics):
        if not family.name.startswith("intaglio_monitor_"):
            continue
        for sample in family.samples:
            if sample.labels.get("model", model) == model and "le" not in sample.labels:
                name = sample.name.removeprefix("intaglio_monitor_")
                verdict = sample.labels.get("verdict")
                found[f"{name} {verdict}" if verdict else name] = sample.value
    return found


def settled(server: Running, model: str) -> dict[str, float]:
    """``found_by_monitor``, once the monitor has looked at everything."""
    before, since = found_by_monitor(httpx.get(server.metrics_url).text, model), time.monotonic()
    while time.monotonic() - since < STILL_S:
        time.sleep(STILL_S / 5)
        now = found_by_monitor(httpx.get(server.metrics_url).text, model)
        if now != before:
            before, since = now, time.monotonic()
    return before


def measured(
    server: Running,
    way: Way,
    keys: Sequence[str],
    pool: Pool,
    *,
    seed: int,
    evaluation: Evaluation,
    out: Path,
) -> Measured:
    """Steal, look at what the monitor made of it, train, measure."""
    missed = settled(server, way.model).get("missed_samples_total", 0.0)
    theft = stolen_from(server.url, way, keys, pool, seed=seed, out=out)
    with asyncio.run(theft) as stolen:
        seen = settled(server, way.model)
        clone = None
        if way.attack != "natural":
            clone = train_and_score(
                stolen,
                budget=stolen.complete,
                labels="soft",
                recipe=CLONE,
                evaluation=evaluation,
                seed=seed,
            ).clone_accuracy
        failed = seen.get("tests_total suspicious", 0.0)
        tests = failed + seen.get("tests_total natural", 0.0)
        return Measured(
            seed=seed,
            asked=way,
            answered=stolen.recorded,
            tightened=int(seen.get("tightened_samples_total", 0.0)),
            suspects=int(seen.get("suspicious_callers", 0.0)),
            tests=int(tests),
            failed=int(failed),
            statistic=seen["statistic_sum"] / tests if tests else None,
            missed=int(seen.get("missed_samples_total", 0.0) - missed),
            clone=clone,
        )


def kept_at(out: Path, seed: int, way: Way) -> Path:
    """Where what was measured is kept."""
    return out / "measured" / f"seed-{seed}-{way.model}.json"


def measure(
    models: Path, ways: Sequence[Way], data_root: Path | None, *, seed: int, out: Path
) -> None:
    """All of ``ways`` with one seed, from one server."""
    place = out / f"seed-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    config = place / "serve.yaml"
    chosen = settings_of(place, ways)
    config.write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")
    settings = Settings(model_dir=models, **chosen)
    keys = {way: asyncio.run(make_keys(settings, way)) for way in ways}
    bundle = trained_victim(models, epochs=1, data_root=data_root)
    task = load("mnist", root=data_root)
    test = TestSet.of(task, shape=SHAPE, classes=10, spec=bundle.card.input)
    evaluation = Evaluation(test=test, reference=Reference.of(bundle, test))
    pools = {
        "jbda": as_pool(task, SHAPE),
        "knockoff": as_pool(load("fashion_mnist", root=data_root), SHAPE),
        "natural": Pool("mnist-test", test.images, np.asarray(test.labels)),
    }
    with serving(models, "--config", str(config), log=place / "server.log") as server:
        for way in ways:
            theft = place / way.model
            pool = pools[way.attack]
            one = measured(
                server, way, keys[way], pool, seed=seed, evaluation=evaluation, out=theft
            )
            path = kept_at(out, seed, way)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(one), indent=2) + "\n", encoding="utf-8")
            sys.stdout.write(f"{path.stem}: {one}\n")
            sys.stdout.flush()


def write_result(found: Sequence[Measured], seeds: int) -> None:
    """What was measured, and what it says."""
    missing = seeds * len(WAYS) - len(found)
    document = {
        "schema": 1,
        "command": ["python", "-m", "benchmarks.accounts", "--seeds", str(seeds)],
        "environment": describe_environment(),
        "notes": [
            "The victim is the recipe `mnist-lenet`, its epochs set to 1. `watched` answers as the "
            "victim does until a key is suspected, and labels only from then on; `unwatched` does "
            "nothing about suspects; `label-only` answers everybody so. The monitor's settings are "
            "the defaults: W below 0.9 makes a suspect. `natural` asks about test images of MNIST, "
            "as an honest caller would. `jbda` begins with 150 random training images, its step is "
            f"0.1. Clones are LeNets shown {PRESENTATIONS:,} images, but at least 5 epochs.",
            "Requests have up to 64 images, and four are in flight: a suspicion comes a few "
            "requests after what raised it, how many depends on the machine's load. What `jbda` "
            "asks depends on what it was answered, so its figures vary from run to run. `even` "
            "shares requests out among the keys, `blocks` uses up one before the next. A theft "
            "ends with the first request that no key may pay for.",
            *told(found),
            *([f"{missing} of {seeds * len(WAYS)} thefts were not measured."] if missing else []),
        ],
        "tables": [compared(found)],
        "rows": [asdict(row) for row in rows_of(found)],
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(document, indent=2) + "\n"
    (RESULTS / "accounts.json").write_text(text, encoding="utf-8")


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--models", type=click.Path(path_type=Path), help="Where the victim is, or goes.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 10))
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/accounts"))
@click.option("--only-write", is_flag=True, help="Write what is there, measure nothing.")
def main(
    *, data_root: Path | None, models: Path | None, seeds: int, out: Path, only_write: bool
) -> None:
    """Train, serve, steal, write."""
    torch.set_num_threads(1)
    bundles = out / "models" if models is None else models
    for seed in range(0 if only_write else seeds):
        ways = [way for way in WAYS if not kept_at(out, seed, way).is_file()]
        if ways:
            trained_victim(bundles, epochs=1, data_root=data_root)
            measure(bundles, ways, data_root, seed=seed, out=out)
    kept = [kept_at(out, seed, way) for seed in range(seeds) for way in WAYS]
    found = [KEPT.validate_json(path.read_bytes()) for path in kept if path.is_file()]
    write_result(found, seeds)


if __name__ == "__main__":
    main()
