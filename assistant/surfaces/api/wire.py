"""Types of what comes over the wire: texts that a database can hold, ids that fit, pages of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from assistant.store.db import Row

BIGGEST = 2**63 - 1
"""the largest id PostgreSQL can hold"""

Item = TypeVar("Item", bound=BaseModel)


def _storable(text: str) -> str:
    if any((c < " " and c not in "\t\n\r") or "\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("it has control characters")
    return text


Text = Annotated[str, AfterValidator(_storable), StringConstraints(max_length=100_000)]
Line = Annotated[
    str,
    AfterValidator(_storable),
    StringConstraints(min_length=1, max_length=300, strip_whitespace=True),
]
"""a name, an address or the like"""
Id = Annotated[int, Field(ge=1, le=BIGGEST)]


class Page(BaseModel, Generic[Item]):
    """A part of a list, the latest first; `next`: the `before` of the next part, null: this is the last."""

    items: list[Item]
    next: int | None


def page(rows: Sequence[Row], limit: int, item: type[Item]) -> Page[Item]:
    """Of `limit` + 1 rows with an `id`, which tell whether there are more."""
    shown = rows[:limit]
    return Page(
        items=[item(**{name: row[name] for name in item.model_fields}) for row in shown],
        next=shown[-1]["id"] if len(rows) > limit else None,
    )
