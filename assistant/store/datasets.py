"""Training data: examples in rows, so that an erasure takes those that hold what is erased.

Examples are made of what one person may read, for everybody's model. So only the writer's
role sees them, and their texts are public ones with names taken out (`assistant.tune.dataset`).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assistant.errors import ConfigError
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL

LATEST = "latest"

Messages = tuple[Mapping[str, str], ...]
"""chat messages: {role, content} each"""


@dataclass(frozen=True, slots=True)
class Example:
    """What a generator learns from: a prompt and what it should say."""

    kind: str
    """`answer`, `decline`, `turns`, `draft` or `replay`; of an answer that was judged `good` or `bad`"""
    origin: str
    """`desk`, `feedback`, or the name of a file"""
    prompt: Messages
    completion: str
    documents: tuple[int, ...] = ()
    """ids of its ticket and of its passages' documents"""
    asked_at: dt.datetime | None = None
    part: str = "train"
    """`train`, `dev` or `test`"""
    message: int | None = None
    """id of the answer that was judged"""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A row of `dataset`; its `hash` is that of its examples and settings."""

    id: int
    hash: str
    settings: Mapping[str, Any]
    counts: Mapping[str, Any]
    created_at: dt.datetime


def add(
    connection: Conn,
    examples: Iterable[Example],
    *,
    hash: str,
    settings: Mapping[str, Any],
    counts: Mapping[str, Any],
) -> Dataset:
    """Store a dataset. One with the same hash is there already: then that one is returned."""
    values = {"hash": hash, "settings": json.dumps(settings), "counts": json.dumps(counts)}
    row = connection.execute(SQL["dataset_add"], values).fetchone()
    if row is None:
        return get(connection, hash)
    with connection.cursor() as cursor:
        cursor.executemany(SQL["example_add"], [_values(row["id"], example) for example in examples])
    return Dataset(**row)


def get(connection: Conn, name: str = LATEST, *, judged: bool = False) -> Dataset:
    """The dataset whose hash begins like that, or the latest one, be it of `judged` answers. Raises `ConfigError`."""
    rows = connection.execute(SQL["dataset_find"], {"name": "" if name == LATEST else name}).fetchall()
    if name == LATEST:
        rows = [row for row in rows if bool(row["settings"].get("feedback")) is judged]
    if not rows or (name != LATEST and len(rows) > 1):
        what = f"Several datasets begin with «{name}»" if rows else f"There is no dataset «{name}»"
        if name == LATEST:
            what = f"There is no dataset{' of judged answers' if judged else ''} yet"
        raise ConfigError(
            f"{what}. Nothing was changed; `deskhand tune dataset{' --feedback' if judged else ''}` makes one, "
            "`deskhand tune datasets` lists them."
        )
    return Dataset(**rows[0])


def everything(connection: Conn) -> list[Dataset]:
    """All datasets, the latest first."""
    return [Dataset(**row) for row in connection.execute(SQL["dataset_find"], {"name": ""})]


def examples(connection: Conn, dataset: int, part: str) -> Generator[Example]:
    """The examples of a part, in the order they were made."""
    for row in connection.execute(SQL["example_all"], {"dataset": dataset, "part": part}):
        yield Example(
            kind=row["kind"],
            origin=row["origin"],
            prompt=tuple(row["prompt"]),
            completion=row["completion"],
            documents=tuple(row["documents"]),
            asked_at=row["asked_at"],
            part=part,
            message=row["message_id"],
        )


def documents(connection: Conn, dataset: int) -> list[int]:
    """Ids of all tickets and documents that its examples for training hold something of."""
    return [row["id"] for row in connection.execute(SQL["example_sources"], {"dataset": dataset})]


def resolved(connection: Conn, *, closed: Sequence[str]) -> list[Row]:
    """Tickets that were closed and that an agent answered, as the reader of the transaction, the oldest first."""
    return connection.execute(SQL["tickets_resolved"], {"closed": list(closed)}).fetchall()


def messages(connection: Conn, ticket: int) -> list[Row]:
    """A ticket's messages in their order: role, is_solution and text."""
    return connection.execute(SQL["ticket_messages"], {"id": ticket}).fetchall()


def judged(connection: Conn) -> list[Row]:
    """Answers that somebody judged, the oldest first, without who asked and without their names.

    id, question, answer, chunks (retrieved, the best first), ticket_id, citations ({marker, chunk, evidence} each),
    verdicts, created_at.
    """
    return connection.execute(SQL["judged_answers"]).fetchall()


def _values(dataset: int, example: Example) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "part": example.part,
        "kind": example.kind,
        "origin": example.origin,
        "prompt": json.dumps(example.prompt),
        "completion": example.completion,
        "documents": list(example.documents),
        "message": example.message,
        "asked_at": example.asked_at,
    }
