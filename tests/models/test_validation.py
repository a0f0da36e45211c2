"""What a sentence about a validation error says, and what it never says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from models.validation import first_problem


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float


class Square(BaseModel):
    kind: Literal["square"]
    side: float

    @field_validator("side")
    @classmethod
    def _even(cls, side: float) -> float:
        if side % 2:
            raise ValueError("InI says that a side is even")
        return side


class Drawing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    shape: Annotated[Circle | Square, Field(discriminator="kind")]
    ticks: tuple[int, ...] = ()


CIRCLE = {"kind": "circle", "radius": 1.0}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "shape: field required"),
        ({"shape": CIRCLE, "secret": 1}, "secret: extra inputs are not permitted"),
        ({"shape": CIRCLE, "ticks": [1, "secret"]}, "ticks.1: input should be a valid integer"),
        ({"shape": "secret"}, "shape: must be a mapping of keys to values"),
        ({"shape": {"kind": "secret"}}, "shape.kind: must be one of 'circle', 'square'"),
        ({"shape": {"kind": "square", "side": 3}}, "shape.square.side: InI says that a side is"),
        (["secret"], "drawing: must be a mapping of keys to values"),
    ],
)
def test_a_problem_is_a_key_and_what_is_wrong_with_it(given: Any, sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Drawing.model_validate(given)
    said = first_problem(refused.value, root="drawing")
    assert said.startswith(sentence)
    assert "secret" not in said.removeprefix("secret: ")


def test_what_is_not_json_is_said_of_the_whole() -> None:
    with pytest.raises(ValidationError) as refused:
        Drawing.model_validate_json("{")
    assert first_problem(refused.value).startswith("file: invalid JSON: ")
