"""Conversations, kept under the asking person's own rows; and the trail of who did what."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from assistant.errors import ConfigError, NotThere
from assistant.model import Answer, Citation, Evidence, Passage, Turn
from assistant.store import search
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


def get(connection: Conn, conversation: UUID) -> Row:
    """Raises `NotThere` when it is nobody's, or somebody else's that is not shared."""
    row = connection.execute(SQL["conversation_get"], {"id": conversation}).fetchone()
    if row is None:
        raise NotThere("There is no such conversation among yours.")
    return row


def go_on(
    connection: Conn, conversation: UUID, *, customer: int | None = None, ticket: int | None = None
) -> None:
    """It is talked on, about that customer and ticket from now on. Raises `NotThere` unless it is the reader's own."""
    values = {"id": conversation, "customer": customer, "ticket": ticket}
    row = connection.execute(SQL["conversation_go_on"], values).fetchone()
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


def page(
    connection: Conn, *, query: str = "", before: tuple[dt.datetime, UUID] | None = None, limit: int = 50
) -> list[Row]:
    """The reader's own, the last first; `query` is looked for in titles and texts, `before` is where a page ended."""
    escaped = query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    at, last = before or (None, None)
    values = {"pattern": f"%{escaped}%" if query else None, "before": at, "id": last, "limit": limit}
    return connection.execute(SQL["conversation_page"], values).fetchall()


def rename(connection: Conn, conversation: UUID, title: str) -> None:
    """Raises `NotThere` as `remove` and `share` do for what isn't the reader's own."""
    _own(connection, SQL["conversation_rename"], {"id": conversation, "title": title})


def remove(connection: Conn, conversation: UUID) -> None:
    """With its messages, and what was said of them."""
    _own(connection, SQL["conversation_remove"], {"id": conversation})


def _own(connection: Conn, statement: bytes, values: dict[str, Any]) -> None:
    if connection.execute(statement, values).fetchone() is None:
        raise NotThere("There is no such conversation among yours.")


def share(connection: Conn, conversation: UUID, key: bytes) -> str:
    """The secret of its link. Made of the installation's key, so the same one can be told again and none is stored."""
    if not get(connection, conversation)["mine"]:
        raise NotThere("There is no such conversation among yours.")
    at = dt.datetime.now(dt.UTC)
    made = _link(key, conversation, at)
    connection.execute(SQL["conversation_share"], {"id": conversation, "hash": _hash(made), "at": at})
    return shared(connection, conversation, key) or made


def shared(connection: Conn, conversation: UUID, key: bytes) -> str | None:
    """The secret of its link; None while it is not shared."""
    row = connection.execute(SQL["conversation_share_of"], {"id": conversation}).fetchone()
    return None if row is None else _link(key, conversation, row["created_at"])


def unshare(connection: Conn, conversation: UUID) -> None:
    """The link is dead then; a later one is another."""
    if not get(connection, conversation)["mine"]:
        raise NotThere("There is no such conversation among yours.")
    connection.execute(SQL["conversation_unshare"], {"id": conversation})


def by_link(connection: Conn, secret: str) -> UUID:
    """Which conversation a link opens, which the transaction may read from here on.

    Raises `NotThere` when it is none, or rests on something that the reader may not read.
    """
    connection.execute("select set_config('deskhand.share', %s, true)", (_hash(secret).hex(),))
    row = connection.execute(SQL["conversation_by_link"]).fetchone()
    if (
        row is None
        or connection.execute(SQL["conversation_get"], {"id": row["conversation_id"]}).fetchone() is None
    ):
        raise NotThere(
            "There is nothing at this link for you: it is no longer shared, or rests on sources that you may not read."
        )
    return row["conversation_id"]


def _link(key: bytes, conversation: UUID, at: dt.datetime) -> str:
    made = hmac.digest(key, f"share {conversation} {at.isoformat()}".encode(), "sha256")
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def messages(connection: Conn, conversation: UUID, *, message: int | None = None) -> list[Row]:
    """Those that were not replaced, or one of them, with what the reader said of each."""
    return connection.execute(
        SQL["message_all"], {"conversation": conversation, "message": message}
    ).fetchall()


@dataclass(frozen=True, slots=True)
class Cited:
    """A source of a stored answer as it is now."""

    marker: int
    document_id: int | None
    passage: Passage | None
    """None: it is gone, or no longer the reader's to read"""
    quotes: tuple[str, ...]
    evidence: Evidence
    file: bool = False
    """it was a file beside the question, which is not kept"""


def cited(connection: Conn, messages: Sequence[int]) -> dict[int, list[Cited]]:
    """By message, its sources in the order of their markers."""
    rows = connection.execute(SQL["message_citations"], {"messages": list(messages)})
    found: dict[int, dict[int, Cited]] = {message: {} for message in messages}
    for row in rows:
        one = found[row["message_id"]].get(row["marker"])
        quotes = (*one.quotes, row["quote"]) if one else (row["quote"],)
        passage = (one.passage if one else None) or (search.passage(row) if row["there"] else None)
        found[row["message_id"]][row["marker"]] = Cited(
            row["marker"], row["document_id"], passage, quotes, Evidence(row["evidence"]), row["file"]
        )
    return {message: list(its.values()) for message, its in found.items()}


def nearest(connection: Conn, row: Row, *, limit: int = 3) -> list[Passage]:
    """The documents that were nearest to a declined question, as far as they are there to be read."""
    first: dict[int, int] = {}
    for document, chunk in zip(row["documents"], row["chunks"], strict=False):
        if chunk:
            first.setdefault(document, chunk)
    ids = list(first.values())[:limit]
    found = {p.chunk_id: p for p in search.of_ids(connection, ids)}
    return [found[chunk] for chunk in ids if chunk in found]


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
    _cite(connection, message, answer.citations)
    return message


def _cite(connection: Conn, message: int, citations: Sequence[Citation]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            SQL["citation_add"],
            [
                {
                    "message": message,
                    "marker": citation.marker,
                    "chunk": citation.passage.chunk_id or None,
                    "document": citation.passage.document_id or None,
                    "evidence": citation.passage.evidence.value,
                    "quote": citation.quote,
                    "start": citation.span[0],
                    "end": citation.span[1],
                }
                for citation in citations
            ],
        )


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


def trail(connection: Conn, *, before: int | None = None, limit: int = 100) -> list[Row]:
    """Who did what, the latest first; `before`: older than the entry with this id."""
    return connection.execute(SQL["audit_page"], {"before": before, "limit": limit}).fetchall()


def audit(
    connection: Conn, *, actor: str, action: str, object: str = "", detail: Mapping[str, Any] | None = None
) -> None:
    """Who did what to what; ids and settings' names, never texts or secrets."""
    connection.execute(
        SQL["audit"],
        {"actor": actor, "action": action, "object": object, "detail": json.dumps(dict(detail or {}))},
    )
