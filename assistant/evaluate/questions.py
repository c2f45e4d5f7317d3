"""Questions with known answers: one JSON object a line."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from assistant.errors import ConfigError


class Turn(BaseModel):
    """What was said before the question."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str
    content: str


class Text(BaseModel):
    """One passage of a question that brings its own corpus; a bare string is its text."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    text: str
    title: str = ""
    id: str = ""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value


class Question(BaseModel):
    """A question and what is known of its answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    id: str
    question: str
    history: tuple[Turn, ...] = ()
    answers: tuple[str, ...] = ()
    """gold answers; the best match counts"""
    answerable: bool
    passages: tuple[Text, ...] | None = None
    """the whole corpus of this question; without it, it is asked of the store"""
    relevant: tuple[str, ...] = ()
    """ids, titles or paths of what should be cited; `ticket:4321` for a ticket"""
    customer: str | None = None
    as_of: dt.datetime | None = None
    who: str | None = Field(default=None, alias="as")
    """an address, or the name of a group one of whose people asks"""
    needs: str = ""
    """what the answer takes; results are broken down by it"""
    metadata: dict[str, Any] = Field(default_factory=dict)

    @field_validator("as_of")
    @classmethod
    def _utc(cls, value: dt.datetime | None) -> dt.datetime | None:
        return value.replace(tzinfo=dt.UTC) if value and value.tzinfo is None else value


def load(file: Path, *, limit: int | None = None) -> list[Question]:
    """Every question of `file`. Raises `ConfigError` naming the line that isn't one."""
    found = list(_lines(file))[:limit]
    if not found:
        raise ConfigError(f"{file} has no questions. Nothing was evaluated.")
    return found


def _lines(file: Path) -> Iterator[Question]:
    with file.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                yield Question.model_validate_json(line)
            except ValidationError as error:
                problem = error.errors(include_input=False, include_url=False)[0]
                place = ".".join(str(part) for part in problem["loc"]) or "the line"
                raise ConfigError(
                    f"{file}, line {number}: {place}: {problem['msg']}. Nothing was evaluated; what doesn't "
                    "belong to a question goes into its `metadata`."
                ) from error
