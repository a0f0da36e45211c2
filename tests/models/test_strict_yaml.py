"""No key twice, and otherwise what PyYAML's safe loader reads."""

from __future__ import annotations

import pytest
import yaml

from models.strict_yaml import load_yaml


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1\nb: {a: 2, c: [{a: 1}, {a: 2}]}",
        "a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: *a",
        # A merge from a mapping that is constructed later.
        "a: &a {x: 1}\nx: {y: &b {<<: *a, x: 2}}\nc: {<<: *b}",
        "1: a\n'1': b",
    ],
)
def test_plain_data_reads_as_ever(text: str) -> None:
    assert load_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    "text", ["port: 1\nport: 1", "a:\n  - {port: 1,\n     port: 2}", "b: 1\n'port': 1\nport: 2"]
)
def test_a_key_that_is_given_twice_is_named(text: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError) as refused:
        load_yaml(text)
    assert refused.value.problem == "the key 'port' is given twice"
    assert refused.value.problem_mark is not None
    assert refused.value.problem_mark.line == text.count("\n")


def test_objects_are_not_built() -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml("!!python/object/apply:os.getcwd []")
