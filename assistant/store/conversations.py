"""Conversations, kept under the asking person's own rows; and the trail of who did what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from assistant.errors import ConfigError, NotThere
from assistant.model import Answer, Turn
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL

TURNS = 12
"""messages of a conversation that are looked at again"""


def start(connection: Conn, *, title: str, surface: str) -> UUID:
    """A new conversation of the transaction's principal."""
    row = connection.execute(SQL["conversation_add"], {"title": title[:200], "surface": surface}).fetchone()
    if row is None:
        raise ConfigError("The conversation could not be stored; ask again.")
    return row["id"]


def turns(connection: Conn, conversation: UUID) -> list[Turn]:
    """Its last messages, oldest first; none when it is somebody else's."""
    rows = connection.execute(SQL["conversation_turns"], {"id": conversation, "limit": TURNS})
    return [Turn(row["role"], row["content"]) for row in rows]


def listing(connection: Conn, *, limit: int = 50) -> list[Row]:
    return connection.execute(SQL["conversation_all"], {"limit": limit}).fetchall()


def get(connection: Conn, conversation: UUID) -> Row:
    """Raises `NotThere` when it is nobody's, or somebody else's that is not shared."""
    row = connection.execute(SQL["conversation_get"], {"id": conversation}).fetchone()
    if row is None:
        raise NotThere("There is no such conversation among yours.")
    return row


def go_on(connection: Conn, conversation: UUID, *, customer: int | None = None) -> None:
    """It is talked on, about that customer from now on. Raises `NotThere` when it is nobody's or somebody else's."""
    row = connection.execute(SQL["conversation_go_on"], {"id": conversation, "customer": customer}).fetchone()
    if row is None:
        raise NotThere("You have no such conversation. Nothing was stored; begin a new one.")


def replace(connection: Conn, conversation: UUID, message: int) -> None:
    """Take a question, or an answer's question, back with all that follows; the rows stay as a record.

    Raises `NotThere` when it is no message of this conversation.
    """
    values = {"conversation": conversation, "message": message}
    if connection.execute(SQL["conversation_replace"], values).fetchone() is None:
        raise NotThere("There is no such message in this conversation. Nothing was stored.")


def ask(connection: Conn, conversation: UUID, question: str) -> int:
    """Store a question; returns its message id."""
    return _message(connection, conversation, {"role": "user", "content": question})


def next_message(connection: Conn) -> int:
    """An id for a message that is yet to be stored, so that it can be told before."""
    row = connection.execute(SQL["message_next"]).fetchone()
    assert row is not None, "a sequence has a next value"  # noqa: S101 - states an invariant
    return int(row["id"])


def record(
    connection: Conn,
    conversation: UUID,
    question: str,
    answer: Answer,
    *,
    vector: tuple[int, NDArray[np.float32]] | None = None,
    ticket: int | None = None,
) -> int:
    """Store a question and its answer at once, as `ask` and `reply` do; returns the answer's message id."""
    ask(connection, conversation, question)
    return reply(connection, conversation, answer, vector=vector, ticket=ticket)


def reply(
    connection: Conn,
    conversation: UUID,
    answer: Answer,
    *,
    message: int | None = None,
    vector: tuple[int, NDArray[np.float32]] | None = None,
    ticket: int | None = None,
    stopped: bool = False,
) -> int:
    """Store an answer with its citations; returns its message id.

    `message`: an id from `next_message`. `vector`: the searched question's, with its space's id.
    `ticket`: id of the document a draft replies to. `stopped`: it is what there was when it was stopped.
    """
    message = _message(
        connection,
        conversation,
        {
            "id": message,
            "role": "assistant",
            "content": answer.text,
            "searched": answer.question,
            "confidence": answer.confidence,
            "refusal": answer.refusal,
            "model": answer.model,
            "timings": json.dumps(dict(answer.timings)),
            "ticket": ticket,
            "chunks": [passage.chunk_id for passage in answer.passages],
            "documents": [passage.document_id for passage in answer.passages],
            "space": None if vector is None else vector[0],
            "vector": None if vector is None else HalfVector(vector[1]),
            "stopped": stopped,
        },
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            SQL["citation_add"],
            [
                {
                    "message": message,
                    "marker": citation.marker,
                    "chunk": citation.passage.chunk_id or None,
                    "document": citation.passage.document_id,
                    "evidence": citation.passage.evidence.value,
                    "quote": citation.quote,
                    "start": citation.span[0],
                    "end": citation.span[1],
                }
                for citation in answer.citations
            ],
        )
    return message


def _message(connection: Conn, conversation: UUID, values: dict[str, Any]) -> int:
    defaults: dict[str, Any] = {
        "id": None,
        "stopped": False,
        "searched": "",
        "confidence": None,
        "refusal": "",
        "model": "",
        "timings": "{}",
        "ticket": None,
        "chunks": [],
        "documents": [],
        "space": None,
        "vector": None,
    }
    row = connection.execute(
        SQL["message_add"], {**defaults, "conversation": conversation, **values}
    ).fetchone()
    if row is None:
        raise ConfigError("The message could not be stored; ask again.")
    return int(row["id"])


def audit(
    connection: Conn, *, actor: str, action: str, object: str = "", detail: Mapping[str, Any] | None = None
) -> None:
    """Who did what to what; ids and settings' names, never texts or secrets."""
    connection.execute(
        SQL["audit"],
        {"actor": actor, "action": action, "object": object, "detail": json.dumps(dict(detail or {}))},
    )
