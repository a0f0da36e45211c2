"""A recipe: everything that makes a bundle, as YAML that a person can read and change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from intaglio.errors import RecipeError
from intaglio.recipe_errors import sentence
from intaglio.recipe_shelf import find_recipe, shipped_names
from models.adversarial.card import Attack
from models.card import LARGEST_ENSEMBLE, InputSpec, Name, Normalisation
from models.strict_yaml import load_yaml
from models.training.plan import Adam, Plan

__all__ = [
    "Architecture",
    "Data",
    "Ensemble",
    "HashNetwork",
    "ObjectiveChoice",
    "Recipe",
    "load_recipe",
    "shipped_recipes",
]

TAGGED = frozenset(
    name for name, field in Plan.model_fields.items() if field.discriminator == "kind"
)
"""Sections of a plan of which ``kind`` decides what else is in them."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Architecture(_Section):
    """What is trained.

    Attributes:
        name: a registered architecture, or the user's own as ``package.module:factory`` or
            ``file.py:factory``.
        arguments: its own keyword arguments.
    """

    name: str
    arguments: dict[str, bool | int | float | str] = Field(default_factory=dict)


class Data(_Section):
    """What it is trained on.

    Attributes:
        train: a dataset by name, ``npz:PATH`` or ``folder:PATH``; its test set is only measured.
        validation_fraction: share of the training images held out to select and calibrate on.
        train_limit: train on so many images at most, drawn by ``split_seed`` from those that are
            not held out; what is held out does not depend on it. All of them by default.
        split_seed: decides which images are held out, and the test set of datasets that come
            without one. Recipes that agree on it, and on the two above, are comparable image by
            image.
        ood: dataset of out-of-distribution images, for objectives that need them.
    """

    train: str
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    train_limit: Annotated[int, Field(ge=2)] | None = None
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    ood: str | None = None


class HashNetwork(_Section):
    """The small network that decides which member of an ensemble answers an image.

    Attributes:
        data: a labelled dataset that has nothing to do with the task; by default that of
            ``data.ood``.
        architecture: of the network. Every query pays for it; a narrow one is also less sure of
            what it does not know, which spreads a thief's images more evenly over the members.
        plan: how it is trained to tell that dataset's classes apart, before the members are. Its
            seed is its own.
    """

    data: str | None = None
    architecture: Architecture = Architecture(name="cnn-small", arguments={"width": 4})
    plan: Plan = Plan(epochs=3, optimiser=Adam(lr=0.003))


class Ensemble(_Section):
    """How many networks answer, and who decides which.

    Attributes:
        members: n, all of the recipe's architecture.
        hash: the network that routes an image to one of them.
    """

    members: Annotated[int, Field(ge=2, le=LARGEST_ENSEMBLE)] = 5
    hash: HashNetwork = HashNetwork()


class ObjectiveChoice(_Section):
    """What is minimised.

    Attributes:
        kind: a key of ``intaglio.objectives.OBJECTIVES``: ``plain`` (cross-entropy), ``am``
            (Adaptive Misinformation), ``ini`` (Isolation and Induction) or ``outlier-exposure``,
            the control of the last two; ``nasty`` (Nasty Teacher), ``stt`` or ``ast`` (sparse
            teacher, adversarial sparse teacher); ``edm`` (Ensemble of Diverse Models).
        options: the objective's hyper-parameters.
        reference: directory of the bundle with the plain model of the same data, from which the
            benign cost of a defense is measured; without one, from the victim's own accuracy.
        base: for ``nasty``, ``stt`` and ``ast``, the bundle with the plain network that they are
            trained against: its directory, or NAME or NAME/VERSION of one in the output directory.
        warm_start: start from the weights of ``base`` instead of from random ones.
        adversarial: for ``ast``, how the adversarial set is made; the paper's way by default.
        ensemble: for ``edm``, how many members there are and how queries are routed to them.
    """

    kind: str = "plain"
    options: dict[str, JsonValue] = Field(default_factory=dict)
    reference: Path | None = None
    base: str | None = None
    warm_start: bool = False
    adversarial: Attack | None = None
    ensemble: Ensemble | None = None


def _as_text(version: object) -> object:
    """YAML reads ``version: 1`` as a number."""
    return str(version) if isinstance(version, int) and not isinstance(version, bool) else version


class Recipe(_Section):
    """Everything that makes a bundle.

    Attributes:
        name: of the bundle.
        version: of the bundle; the next free number by default.
        description: a sentence for people.
        reproduces: the paper, table and row whose network this is, where there is one. A recipe
            that was changed on the command line says so here.
        measured: where what we measured of it is written down, with the command that says which
            strangers it had; None where it was never run as it stands.
        architecture: what is trained.
        input: what the model is shown; the shape of the training images by default.
        normalisation: name of a preset or mean and std; by default what is usual for the dataset.
        data: what it is trained on.
        objective: what is minimised.
        plan: how.
    """

    name: Name
    version: Annotated[Name | None, BeforeValidator(_as_text)] = None
    description: str = ""
    reproduces: str | None = None
    measured: str | None = None
    architecture: Architecture
    input: InputSpec | None = None
    normalisation: str | Normalisation | None = None
    data: Data
    objective: ObjectiveChoice = ObjectiveChoice()
    plan: Plan = Plan()


def shipped_recipes() -> Mapping[str, str]:
    """Names of the recipes that come with the program, and what each is, in a sentence."""
    return {name: str(find_recipe(name).get("description", "")) for name in shipped_names()}


def load_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and change some of it.

    Args:
        source: path of a YAML file, ``FILE.yaml/ROW`` for a row of a table, or the name of a
            shipped recipe.
        overrides: ``dotted.key=value`` each; the value is YAML, the last one for a key counts. One
            that names another ``kind`` of optimiser or schedule starts that section afresh, but
            for what the others say.

    Raises:
        RecipeError: there is no such recipe, or it is wrong somewhere; names the key.
    """
    raw = find_recipe(source)
    changed: list[str] = []
    for override in overrides:
        changed.append(_override(raw, override, changed))
    if changed and raw.get("reproduces"):
        raw["reproduces"] = f"{raw['reproduces']}, but for {', '.join(dict.fromkeys(changed))}"
    if changed:
        raw.pop("measured", None)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"recipe {source}: {sentence(error, raw, Recipe)}") from error


def _override(raw: dict[str, Any], override: str, before: Sequence[str]) -> str:
    """Change ``raw``, in which the keys ``before`` were changed already; the key of this one."""
    key, equals, text = override.partition("=")
    key = key.strip()
    parts = key.split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set {override!r} must look like dotted.key=value")
    try:
        value = load_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {key}: {text!r} is not a YAML value") from error
    section = raw
    for depth, part in enumerate(parts[:-1], start=1):
        if section.get(part) is None:
            section[part] = {}
        inner = section[part]
        if not isinstance(inner, dict):
            place = ".".join(parts[:depth])
            raise RecipeError(f"--set {key}: {place} is a single value, there is nothing in it")
        section = inner
    if (
        len(parts) > 1
        and parts[-1] == "kind"
        and parts[-2] in TAGGED
        and value != section.get("kind")
        and ".".join(parts[:-1]) not in before  # then all that is there was said
    ):
        # As where a recipe extends another: a step schedule's options mean nothing to a cosine.
        place = key.removesuffix("kind")
        said = {one.removeprefix(place).split(".")[0] for one in before if one.startswith(place)}
        for name in section.keys() - said:
            del section[name]
    section[parts[-1]] = value
    return key
