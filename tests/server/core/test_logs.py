"""What is logged, line by line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from server.errors import BadRequest
from server.logs import JsonFormatter, configure_logs
from server.protocol.multipart import parse_multipart


def record(message: str, *arguments: object, error: BaseException | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error else None
    return JsonFormatter().format(
        logging.LogRecord("server.x", logging.ERROR, "x.py", 1, message, arguments, info)
    )


def test_a_record_is_one_json_line() -> None:
    line = record("%d rows\nof ü", 3)
    assert "\n" not in line
    shown = json.loads(line)
    assert shown["message"] == "3 rows\nof ü"
    assert (shown["level"], shown["logger"]) == ("error", "server.x")
    assert shown["time"].endswith("Z")


def test_an_exception_is_part_of_the_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        line = record("failed", error=sys.exception())
    assert "\n" not in line
    assert "ValueError: why" in json.loads(line)["exception"]


@pytest.fixture
def root() -> Iterator[None]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("level", ["debug", "info"])
def test_a_callers_malformed_form_is_not_logged(
    capsys: pytest.CaptureFixture[str], level: str
) -> None:
    configure_logs(level, "plain")
    with pytest.raises(BadRequest):
        parse_multipart(b"no form", "multipart/form-data; boundary=x", max_parts=1)
    logging.getLogger("server.x").warning("heard")
    written = capsys.readouterr().err
    assert "heard" in written
    assert "multipart" not in written
