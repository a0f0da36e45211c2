"""Recipes of clones, by name and by file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from attack_client.attack_options import OPTIONS
from attack_client.cli import attack
from attack_client.clone import CloneRecipe
from attack_client.clone_recipes import _File, clone_recipe, recipe_names
from attack_client.errors import AttackError
from models.training.plan import Adam, Constant, Cosine, Optimiser, Schedule, Sgd, Step
from models.training.schedule import drop_beyond

NAMES = (
    "am-mnist", "default", "distil-cifar10", "distil-cifar100", "distil-cnn", "grad2",
    "ini-knockoff", "knockoffnets", "modelguard",
)  # fmt: skip


def test_the_default_is_the_one_that_the_library_has() -> None:
    assert clone_recipe(architecture="lenet") == CloneRecipe(architecture="lenet")
    assert recipe_names() == NAMES


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "augment", "optimiser", "schedule"),
    [
        ("ini-knockoff", 50, 128, "none", Sgd(lr=0.1, weight_decay=5e-4), Cosine()),
        ("knockoffnets", 100, 64, "none", Sgd(lr=0.01, momentum=0.5), Step(every=60)),
        ("am-mnist", 20, 128, "none", Sgd(lr=0.1), Step(every=10)),
        (
            "grad2", 50, 128, "crop-flip",
            Sgd(lr=0.1, nesterov=True, weight_decay=5e-4), Cosine(),
        ),
        (
            "distil-cifar10", 160, 128, "crop-flip",
            Sgd(lr=0.1, weight_decay=5e-4), Step(milestones=(80, 120)),
        ),
        (
            "distil-cifar100", 200, 128, "crop-flip",
            Sgd(lr=0.1, weight_decay=5e-4), Step(milestones=(60, 120, 160), factor=0.2),
        ),
        ("distil-cnn", 100, 128, "crop-flip", Adam(lr=1e-3), Constant()),
        ("modelguard", 30, 32, "none", Sgd(lr=0.01, momentum=0.5), Step(every=10, factor=0.5)),
    ],
)  # fmt: skip
def test_a_published_recipe_is_the_published_one(
    name: str,
    epochs: int,
    batch: int,
    augment: str,
    optimiser: Optimiser,
    schedule: Schedule,
) -> None:
    for samples in (2_000, 50_000):
        plan = clone_recipe(name, architecture="lenet").plan(samples, seed=0)
        assert (plan.epochs, plan.batch_size, plan.augment) == (epochs, batch, augment)
        assert (plan.optimiser, plan.schedule, plan.clip_norm) == (optimiser, schedule, None)
        assert plan.selection == "last"
        assert drop_beyond(plan.schedule, plan.epochs) is None


def test_flags_come_before_the_recipe() -> None:
    given = clone_recipe("grad2", architecture="lenet", epochs=3, augment="none", holdout=0.2)
    plan = given.plan(100, seed=0)
    assert (plan.epochs, plan.augment, plan.selection) == (3, "none", "best-on-validation")


def test_a_file_is_a_recipe_or_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("about: mine\nepochs: 7\noptimiser: {kind: adam, lr: 0.01}\n")
    assert clone_recipe(str(file), architecture="lenet").plan(100, 0).epochs == 7
    file.write_text("epochs: 7\n")
    assert clone_recipe(str(file), architecture="lenet").epochs == 7
    for text, sentence in (
        ("about: mine\nepoch: 7\n", "epoch: extra inputs are not permitted"),
        ("about: mine\nabout: yours\n", "is given twice"),
        ("about: mine\nepochs: 0\n", "epochs: input should be greater than 0"),
        ("- 1\n", "file: must be a mapping of keys to values"),
    ):
        file.write_text(text)
        with pytest.raises(AttackError, match=sentence):
            clone_recipe(str(file), architecture="lenet")
    with pytest.raises(AttackError, match="there are am-mnist, default"):
        clone_recipe("inii", architecture="lenet")
    with pytest.raises(AttackError, match="No such file"):
        clone_recipe("nowhere.yaml", architecture="lenet")


def test_every_field_of_a_recipe_is_documented_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text()
    for name, field in _File.model_fields.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        default = row.split("|")[2].strip()
        if field.default is None or field.default == "":
            assert default == "none"
        elif isinstance(field.default, BaseModel):
            written = yaml.safe_load(default.strip("`"))
            assert type(field.default).model_validate(written) == field.default
        else:
            assert default == f"`{field.default}`"


def test_help_names_the_recipes() -> None:
    command = attack.get_command(attack.make_context("attack", ["show"], resilient_parsing=True),
                                 "knockoff")  # fmt: skip
    assert command is not None
    (option,) = [p for p in command.params if p.name == "recipe"]
    text = option.get_help_record(command.make_context("k", [], resilient_parsing=True))
    assert text is not None
    assert all(name in text[1] for name in NAMES)
    assert OPTIONS
