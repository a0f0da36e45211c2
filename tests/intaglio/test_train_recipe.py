from __future__ import annotations

import re
from pathlib import Path

import pytest

from intaglio.base_network import check_choice
from intaglio.errors import RecipeError
from intaglio.objectives import OBJECTIVES
from intaglio.recipe import load_recipe, shipped_recipes
from intaglio.training import train_recipe
from models.training.plan import Adam, Cosine, Sgd, Step

MINIMAL = """
name: toy
architecture: {name: cnn-small}
data: {train: digits}
plan: {optimiser: {kind: sgd}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "toy.yaml"
    path.write_text(MINIMAL)
    return str(path)


def test_every_shipped_recipe_is_valid_described_and_named_after_its_file() -> None:
    shipped = shipped_recipes()
    assert {"digits-plain", "digits-am", "mnist-lenet", "mnist-lenet-am"} <= shipped.keys()
    for name, description in shipped.items():
        loaded = load_recipe(name)
        assert loaded.name == name.replace("/", "-")
        assert description.endswith(".")
        trainable = OBJECTIVES[loaded.objective.kind]
        trainable.check(loaded.objective.options)
        check_choice(
            loaded,
            needs_base=trainable.base,
            needs_paired=trainable.objective.needs_paired,
            ensemble=trainable.ensemble,
        )
        assert (loaded.data.ood is not None) == trainable.objective.needs_ood


@pytest.mark.parametrize("name", ["digits", "mnist-lenet", "cifar10-resnet18"])
def test_a_defended_recipe_differs_from_its_plain_one_in_objective_and_strangers_only(
    name: str,
) -> None:
    plain = load_recipe("digits-plain" if name == "digits" else name)
    defended = load_recipe(f"{name}-am")
    assert plain.architecture == defended.architecture
    assert plain.plan == defended.plan
    assert plain.data == defended.data.model_copy(update={"ood": None})


@pytest.mark.parametrize(
    "name", ["digits-edm", "digits-ini", "mnist-lenet-edm", "mnist-lenet-ini", "mnist-lenet-oe"]
)
def test_a_recipe_with_strangers_differs_from_am_in_the_objective_only(name: str) -> None:
    defended = load_recipe(name)
    misinformed = load_recipe(f"{name.rpartition('-')[0]}-am")
    assert defended.architecture == misinformed.architecture
    assert defended.plan == misinformed.plan
    assert defended.data == misinformed.data
    written = {"edm": "edm", "ini": "ini", "oe": "outlier-exposure"}
    assert defended.objective.kind == written[name.rpartition("-")[2]]


@pytest.mark.parametrize("kind", ["nasty", "stt", "ast"])
@pytest.mark.parametrize("name", ["fashion-lenet", "cifar10-resnet18"])
def test_a_recipe_with_a_base_differs_from_that_base_in_its_objective_only(
    name: str, kind: str
) -> None:
    plain, defended = load_recipe(name), load_recipe(f"{name}-{kind}")
    assert defended.objective.kind == kind
    assert defended.objective.base == name
    for part in ("architecture", "plan", "data", "input", "normalisation"):
        assert getattr(plain, part) == getattr(defended, part)


def test_overrides_are_yaml_and_the_last_one_counts(recipe: str) -> None:
    loaded = load_recipe(
        recipe,
        [
            "plan.epochs=3",
            "plan.epochs=4",
            "plan.optimiser={kind: adam, lr: 1e-3}",
            "plan.schedule.kind=step",
            "plan.schedule.milestones=[2, 3]",
            "architecture.arguments.width=4",
            "objective.options.lambda_oe=0.5",
            "version=v1.2",
            "description=a = b",
        ],
    )
    assert loaded.plan.epochs == 4
    assert loaded.plan.optimiser == Adam(lr=0.001)
    assert loaded.plan.schedule == Step(milestones=(2, 3))
    assert loaded.architecture.arguments == {"width": 4}
    assert loaded.objective.options == {"lambda_oe": 0.5}
    assert loaded.version == "v1.2"
    assert loaded.description == "a = b"
    assert isinstance(load_recipe(recipe).plan.optimiser, Sgd)


def test_another_kind_starts_its_section_afresh() -> None:
    """The shipped row has momentum and milestones, which mean nothing to what is named here."""
    loaded = load_recipe(
        "ast-table-1/base",
        ["plan.optimiser.lr=0.002", "plan.optimiser.kind=adam", "plan.schedule.kind=cosine"],
    )
    assert loaded.plan.optimiser == Adam(lr=0.002)  # whichever of the two is said first
    assert loaded.plan.schedule == Cosine()
    sgd = load_recipe("ast-table-1/base").plan.optimiser
    assert load_recipe("ast-table-1/base", ["plan.optimiser.kind=sgd"]).plan.optimiser == sgd


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("plan.epoch=3", "plan.epoch: there is no such key; did you mean plan.epochs?"),
        ("plans.epochs=3", "plans: there is no such key; did you mean plan?"),
        ("plan.optimiser.lr=-1", "plan.optimiser.lr: input should be greater than 0"),
        ("plan.optimiser.rate=1", "plan.optimiser.rate: there is no such key"),
        ("plan.schedule={kind: cosine, factor: 0.5}", "plan.schedule.factor: cosine has no such"),
        ("plan.optimiser.kind=lion", "plan.optimiser: input tag 'lion'"),
        ("plan.schedule.every=3", "plan.schedule.kind: this key is required"),
        ("plan.schedule.kind=step", "plan.schedule: a step schedule needs either"),
        ("plan.selection=best-on-test", "plan.selection: input should be 'last' or"),
        ("data.validation_fraction=0", "data.validation_fraction: input should be greater than 0"),
        ("data.train=null", "data.train: input should be a valid string"),
        ("objective.kind=1", "objective.kind: input should be a valid string"),
        ("name=../x", "name: '../x' is not a name"),
        ("name.first=x", "--set name.first: name is a single value"),
        ("plan.epochs", "--set 'plan.epochs' must look like dotted.key=value"),
        ("plan..epochs=1", "must look like dotted.key=value"),
        ("plan.epochs=[", "--set plan.epochs: '[' is not a YAML value"),
        ("normalisation={mean: [0.5], std: [0]}", "normalisation.std.0: "),
    ],
)
def test_a_wrong_override_gives_one_sentence_naming_the_key(
    recipe: str, override: str, sentence: str
) -> None:
    with pytest.raises(RecipeError, match=re.escape(sentence)) as caught:
        load_recipe(recipe, [override])
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text("name: toy\narchitecture: {name: lenet}\ndata: {}\n")
    with pytest.raises(RecipeError, match=re.escape("data.train: this key is required")):
        load_recipe(str(path))


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "a: [", "!!python/object:os.system {}", "\x00"])
def test_what_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"must be a mapping|cannot be read") as caught:
        load_recipe(str(path))
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'nope'.*digits-plain"):
        load_recipe("nope")


def test_a_version_may_be_a_number(recipe: str) -> None:
    assert load_recipe(recipe, ["version=3"]).version == "3"


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("name: a\nname: b\n")
    with pytest.raises(RecipeError, match="'name' is given twice"):
        load_recipe(str(path))


def test_an_unknown_objective_names_those_there_are(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=re.escape("there is no objective 'nice'")) as caught:
        train_recipe(load_recipe(recipe, ["objective.kind=nice"]), out=tmp_path)
    assert "outlier-exposure" in str(caught.value)
