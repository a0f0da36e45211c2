"""What the records of a card are made of: frozen, without unknown keys, names safe as paths."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["NAME", "Name", "Record", "Role", "Sha256", "Share"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of a bundle or a version, which are directories."""

ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}")


def _matches(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"{value!r} is not a {what}: it must match {pattern.pattern}")
        return value

    return AfterValidator(check)


Name = Annotated[str, _matches(NAME, "name")]
Role = Annotated[str, _matches(ROLE, "role")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Record(BaseModel):
    """Data that cannot be changed and that holds nothing nobody asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
