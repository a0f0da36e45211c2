"""One defended server with everything that is done to it: honest queries, thefts, clones.

A bench is what one process works on. It goes through its cells one after another, and what each
came to is on disk before the next begins.
"""

from __future__ import annotations

import asyncio
import io
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from attack_client.adaptive.known import KnownDefense
from attack_client.adaptive.spec import Spec
from attack_client.campaign import Campaign, collect_rows
from attack_client.clone_cache import CloneShelf
from attack_client.errors import AttackError, VictimError
from attack_client.honest import Honest, measure_honest, time_again
from attack_client.http_victim import HttpVictim
from attack_client.preflight import choose_split_seed
from attack_client.reference import check_labels
from attack_client.report.schema import Row
from attack_client.retry import RetryPolicy
from attack_client.victim_input import TestSet
from intaglio.errors import ServerDidNotStart
from intaglio.leakage.cells import Cell, digest, learning_code, target_digest, theft_digest
from intaglio.leakage.entries import KNOWN_CHAIN, AttackEntry, DefenseEntry
from intaglio.leakage.errors import LeakageError
from intaglio.leakage.kept import Kept, Result
from intaglio.leakage.learning import study_of
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.target import Target, serve
from intaglio.leakage.victims import bundle_of, needed_victims, train_victim
from intaglio.leakage.weights import hash_of, victim_digest
from models.bundle import read_card
from models.datasets import load as load_dataset
from models.errors import ModelsError

__all__ = ["Bench", "run_bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What one process is to do; travels between processes and machines.

    Attributes:
        matrix: all of it.
        defense: which server.
        seed: of everything.
        cells: those that are to be had.
        out: the directory of the matrix, the same for all processes.
        data_root: where datasets lie.
        device: where victims and clones are trained.
        threads: of one computation.
    """

    matrix: Matrix
    defense: str
    seed: int
    cells: tuple[Cell, ...]
    out: Path
    data_root: Path | None = None
    device: str = "cpu"
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.defense}, seed {self.seed}"


def run_bench(bench: Bench) -> int:
    """Have the cells of ``bench``; the number of those that cannot be had.

    Why one cannot be had is written beside where its result would be, and the next is tried.
    """
    torch.set_num_threads(bench.threads)
    kept = Kept(bench.out)
    kept.tell(str(bench), "starting")
    try:
        attacks = [cell.attack for cell in bench.cells]
        _train(bench, attacks, kept)
        _require_labels(bench, kept)
        with serve(
            bench.matrix, bench.defense, bench.seed, attacks, kept, threads=bench.threads
        ) as target:
            honest = _honest(bench, target, kept)
            lost = 0
            for cell in bench.cells:
                if target.gone:  # every other cell would be waited for just as long
                    raise LeakageError(f"the server of {bench} ended, see its server.log")
                lost += not _have(bench, cell, target, honest, kept)
            return lost
    except (LeakageError, AttackError, ModelsError, ServerDidNotStart, OSError) as error:
        return _all_missing(bench, kept, str(error))
    finally:
        kept.tell(str(bench), None)


def _all_missing(bench: Bench, kept: Kept, reason: str) -> int:
    lacking = [
        cell for cell in bench.cells if kept.result(cell, digest(bench.matrix, cell)) is None
    ]
    for cell in lacking:
        kept.keep_reason(cell, digest(bench.matrix, cell), reason)
    return len(lacking)


def _have(bench: Bench, cell: Cell, target: Target, honest: Honest, kept: Kept) -> bool:
    key = digest(bench.matrix, cell)
    began = time.monotonic()
    kept.tell(str(bench), f"{cell.attack}, {cell.labels}, {cell.budget:,}")
    try:
        rows = _rows(bench, cell, target, honest, kept)
    except (AttackError, LeakageError, ModelsError, OSError, ValueError) as error:
        kept.keep_reason(cell, key, str(error) or type(error).__name__)
        return False
    except Exception as error:  # of one cell: the others of its server can be had all the same
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        kept.keep_reason(cell, key, f"{type(error).__name__} at {where}: {error}")
        return False
    kept.keep(cell, key, Result(cell=str(cell), rows=rows, seconds=time.monotonic() - began))
    return True


def _rows(bench: Bench, cell: Cell, target: Target, honest: Honest, kept: Kept) -> tuple[Row, ...]:
    matrix = bench.matrix
    entry = matrix.attacks[cell.attack]
    plain = matrix.reference
    kind = entry.attack or cell.attack
    campaign = Campaign(
        url=target.url,
        model=target.model,
        attack=kind,
        options=entry.options,
        pool=entry.pool or matrix.pool,
        test=matrix.test,
        budgets=(cell.budget,),
        labels=(cell.labels,),
        recipe=replace(matrix.clone.recipe(entry.augment), allow_factories=matrix.factories),
        out=kept.theft(cell, kind, theft_digest(matrix, cell)),
        api_key=target.key,
        operator_key=target.operator_key,
        resume=True,
        moved=matrix.defenses[cell.defense].url is None,  # our servers take any free port
        data_root=bench.data_root,
        batch=matrix.batch,
        concurrency=matrix.concurrency,
        seed=cell.seed,
        split_seed=_split_seed(bench, kept),
        reference=None if plain is None else bundle_of(matrix, plain, cell.seed, kept),
        defense=cell.defense,
        shape=matrix.defenses[cell.defense].shape,
        patience_s=target.patience_s,
        price_per_thousand=matrix.price_per_thousand,
        device=bench.device,
        adapt=tuple(map(Spec.parse, entry.adapt)),
        known=_known(entry, matrix.defenses[cell.defense]),
        shadow=target.shadows.get(cell.attack),
    )
    title = campaign.adaptations.title(kind)
    silent = Console(file=io.StringIO())
    study = study_of(cell.attack, entry, matrix.defenses[cell.defense])
    rows = collect_rows(campaign, silent, study, honest=honest, cache=_shelf(bench, cell, kept))
    return tuple(row.model_copy(update={"attack": _named(cell, row, title)}) for row in rows)


def _shelf(bench: Bench, cell: Cell, kept: Kept) -> CloneShelf:
    """Of clones by what they were trained on, which does not tell that foreign code changed."""
    code = learning_code(bench.matrix, cell.attack)
    return CloneShelf(kept.clones / hash_of(code) if code else kept.clones)


def _known(attack: AttackEntry, defense: DefenseEntry) -> KnownDefense | None:
    """What the attacker was told of the defense, as a function."""
    if attack.known_defense == KNOWN_CHAIN:
        links = [dict(link) for link in defense.chain]
        return KnownDefense("intaglio.known_defenses:chain", {"links": links})
    if attack.known_defense is None:
        return None
    return KnownDefense(attack.known_defense, attack.known_options)


def _named(cell: Cell, row: Row, title: str) -> str:
    """The entry's name; beside it what a study of several clones calls each of them."""
    return cell.attack if row.attack == title else f"{cell.attack}: {row.attack}"


def _split_seed(bench: Bench, kept: Kept) -> int:
    """The seed of the split that no victim of the bench was trained on the test images of.

    Raises:
        LeakageError: the victim and the reference split the data that is tested on otherwise.
    """
    matrix, attacked = bench.matrix, bench.matrix.defenses[bench.defense].victim
    found: dict[int, str] = {}
    for name in dict.fromkeys((matrix.reference, attacked)):
        if name is not None:
            card = read_card(bundle_of(matrix, name, bench.seed, kept))
            training = card.networks["victim"].training
            if training is not None and training.data == matrix.test:
                seed = choose_split_seed(None, test=matrix.test, reference=card)
                found.setdefault(seed, name)
    if len(found) > 1:
        told = " and ".join(f"{name} by {seed}" for seed, name in found.items())
        raise LeakageError(
            f"{matrix.test} is split differently for two victims, {told}: one would be tested on "
            "what it was trained on; give both the same data.split_seed"
        )
    return next(iter(found), 0)


def _require_labels(bench: Bench, kept: Kept) -> None:
    """Refuse a test set that numbers its classes otherwise than the weights that are measured.

    Raises:
        PoolError: names both.
    """
    matrix = bench.matrix
    names = dict.fromkeys((matrix.reference, matrix.defenses[bench.defense].victim))
    cards = [read_card(bundle_of(matrix, name, bench.seed, kept)) for name in names if name]
    if cards:
        task = load_dataset(matrix.test, root=bench.data_root)
        for card in cards:
            check_labels(card, task.labels, test=matrix.test)


def _honest(bench: Bench, target: Target, kept: Kept) -> Honest:
    """What honest callers are served, measured once per defense and seed."""
    matrix = bench.matrix
    asked = f"{target_digest(matrix, bench.defense, bench.seed)}-{matrix.test}"
    asked += f"-{matrix.latency_requests}"
    if matrix.reference is not None:  # whose split decides what the test images are
        asked += f"-{victim_digest(matrix, matrix.reference, bench.seed)}"
    known = kept.honest(bench.defense, bench.seed, asked)
    if known is not None and not known.untimed:
        return known
    kept.tell(str(bench), "honest queries" if known is None else "latency, once more")
    card = None
    if matrix.reference is not None:
        card = read_card(bundle_of(matrix, matrix.reference, bench.seed, kept))
    split = _split_seed(bench, kept)
    task = load_dataset(matrix.test, root=bench.data_root, split_seed=split)

    async def measure() -> Honest:
        async with HttpVictim(
            target.url,
            target.model,
            api_key=target.operator_key or target.key,
            shape=matrix.defenses[bench.defense].shape,
            retry=RetryPolicy().for_as_long_as(target.patience_s),
        ) as victim:
            facts = victim.facts
            test = TestSet.of(
                task,
                shape=facts.shape,
                classes=facts.classes,
                spec=None if card is None else card.input,
            )
            if known is not None:
                return await _timed(victim, test, known, matrix)
            return await measure_honest(
                victim,
                test,
                latency_requests=matrix.latency_requests,
                batch=matrix.batch,
                concurrency=matrix.concurrency,
            )

    found = asyncio.run(measure())
    kept.keep_honest(bench.defense, bench.seed, asked, found)
    return found


async def _timed(victim: HttpVictim, test: TestSet, known: Honest, matrix: Matrix) -> Honest:
    """``known`` with its latency, which could not be measured before; without if need be."""
    try:
        return await time_again(victim, test, known, latency_requests=matrix.latency_requests)
    except VictimError:
        return known


def _train(bench: Bench, attacks: Sequence[str], kept: Kept) -> None:
    for name in needed_victims(bench.matrix, bench.defense, attacks):
        if not bundle_of(bench.matrix, name, bench.seed, kept).is_dir():
            kept.tell(str(bench), f"training {name}")
        train_victim(
            bench.matrix,
            name,
            bench.seed,
            kept,
            data_root=bench.data_root,
            device=bench.device,
        )
