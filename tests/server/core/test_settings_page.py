"""``docs/settings.md`` says what the settings are."""

from __future__ import annotations

from pathlib import Path

import platformdirs
from pydantic import BaseModel

from server.settings import Settings
from server.settings_page import settings_page

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), (
        "run: python -m server.settings_page > docs/settings.md"
    )


def test_every_setting_has_a_row() -> None:
    page = settings_page()
    for name, field in Settings.model_fields.items():
        inner = field.default.model_dump() if isinstance(field.default, BaseModel) else {}
        for key in [f"{name}.{key}" for key in inner] or [name]:
            assert f"\n| `{key}` |" in page


def test_limits_defaults_and_variables_are_there() -> None:
    (row,) = (line for line in settings_page().splitlines() if line.startswith("| `port` |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["`port`", "integer, ≥ 0, ≤ 65535", "`8000`", "`INTAGLIO_PORT`"]
    assert "`INTAGLIO_LIMITS__MAX_BUFFERED_BYTES`" in settings_page()


def test_the_page_knows_nothing_of_whoever_writes_it() -> None:
    assert platformdirs.user_state_dir("intaglio") not in settings_page()
