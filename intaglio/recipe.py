"""A recipe: everything that makes a bundle, as YAML that a person can read and change."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from models.adversarial.card import Attack
from models.card import InputSpec, Name, Normalisation
from models.errors import RecipeError
from models.strict_yaml import load_yaml
from models.training.plan import Plan

__all__ = ["Architecture", "Data", "ObjectiveChoice", "Recipe", "load_recipe", "shipped_recipes"]


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
        split_seed: decides which images are held out, and the test set of datasets that come
            without one. Recipes that agree on it, and on the two above, are comparable image by
            image.
        ood: dataset of out-of-distribution images, for objectives that need them.
    """

    train: str
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    ood: str | None = None


class ObjectiveChoice(_Section):
    """What is minimised.

    Attributes:
        kind: a key of ``intaglio.objectives.OBJECTIVES``: ``plain`` (cross-entropy), ``am``
            (Adaptive Misinformation), ``ini`` (Isolation and Induction) or ``outlier-exposure``,
            the control of the last two; ``nasty`` (Nasty Teacher), ``stt`` or ``ast`` (sparse
            teacher, adversarial sparse teacher).
        options: the objective's hyper-parameters.
        reference: directory of the bundle with the plain model of the same data, from which the
            benign cost of a defense is measured; without one, from the victim's own accuracy.
        base: for ``nasty``, ``stt`` and ``ast``, the bundle with the plain network that they are
            trained against: its directory, or NAME or NAME/VERSION of one in the output directory.
        warm_start: start from the weights of ``base`` instead of from random ones.
        adversarial: for ``ast``, how the adversarial set is made; the paper's way by default.
    """

    kind: str = "plain"
    options: dict[str, JsonValue] = Field(default_factory=dict)
    reference: Path | None = None
    base: str | None = None
    warm_start: bool = False
    adversarial: Attack | None = None


def _as_text(version: object) -> object:
    """YAML reads ``version: 1`` as a number."""
    return str(version) if isinstance(version, int) and not isinstance(version, bool) else version


class Recipe(_Section):
    """Everything that makes a bundle.

    Attributes:
        name: of the bundle.
        version: of the bundle; the next free number by default.
        description: a sentence for people.
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
    architecture: Architecture
    input: InputSpec | None = None
    normalisation: str | Normalisation | None = None
    data: Data
    objective: ObjectiveChoice = ObjectiveChoice()
    plan: Plan = Plan()


def shipped_recipes() -> Mapping[str, str]:
    """Names of the recipes that come with the program, and what each is, in a sentence."""
    return {
        entry.name.removesuffix(".yaml"): str(_parsed(entry).get("description", ""))
        for entry in sorted(_shelf().iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".yaml")
    }


def load_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and change some of it.

    Args:
        source: path of a YAML file, or the name of a shipped recipe.
        overrides: ``dotted.key=value`` each; the value is YAML, the last one for a key counts.

    Raises:
        RecipeError: there is no such recipe, or it is wrong somewhere; names the key.
    """
    raw = _parsed(_found(source))
    for override in overrides:
        _override(raw, override)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"recipe {source}: {_sentence(error, raw)}") from error


def _shelf() -> Traversable:
    return resources.files("intaglio") / "recipes"


def _found(source: str) -> Traversable | Path:
    shipped = shipped_recipes()
    if source in shipped:
        return _shelf() / f"{source}.yaml"
    path = Path(source)
    if path.is_file():
        return path
    raise RecipeError(
        f"there is no recipe {source!r}: give the path of a YAML file, or one of "
        f"{', '.join(shipped)}"
    )


def _parsed(source: Traversable | Path) -> dict[str, Any]:
    try:
        raw = load_yaml(source.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"recipe {source} cannot be read: {reason}") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"recipe {source} must be a mapping of keys to values")
    return raw


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
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
    section[parts[-1]] = value


def _sentence(error: ValidationError, raw: dict[str, Any]) -> str:
    """What is wrong, by its key; of several things, the one found deepest in the recipe."""
    details = error.errors(include_url=False)
    worst = max(details, key=lambda detail: len(_dotted(detail["loc"], raw)))
    kind, message = worst["type"], worst["msg"].removeprefix("Value error, ")
    key = ".".join(_dotted(worst["loc"], raw)) or "recipe"
    if kind == "missing":
        return f"{key}.{worst['loc'][-1]}: this key is required".removeprefix("recipe.")
    if kind == "union_tag_not_found":
        return f"{key}.kind: this key is required"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(key, list(_keys(Recipe)), n=1)
        return f"{key}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")
    return f"{key}: {message[0].lower()}{message[1:]}"


def _dotted(location: tuple[int | str, ...], raw: Any) -> list[str]:
    """The parts of ``location`` that a person wrote: the tags of unions are left out."""
    parts = []
    for part in location:
        held = isinstance(raw, dict) and part in raw
        listed = isinstance(raw, list) and isinstance(part, int)
        if held or listed:
            raw = raw[part]
            parts.append(str(part))
    return parts


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that a recipe may have."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for inner in _models(field.annotation):
            yield from _keys(inner, f"{prefix}{name}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if get_origin(annotation) in {Union, UnionType, Annotated}:
        for choice in get_args(annotation):
            yield from _models(choice)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
