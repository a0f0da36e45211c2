"""Every defense has a page: examples that build, every option there is, and what breaks it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from defenses.options import option_names
from defenses.registry import BUILT_IN, TRAINED_IN, build_chain
from intaglio.recipe import shipped_recipes
from tests.defenses.toys import answers, images, material

DOCS = Path(__file__).parents[2] / "docs"
INDEX = (DOCS / "defenses.md").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "defenses").glob("*.md")}
EXAMPLE = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    (name, example)
    for name, text in {
        "the index": INDEX,
        "explanations": (DOCS / "explanations.md").read_text(encoding="utf-8"),
        **PAGES,
    }.items()
    for example in EXAMPLE.findall(text)
]
PARTS = (
    "Configure it",
    "What it costs an honest caller",
    "Who gets around it",
    "Measured",
)
DEEP = ("dd-i", "deepdefense")
CLASSES = 10


def chain_of(example: str) -> list[dict[str, Any]]:
    (model,) = yaml.safe_load(example)["models"].values()
    chain: list[dict[str, Any]] = model.get("defenses", [])
    return chain


def parts_of(page: str) -> dict[str, str]:
    return dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(("where", "example"), EXAMPLES)
def test_an_example_builds_and_answers(where: str, example: str) -> None:
    chain = build_chain(chain_of(example), material(CLASSES))
    outcome = chain.run(answers(CLASSES, images(8)))
    assert len(chain) > 0 or where in TRAINED_IN
    assert not outcome.failed.any()


def test_there_is_a_page_for_every_defense_and_for_nothing_else() -> None:
    assert set(PAGES) == {*BUILT_IN, *TRAINED_IN}


@pytest.mark.parametrize("name", sorted({*BUILT_IN, *TRAINED_IN}))
def test_a_page_has_its_parts_and_a_picture_with_its_command(name: str) -> None:
    page = PAGES[name]
    title, purpose, *_ = page.split("\n\n")
    assert title == f"# {name}"
    assert len(purpose) > 60, "what it is for"
    parts = parts_of(page)
    assert tuple(parts) == PARTS
    assert all(len(text.strip()) > 30 for text in parts.values())
    assert re.search(r"!\[[^\]]+\]\(\.\./images/[\w/-]+\.png\)", parts["Measured"])
    commands = re.findall(r"`python -m\s+(benchmarks\.\w+)[^`]*`", parts["Measured"])
    assert commands
    for command in commands:
        assert (DOCS.parent / command.replace(".", "/")).with_suffix(".py").is_file()
    assert f"[`{name}`](defenses/{name}.md)" in INDEX


@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_link_has_one_example_and_its_options_on_its_page_and_in_the_index(kind: str) -> None:
    page = PAGES[kind]
    (example,) = EXAMPLE.findall(page)
    assert [spec["kind"] for spec in chain_of(example)] == [kind]
    row = re.search(
        rf"^\| \[`{kind}`\]\(defenses/{kind}\.md\) \| (\w+) \|.*\| (yes|no) \| (.*)\|$", INDEX, re.M
    )
    assert row is not None
    stage, kept, options = row.groups()
    defense = BUILT_IN[kind]
    assert stage == defense.stage.name.lower()
    assert (kept == "yes") == defense.keeps_top1
    for option in option_names(defense):
        assert f"`{option}`" in page or f"`{option} =" in page
    if kind not in DEEP:
        assert tuple(re.findall(r"`(\w+)`", options)) == option_names(defense)


def test_what_the_index_says_the_deep_defenses_share_they_share() -> None:
    of_probabilities, *of_maps = (
        set(option_names(BUILT_IN[kind])) for kind in ("dd-s", "deepdefense", "dd-i")
    )
    assert of_maps == [of_probabilities | {"map_agreement", "map_weight"}] * 2


@pytest.mark.parametrize("name", sorted(TRAINED_IN))
def test_weights_are_said_to_be_weights_and_how_they_are_made(name: str) -> None:
    page = PAGES[name]
    assert f"there is no `kind: {name}`" in page
    (recipe,) = re.findall(r"^intaglio train (\S+) --out bundles$", page, re.MULTILINE)
    assert recipe in shipped_recipes()
    (example,) = EXAMPLE.findall(page)
    (model,) = yaml.safe_load(example)["models"].values()
    assert model["victim"] == recipe
