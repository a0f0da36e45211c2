"""``docs/api.md`` says what the server does."""

from __future__ import annotations

import re
from pathlib import Path

from server.errors import CallerGone, ServiceError
from server.http_head import REASONS
from server.settings import Settings

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")


def kinds(of: type[ServiceError] = ServiceError) -> set[type[ServiceError]]:
    return {of}.union(*(kinds(kind) for kind in of.__subclasses__()))


def test_every_status_is_explained() -> None:
    documented = {int(status) for status in re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)}
    # Nobody reads a 499; 405 is the framework's; some heads never become a request.
    raised = {kind.status for kind in kinds() - {CallerGone}}
    assert documented == raised | {405} | set(REASONS)


def test_every_setting_that_is_named_exists() -> None:
    named = re.findall(r"`(limits|batching)\.(\w+)`", PAGE)
    assert named
    for section, key in named:
        assert key in Settings.model_fields[section].default.model_dump()
