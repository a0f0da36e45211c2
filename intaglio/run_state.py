"""Where the state of an interrupted run lies, whose it is, and whether its bundle is there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from intaglio.errors import RecipeError
from intaglio.recipe import Recipe
from models.bundle import read_card
from models.errors import BundleError
from models.training.atomic import write_atomically
from models.training.checkpoint import kept_history
from models.training.lock import locked
from models.training.metrics import Metrics
from models.training.team import Team

__all__ = ["announce", "finished", "forget", "held", "run_state", "state_of"]

FILE = "bundle.json"


@contextmanager
def run_state(
    recipe: Recipe, out: Path, restart: bool, team: Team, metrics: Sequence[Metrics] = ()
) -> Iterator[Path]:
    """The directory of this recipe's interrupted run, kept from other runs meanwhile.

    Raises:
        TrainingError: another process has it, or one of ``metrics`` cannot be written after the
            epochs of that run: before anything is spent.
        RecipeError: it cannot be made.
    """
    state = state_of(recipe, out)
    if not team.leads:
        team.wait()
        yield state
        return
    with held(state, out):
        if restart:
            for entry in state.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        history = kept_history(state) if metrics else ()
        for metric in metrics:
            metric.check(history)
        team.wait()
        yield state


def state_of(recipe: Recipe, out: Path) -> Path:
    """Where the state of a run of ``recipe`` lies."""
    identity = recipe.model_dump_json(exclude={"version", "description", "reproduces", "measured"})
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return out / ".training" / f"{recipe.name}-{digest}"


@contextmanager
def held(state: Path, out: Path) -> Iterator[None]:
    """Keep the directory ``state``, which is made if it is missing, from other processes.

    Raises:
        TrainingError: another one has it.
        RecipeError: it cannot be made.
    """
    with ExitStack() as kept:
        try:
            kept.enter_context(locked(state, f"another process is training this recipe in {state}"))
        except OSError as error:
            raise RecipeError(f"--out {out}: cannot be written: {error.strerror}") from error
        yield


def announce(state: Path, recipe: Recipe, version: str) -> None:
    """Note in ``state``, a run's directory, that the bundle of ``version`` is written next."""
    said = {"version": version, "recipe": recipe.model_dump(mode="json")}
    write_atomically(state / FILE, json.dumps(said).encode())


def finished(state: Path, recipe: Recipe, out: Path) -> Path | None:
    """The bundle that the run of ``state`` has written, if it came so far before a kill."""
    try:
        said = json.loads((state / FILE).read_text(encoding="utf-8"))
        if recipe.version not in {None, said["version"]}:
            return None
        bundle = out / recipe.name / said["version"]
        networks = read_card(bundle).networks.values()
    except (OSError, ValueError, KeyError, TypeError, BundleError):
        return None
    trained = [one.training.recipe for one in networks if one.training is not None]
    return bundle if said["recipe"] in trained else None


def forget(state: Path) -> None:
    """Delete ``state``, what tells of the bundle last."""
    for entry in state.iterdir():
        if entry.name != FILE:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.rmtree(state)
