"""The whole story on images that come with the dependencies: train, serve, steal, report.

The victim reads scikit-learn's handwritten digits. The thief owns letters drawn from fonts, and the
owner of the Adaptive Misinformation pair owned symbols drawn from other fonts: nobody's set is
another's.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule

from attack_client.attacks.knockoff import Knockoff
from attack_client.clone import CloneRecipe
from attack_client.clone_cache import CloneCache
from attack_client.contract import Pool
from attack_client.honest import Honest, measure_honest
from attack_client.http_victim import HttpVictim
from attack_client.progress import watch_queries, watch_theft
from attack_client.reference import Reference
from attack_client.report import (
    Labels,
    Report,
    Row,
    describe_environment,
    render_table,
    write_curves,
    write_json,
    write_markdown,
)
from attack_client.scoring import Evaluation, train_and_score
from attack_client.theft import steal
from attack_client.transfer_set import TransferSet
from attack_client.victim_input import TestSet, as_pool
from intaglio.demo_defenses import PLAIN, asked_at_most, expected_minutes, served_as
from intaglio.errors import StaleDemo
from intaglio.processes import Running, serving
from intaglio.recipe import Recipe, load_recipe
from intaglio.training import train_recipe
from models.bundle import open_bundle
from models.console import print_table
from models.datasets import load
from models.training.progress import RichReporter, StatusColumn

__all__ = ["BUDGETS", "Demo"]

POOL = "letters"
CLONE = "lenet"
LABELS: tuple[Labels, ...] = ("soft", "hard")
BUDGETS = (500, 2000, 6000)
PRESENTATIONS = 20_000


@dataclass(frozen=True, slots=True)
class Demo:
    """One run of the demo.

    Attributes:
        out: where bundles, transfer sets and the report go.
        defenses: what to serve, by name in the table.
        splits: how many random splits of the digits to average over.
        budgets: query budgets, increasing: prefixes of one transfer set.
        console: where to show progress and the table.
    """

    out: Path
    defenses: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]]
    splits: int
    budgets: tuple[int, ...]
    console: Console

    def run(self, command: Sequence[str]) -> Path:
        """Do everything; return the path of ``report.json``."""
        began = time.monotonic()
        minutes = expected_minutes(self.defenses, self.splits)
        self.console.print(
            f"{len(self.defenses)} defenses: about {minutes} minutes on two CPU cores.",
            highlight=False,
        )
        rows = [row for split in range(self.splits) for row in self._split(split)]
        report = Report(
            command=tuple(command), environment=describe_environment(), rows=tuple(rows)
        )
        path = self.out / "report.json"
        write_curves(rows, self.out / "curves.png")
        write_json(report, path)
        write_markdown(report, self.out / "report.md", picture="curves.png")
        title = f"Digits stolen with {POOL}: {self.budgets[-1]:,} queries over HTTP"
        if self.splits > 1:
            title += f", mean of {self.splits} splits"
        print_table(self.console, render_table(rows, title=title))
        slow = [name for name in self.defenses if self._budgets(name) != self.budgets]
        if slow:
            self.console.print(
                f"  {', '.join(slow)}: fewer queries, because each costs a search; compare with "
                f"other rows at {self._budgets(slow[0])[-1]:,} queries in report.md.",
                highlight=False,
            )
        for name in ("curves.png", "report.md", "report.json"):
            self.console.print(f"  {self.out / name}", highlight=False)
        self.console.print(f"Done in {time.monotonic() - began:.0f} s.", highlight=False)
        return path

    def _split(self, split: int) -> list[Row]:
        """Train, serve and steal on one split of the digits."""
        place = self.out if self.splits == 1 else self.out / f"split-{split}"
        label = f" (split {split + 1} of {self.splits})" if self.splits > 1 else ""
        self._begin(f"1  Train the victims{label}")
        models = place / "models"
        # The pair is calibrated against its own victim: with so few validation images the plain one
        # may be ahead by more than the cost that is asked for, and then no threshold would do.
        needed = dict.fromkeys((PLAIN, *(bundle for bundle, _ in self.defenses.values())))
        recipes = [self._recipe(name, split) for name in needed]
        self._claim(place, *recipes)
        plain, *_ = [self._train(recipe, models) for recipe in recipes]

        config = place / "serve.yaml"
        served = {
            served_as(name): {
                "victim": f"{bundle}/1",
                "defenses": [dict(link) for link in chain],
                **_explanations(chain),
            }
            for name, (bundle, chain) in self.defenses.items()
        }
        config.write_text(yaml.safe_dump({"models": served}, sort_keys=False), encoding="utf-8")
        # One thread: a network this small gains nothing from more, and the thief needs the rest.
        # A search per query takes its time, and nobody is in a hurry here.
        patience = ("--set", "batching.deadline_s=120")
        arguments = ("--config", str(config), "--threads", "1", *patience)

        self._begin(f"2  Serve them, be honest, steal{label}")
        card = open_bundle(plain).card
        pool = as_pool(load(POOL), card.input.shape)
        digits = load("digits", split_seed=split)
        test = TestSet.of(digits, shape=card.input.shape, classes=card.classes)
        examinations: dict[str, Evaluation] = {}
        stolen: dict[str, TransferSet] = {}
        reference = Reference.from_bundle(plain, test)
        with serving(models, *arguments, log=place / "server.log") as server:
            self.console.print(f"Serving at {server.url}", highlight=False)
            for name in self.defenses:
                honest, stolen[name] = asyncio.run(
                    self._rob(
                        server,
                        name,
                        pool=pool,
                        test=test,
                        place=place / "transfer-sets" / name,
                        split=split,
                    )
                )
                examinations[name] = Evaluation(
                    test=test, honest=honest, reference=reference, defense=name
                )

        self._begin(f"3  Train the clones{label}")
        return self._clones(stolen, examinations, split)

    def _begin(self, step: str) -> None:
        # A log has no edge that a rule could end at.
        width = min(self.console.width, 80)
        self.console.print(Rule(step, align="left"), width=width)

    def _recipe(self, name: str, split: int) -> Recipe:
        return load_recipe(name, (f"data.split_seed={split}", f"plan.seed={split}"))

    def _claim(self, place: Path, *recipes: Recipe) -> None:
        """Write down what ``place`` holds; refuse to go on with what something else left there.

        Raises:
            StaleDemo: a recipe or a chain was another one then.
        """
        now: dict[str, Any] = {recipe.name: recipe.model_dump(mode="json") for recipe in recipes}
        for name, (bundle, chain) in self.defenses.items():
            now[f"{name}, served"] = [bundle, [dict(link) for link in chain]]
        path = place / "made-from.json"
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for key, value in now.items():
            if before.get(key, value) != value:
                raise StaleDemo(f"{place} was made with another {key}: delete it, or choose --out")
        place.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**before, **now}, indent=2) + "\n", encoding="utf-8")

    def _train(self, recipe: Recipe, models: Path) -> Path:
        done = models / recipe.name / "1"
        if done.is_dir():
            self.console.print(f"{recipe.name}: using {done}", highlight=False)
            return done
        return train_recipe(
            recipe,
            out=models,
            reporter=RichReporter(recipe.name, console=self.console),
            hash_reporter=RichReporter(f"{recipe.name}, hash network", console=self.console),
        )

    async def _rob(
        self, server: Running, name: str, *, pool: Pool, test: TestSet, place: Path, split: int
    ) -> tuple[Honest, TransferSet]:
        """What honest callers get from ``name``, then the theft: through one API, counted apart."""
        async with HttpVictim(server.url, served_as(name)) as victim:
            with watch_queries(self.console, f"{name}: honest queries") as advance:
                honest = await measure_honest(victim, test, watch=advance)
            with watch_theft(self.console, f"{name}: stolen") as watch:
                stolen = await steal(
                    victim,
                    pool,
                    Knockoff(seed=split),
                    budget=self._budgets(name)[-1],
                    out=place,
                    resume=True,
                    moved=True,  # every run serves on another port
                    watch=watch,
                )
        return honest, stolen

    def _budgets(self, name: str) -> tuple[int, ...]:
        """Those of the demo that are affordable behind the defense ``name``."""
        limit = asked_at_most(self.defenses[name][1])
        if limit is None or limit >= self.budgets[-1]:
            return self.budgets
        return (*(budget for budget in self.budgets if budget < limit), limit)

    def _clones(
        self,
        stolen: Mapping[str, TransferSet],
        examinations: Mapping[str, Evaluation],
        split: int,
    ) -> list[Row]:
        recipe = CloneRecipe(architecture=CLONE, presentations=PRESENTATIONS)
        jobs = [
            (name, labels, budget)
            for name in self.defenses
            for labels in LABELS
            for budget in self._budgets(name)
        ]
        columns = (
            TextColumn("clones"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            StatusColumn(),
        )  # fmt: skip
        rows = []
        cache = CloneCache()
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("", total=len(jobs), status="")
            for name, labels, budget in jobs:
                progress.update(task, status=f"{name}, {labels} labels, {budget:,} queries")
                row = train_and_score(
                    stolen[name],
                    budget=budget,
                    labels=labels,
                    recipe=recipe,
                    evaluation=examinations[name],
                    seed=split,
                    cache=cache,
                )
                rows.append(row)
                progress.advance(task)
            progress.update(task, status=f"{len(cache)} distinct ones")
        return rows


def _explanations(chain: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a chain that changes maps needs; the thief of the demo asks for none."""
    if any(link["kind"] in {"deepdefense", "dd-i"} for link in chain):
        return {"explanations": {"interpreter": "grad-cam"}}
    return {}
