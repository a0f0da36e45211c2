"""The lines of an audit, as ``intaglio serve`` writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    Field,
    FiniteFloat,
    NonNegativeInt,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict

from models.validation import first_problem

__all__ = ["QueryRecord", "Record", "VerdictRecord", "read_audit"]

Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$")]


class QueryRecord(TypedDict):
    """What one request asked for, and what came of it; what else the line says is left out."""

    event: Literal["query"]
    time: AwareDatetime
    key: str
    model: str
    samples: NonNegativeInt
    decision: str
    charged: int
    images: list[Hex]
    confidence: list[float | None]


class VerdictRecord(TypedDict):
    """What PRADA's test found of one caller's distances."""

    event: Literal["test"]
    time: AwareDatetime
    key: str
    model: str
    w: FiniteFloat
    natural: bool


Record = QueryRecord | VerdictRecord
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="event")])


def read_audit(
    directory: Path, *, skipped: Callable[[str], None] | None = None
) -> Iterator[Record]:
    """Every record under ``directory``, file by file.

    Args:
        directory: of the files ``audit-*.jsonl``.
        skipped: told of each line that is not a record, for instance cut off by a full disk: where
            it is, and what is wrong with it.

    Raises:
        OSError: a file cannot be read.
    """
    for path in sorted(directory.glob("audit-*.jsonl")):
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = _RECORD.validate_json(line)
                except ValidationError as error:
                    if skipped is not None:
                        skipped(f"{path}, line {number}: {first_problem(error, root='record')}")
                    continue
                yield record
