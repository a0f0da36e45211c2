"""``docs/settings.md``, written from the settings themselves.

python -m server.settings_page > docs/settings.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from server.settings import Settings

__all__ = ["settings_page"]

PREFIX = str(Settings.model_config["env_prefix"])

HEAD = """\
# Settings

<!-- python -m server.settings_page > docs/settings.md -->

Every setting has four sources, strongest first:

| Source | `port` | `batching.max_batch_size` |
|---|---|---|
| flag; most have only `--set` | `--port 80`, `--set port=80` | `--set batching.max_batch_size=32` |
| environment | `INTAGLIO_PORT=80` | `INTAGLIO_BATCHING__MAX_BATCH_SIZE=32` |
| the YAML file named by `--config` | `port: 80` | `batching: {max_batch_size: 32}` |
| the default | | |

A key that does not exist, or that a file has twice, stops the start with one sentence. Sections are
merged key by key: a file may set one limit, a flag another. What `--set` is given is YAML; what a
variable is given is JSON wherever a list or a mapping is meant.

Three settings are secrets: these two and `redis.url`. Flags can be read by every user of the
machine, so give them to the environment or to a file that only the server can read:

```bash
export INTAGLIO_API_KEYS='["KEY", "ANOTHER"]'
export INTAGLIO_SECRET='at least as long as this'
intaglio serve --models bundles --set limits.max_request_samples=64
```

```yaml
api_keys: [KEY, ANOTHER]
secret: at least as long as this
limits: {max_request_samples: 64}
```

`INTAGLIO_API_KEY`, in the singular, is what a client sends. A server that finds it, and no
`api_keys`, does not start: it would be open to all where its operator thinks it is not.
"""

PLACES = {
    "secret_file": "`intaglio/secret` in `$XDG_STATE_HOME` (`~/.local/state`)",
    "state_dir": "`intaglio` in `$XDG_STATE_HOME` (`~/.local/state`)",
}
"""Defaults that differ from machine to machine."""

BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
}


def settings_page() -> str:
    """The page, as Markdown."""
    schema = Settings.model_json_schema()
    sections = {
        name: schema["$defs"][field["$ref"].rpartition("/")[2]]
        for name, field in schema["properties"].items()
        if "$ref" in field
    }
    plain = {name: field for name, field in schema["properties"].items() if name not in sections}
    parts = [HEAD, "## The server\n", *_table(plain, required=schema["required"])]
    for name, section in sections.items():
        # The docstring of the class stands for the same text below the field.
        described = schema["properties"][name].get("description", section["description"])
        parts += [f"\n## `{name}`\n", f"{described}\n", *_table(section["properties"], name)]
    model = schema["$defs"]["ModelSettings"]
    parts += [
        "\n## `models.NAME`\n",
        "What is served as `NAME`; [defenses.md](defenses.md) has the chains.\n",
        *_table(model["properties"], "models.NAME", variables=False),
    ]
    for name, place in (
        ("ModelLimitSettings", "models.NAME.limits"),
        ("TierSettings", "models.NAME.tiers.TIER"),
        ("ExplanationSettings", "models.NAME.explanations"),
    ):
        part = schema["$defs"][name]
        required = part.get("required")
        described = " ".join(part["description"].split())
        rows = _table(part["properties"], place, required=required, variables=False)
        parts += [f"\n## `{place}`\n", f"{described}\n", *rows]
    return "\n".join(parts) + "\n"


def _table(
    fields: Mapping[str, Mapping[str, Any]],
    section: str | None = None,
    *,
    required: list[str] | None = None,
    variables: bool = True,
) -> Iterator[str]:
    columns = ["Setting", "Type and limits", "Default", "What it is"]
    if variables:
        columns.insert(3, "Environment")
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for name, field in fields.items():
        key = name if section is None else f"{section}.{name}"
        default = "required" if name in (required or ()) else _default(name, field)
        cells = [f"`{key}`", _type(field), default, " ".join(field["description"].split())]
        if variables:
            cells.insert(3, f"`{PREFIX}{key.replace('.', '__').upper()}`")
        yield f"| {' | '.join(cell.replace('``', '`') for cell in cells)} |"


def _default(name: str, field: Mapping[str, Any]) -> str:
    if name in PLACES:
        return PLACES[name]
    value = field.get("default", {} if field.get("type") == "object" else None)
    return "none" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def _type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        (field,) = (choice for choice in field["anyOf"] if choice.get("type") != "null")
    if "$ref" in field:
        return "section"
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}s"
    if field.get("type") == "object":
        values = field.get("additionalProperties")
        if not isinstance(values, Mapping):
            return "mapping"
        return "mapping to mappings" if "$ref" in values else f"mapping to {_type(values)}s"
    if "pattern" in field:
        # A pipe ends a cell.
        choices = str(field["pattern"]).removeprefix("^(").removesuffix(")$")
        choices = choices.replace(r"(:[0-9]{1,3})?", "[:N]")
        return ", ".join(f"`{choice}`" for choice in choices.split("|"))
    kinds = {"password": "secret", "path": "path"}
    kind = kinds.get(str(field.get("format")), str(field["type"]))
    limits = [text.format(f"{field[key]:g}") for key, text in BOUNDS.items() if key in field]
    return ", ".join([kind, *limits])


if __name__ == "__main__":
    sys.stdout.write(settings_page())
