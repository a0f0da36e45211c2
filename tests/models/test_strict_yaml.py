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


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("2026-99-99", "timestamp"),
        ("2026-01-01T99:99:99", "timestamp"),
        (5000 * "9", "int"),
        ("!!int x", "int"),
        ("!!int ''", "int"),
        ("!!float x", "float"),
        ("!!bool x", "bool"),
        ("!!timestamp x", "timestamp"),
    ],
)
@pytest.mark.parametrize("around", ["b: 1\na: {}", "b: 1\na: [c, {{d: {}}}]"])
def test_a_value_that_is_none_of_its_kind_is_named(value: str, kind: str, around: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError) as refused:
        load_yaml(around.format(value))
    assert refused.value.problem == f"a value cannot be read as {kind}"
    assert refused.value.problem_mark is not None
    assert refused.value.problem_mark.line == 1


@pytest.mark.parametrize("text", [5000 * "[", 5000 * "{a: ", 5000 * "[" + 5000 * "]"])
def test_what_is_nested_too_deeply_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="nested too deeply"):
        load_yaml(text)


def test_a_character_that_there_is_not_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="a character that there is not"):
        load_yaml(r'"\U00110000"')


def test_objects_are_not_built() -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml("!!python/object/apply:os.getcwd []")
