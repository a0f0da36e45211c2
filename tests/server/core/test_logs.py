"""What is logged, line by line."""

from __future__ import annotations

import json
import logging
import sys

from server.logs import JsonFormatter


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
