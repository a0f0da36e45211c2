"""What the server writes to standard error: plain lines for people, JSON lines for machines."""

from __future__ import annotations

import json
import logging
import logging.config
import time
from contextvars import ContextVar

__all__ = ["REQUEST", "JsonFormatter", "configure_logs", "current_level", "set_level"]

REQUEST: ContextVar[str | None] = ContextVar("intaglio-request", default=None)
"""The id of the request that this task serves."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``logger``, ``message``.

    Where there is one, ``request_id`` says for which request, and ``exception`` what was raised.
    """

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request := REQUEST.get()) is not None:
            line["request_id"] = request
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logs(level: str, format: str) -> None:
    """Send every logger of this process to standard error.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        format: ``plain`` or ``json``.
    """
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "plain": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"},
                "json": {"()": JsonFormatter},
            },
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "formatter": format,
                    "stream": "ext://sys.stderr",
                }
            },
            "root": {"level": level.upper(), "handlers": ["stderr"]},
            "loggers": {
                # It narrates every start and stop in detail that our own lines already cover.
                "uvicorn": {"level": "DEBUG" if level == "debug" else "WARNING"},
                # It warns of every malformed form; callers write those, and are told in a 400.
                "python_multipart": {"level": "ERROR"},
            },
        }
    )


def current_level() -> str:
    """The least severe level that is written: ``debug``, ``info``, ``warning`` or ``error``."""
    return logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()


def set_level(level: str) -> None:
    """Write from ``level`` on, whatever was configured."""
    logging.getLogger().setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel("DEBUG" if level == "debug" else "WARNING")
