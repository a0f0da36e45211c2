"""The page on defenses shows configurations that build, and lists every option there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from defenses.options import option_names
from defenses.registry import BUILT_IN, build_chain
from tests.defenses.toys import answers, images, material

PAGE = (Path(__file__).parents[2] / "docs" / "defenses.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
CLASSES = 10


def chain_of(example: str) -> list[dict[str, Any]]:
    models = yaml.safe_load(example)["models"]
    chain: list[dict[str, Any]] = models["digits"]["defenses"]
    return chain


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_builds_and_answers(example: str) -> None:
    chain = build_chain(chain_of(example), material(CLASSES))
    outcome = chain.run(answers(CLASSES, images(8)))
    assert len(chain) > 0
    assert not outcome.failed.any()


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_defense_has_a_section_an_example_and_a_row_with_its_options(kind: str) -> None:
    section = re.search(rf"^## {kind}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None
    (example,) = re.findall(r"^```yaml\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    assert [spec["kind"] for spec in chain_of(example)] == [kind]
    assert "*Costs an honest caller*" in section[1]
    assert "*Who gets around it*" in section[1]
    row = re.search(rf"^\| \[`{kind}`\]\(#{kind}\) \| (\w+) \|.*\| (yes|no) \| (.*)\|$", PAGE, re.M)
    assert row is not None
    stage, kept, options = row.groups()
    defense = BUILT_IN[kind]
    assert stage == defense.stage.name.lower()
    assert (kept == "yes") == defense.keeps_top1
    assert tuple(re.findall(r"`(\w+)`", options)) == option_names(defense)
    for option in option_names(defense):
        assert f"`{option}`" in section[1] or f"`{option} =" in section[1]
