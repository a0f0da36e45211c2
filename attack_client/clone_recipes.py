"""How clones are trained, by name: the files in ``recipes/``, or one of a user's own."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from attack_client.clone import OPTIMISER, PRESENTATIONS, SCHEDULE, CloneRecipe
from attack_client.errors import AttackError
from models.strict_yaml import load_yaml
from models.training.plan import Augment, Optimiser, Schedule
from models.validation import first_problem

__all__ = ["clone_recipe", "recipe_names"]


class _File(BaseModel):
    """A recipe file: the fields of ``CloneRecipe`` that are no choice of one attack."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str = ""
    epochs: PositiveInt | None = None
    presentations: PositiveInt = PRESENTATIONS
    batch_size: PositiveInt = 128
    least_steps: PositiveInt = 8
    optimiser: Annotated[Optimiser, Field(discriminator="kind")] = OPTIMISER
    schedule: Annotated[Schedule, Field(discriminator="kind")] = SCHEDULE
    augment: Augment = "none"
    clip_norm: PositiveFloat | None = 5.0


def recipe_names() -> tuple[str, ...]:
    """Names that ``clone_recipe`` knows, sorted."""
    files = resources.files("attack_client") / "recipes"
    return tuple(
        sorted(
            file.name.removesuffix(".yaml")
            for file in files.iterdir()
            if file.name.endswith(".yaml")
        )
    )


def clone_recipe(
    source: str = "default",
    *,
    architecture: str,
    epochs: int | None = None,
    augment: Augment | None = None,
    holdout: float = 0.0,
    allow_factories: Collection[str] = (),
) -> CloneRecipe:
    """The recipe called ``source`` for clones of ``architecture``.

    Args:
        source: a name, or the path of a YAML file.
        architecture: a registered name, or a factory that is allowed.
        epochs: in place of the recipe's.
        augment: in place of the recipe's.
        holdout: share of the answers to choose the epoch by.
        allow_factories: factories that may be called.

    Raises:
        AttackError: there is no such recipe, or it is not one; names what is wrong.
    """
    given = _read(source)
    if not 0.0 <= holdout <= 0.5:  # not a number is neither
        raise AttackError(f"a holdout must be in [0, 0.5], not {holdout}")
    return CloneRecipe(
        architecture=architecture,
        epochs=epochs or given.epochs,
        presentations=given.presentations,
        batch_size=given.batch_size,
        least_steps=given.least_steps,
        optimiser=given.optimiser,
        schedule=given.schedule,
        augment=augment or given.augment,
        clip_norm=given.clip_norm,
        holdout=holdout,
        allow_factories=allow_factories,
    )


def _read(source: str) -> _File:
    try:
        if source in recipe_names():
            file = resources.files("attack_client") / "recipes" / f"{source}.yaml"
            return _File.model_validate(load_yaml(file.read_text(encoding="utf-8")))
        path = Path(source)
        if path.suffix not in {".yaml", ".yml"}:
            raise AttackError(
                f"there is no clone recipe {source!r}: there are {', '.join(recipe_names())}, and "
                "files of your own by their path"
            )
        raw: Any = load_yaml(path.read_text(encoding="utf-8"))
        return _File.model_validate(raw)
    except OSError as error:
        raise AttackError(f"cannot read the clone recipe {source}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AttackError(f"the clone recipe {source} is not YAML: {error}") from error
    except ValidationError as error:
        raise AttackError(f"the clone recipe {source}: {first_problem(error)}") from error
