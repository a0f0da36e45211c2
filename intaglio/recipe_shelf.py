"""Where recipes are found, and how one is said as the difference to another.

A recipe is a YAML file of its own, or a row of a table: a file with the keys ``paper``, ``base``
and ``rows``, for the many recipes of one table of a paper that differ in a line or two.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from intaglio.errors import RecipeError
from models.strict_yaml import load_yaml

__all__ = ["find_recipe", "merged", "shipped_names"]

OWN = ("name", "version", "description", "reproduces", "measured")
"""Keys that are of one recipe and not handed down to those that extend it."""

TABLE_KEYS = ("paper", "base", "rows")

Raw = dict[str, Any]


def shipped_names() -> tuple[str, ...]:
    """Names of the recipes that come with the program: files, then ``TABLE/ROW`` of tables."""
    files = [name for name, _ in _files(_shelf())]
    rows = [
        f"{table}/{row}"
        for table, file in _files(_shelf() / "tables")
        for row in _table(file, table)["rows"]
    ]
    return (*files, *rows)


def find_recipe(source: str) -> Raw:
    """The recipe ``source`` as one mapping, with what it extends merged in.

    Args:
        source: path of a YAML file, ``FILE.yaml/ROW`` for a row of a table, or the name of a
            shipped recipe.

    Raises:
        RecipeError: there is no such recipe, or it cannot be read.
    """
    return _resolved(source, ())


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> Raw:
    """``over`` laid over ``under``, key by key and at every depth.

    A section that names another ``kind`` than the one below it starts afresh: the options of a
    step schedule mean nothing to a cosine.
    """
    result: Raw = dict(under)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            other = "kind" in value and value["kind"] != below.get("kind")
            result[key] = dict(value) if other else merged(below, value)
        else:
            result[key] = value
    return result


def _resolved(source: str, seen: tuple[str, ...]) -> Raw:
    if source in seen:
        raise RecipeError(f"recipe {source}: extends itself by way of {', '.join(seen)}")
    raw, under, beside = _read(source)
    if "extends" not in raw:
        return merged(under, raw)
    wanted = raw.pop("extends")
    if not isinstance(wanted, str):
        raise RecipeError(f"recipe {source}: extends: must be the name of a recipe")
    try:
        extended = _resolved(beside.get(wanted, wanted), (*seen, source))
    except RecipeError as error:
        raise RecipeError(f"recipe {source}: extends: {error}") from error
    below = {key: value for key, value in extended.items() if key not in OWN}
    if wanted not in beside:  # a neighbour has what lies under the table already
        below = merged(below, under)
    return merged(below, raw)


def _read(source: str) -> tuple[Raw, Raw, Mapping[str, str]]:
    """A recipe as it is written, what lies under it, and names that mean its neighbours."""
    table, _, row = source.rpartition("/")
    for file, name in ((_shelf() / "tables" / f"{table}.yaml", table), (Path(table), table)):
        if table and file.is_file():
            return _row(_table(file, name), name, row)
    shipped = _shelf() / f"{source}.yaml"
    if "/" not in source and shipped.is_file():
        return _parsed(shipped), {}, {}
    if Path(source).is_file():
        raw = _parsed(Path(source))
        if "rows" in raw:
            rows = ", ".join(_table(Path(source), source)["rows"])
            raise RecipeError(f"recipe {source} is a table: name a row, {source}/ROW, of {rows}")
        return raw, {}, {}
    raise RecipeError(
        f"there is no recipe {source!r}: give the path of a YAML file, or one of "
        f"{', '.join(shipped_names())}"
    )


def _row(table: Raw, name: str, row: str) -> tuple[Raw, Raw, Mapping[str, str]]:
    rows = table["rows"]
    if row not in rows:
        raise RecipeError(f"there is no row {row!r} in {name}: there are {', '.join(rows)}")
    raw = dict(rows[row])
    raw.setdefault("name", f"{Path(name).stem}-{row}")
    if "reproduces" in raw:
        raw["reproduces"] = f"{table['paper']}, {raw['reproduces']}"
        raw.setdefault("description", f"{raw['reproduces']}.")
    return raw, table["base"], {other: f"{name}/{other}" for other in rows}


def _table(file: Traversable | Path, name: str) -> Raw:
    raw = _parsed(file)
    table: Raw = {"paper": name, "base": {}, **raw}
    for key in table:
        if key not in TABLE_KEYS:
            raise RecipeError(f"recipes {name}: {key}: a table has {', '.join(TABLE_KEYS)}")
    for key in ("base", "rows"):
        if not isinstance(table.get(key), dict):
            raise RecipeError(f"recipes {name}: {key}: must be a mapping")
    for row, fragment in table["rows"].items():
        if not isinstance(row, str) or not isinstance(fragment, dict):
            raise RecipeError(f"recipes {name}: rows.{row}: must be a mapping of keys to values")
    return table


def _parsed(source: Traversable | Path) -> Raw:
    try:
        raw = copy.deepcopy(_data(source.read_text(encoding="utf-8")))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"recipe {source} cannot be read: {reason}") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"recipe {source} must be a mapping of keys to values")
    return raw


@cache
def _data(text: str) -> Any:
    """A table is read once for all of its rows."""
    return load_yaml(text)


def _files(folder: Traversable) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            yield entry.name.removesuffix(".yaml"), entry


def _shelf() -> Traversable:
    return resources.files("intaglio") / "recipes"
