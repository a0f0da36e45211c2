"""The examples of docs/models.md are configurations that this server takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from server.admin_control import control_routes
from server.settings import Settings

PAGE = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_is_taken(text: str) -> None:
    given = {"model_dir": "bundles", **yaml.safe_load(text)}
    settings = Settings(**given)
    assert settings.models or settings.cache.backend == "memory"


def test_every_control_is_on_the_page() -> None:
    routes = control_routes(None, None, None)  # type: ignore[arg-type]
    assert routes
    for route in routes:
        (method,) = (route.methods or set()) - {"HEAD"}
        assert f"`{method} {route.path}`" in PAGE
