"""The operator's settings as a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from models.strict_yaml import load_yaml
from server.errors import ConfigurationError

__all__ = ["read_settings"]


def read_settings(config: Path) -> dict[str, Any]:
    """What the file says, by setting; nothing of it is checked but that it is a mapping.

    Raises:
        ConfigurationError: there is no such file, or it is no such YAML.
    """
    if not config.is_file():
        raise ConfigurationError(f"config: there is no file {config}")
    try:
        values = load_yaml(config.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"config: {config} cannot be used: {_fault(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigurationError(f"config: {config} must be a mapping of settings to values")
    return values


def _fault(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, yaml.MarkedYAMLError) and error.problem is not None:
        mark = error.problem_mark
        return error.problem if mark is None else f"{error.problem} in line {mark.line + 1}"
    return "it is not YAML"
