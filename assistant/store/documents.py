"""The indexing side of the store: claim queued documents, swap their chunks in one transaction."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgvector import HalfVector, SparseVector

from assistant.model import Access, Audience, Chunk, Kind, Line
from assistant.store.db import Conn, Row
from assistant.store.spaces import Space, Vector, half
from assistant.store.sql import SQL
from assistant.store.sync import token

BATCH = 32
"""documents indexed in one transaction"""
SUSPECT_ATTEMPTS = 3
"""from so many attempts on a document is indexed alone: it may be what kills the worker"""
MAX_ATTEMPTS = 6
MAX_TERM = 1_000_000_000
"""sparsevec's limit on dimensions"""


@dataclass(frozen=True, slots=True)
class Indexed:
    """A document ready to be written: its row of the queue, its chunks and what to store of each."""

    row: Row
    """as the queue gave it; `title` and `created_at` may be the file's own, which `stated` then names"""
    chunks: Sequence[Chunk]
    hashes: Sequence[bytes]
    weights: Sequence[Mapping[int, float]]
    vectors: Mapping[int, Mapping[bytes, Vector]] = field(repr=False)
    """by slot and hash; holds at least the hashes that the document has no chunk of yet"""
    title_vectors: Mapping[int, Vector] = field(repr=False)
    """by slot"""
    lines: Sequence[Line] = ()
    """a ticket's digest"""
    codes: Sequence[str] = ()
    """a ticket's error codes"""


def claim(connection: Conn, *, limit: int) -> list[int]:
    """Up to `limit` document ids of one source whose attempt is now counted.

    Commit this before the work; `take` then locks them for as long as it lasts.
    """
    values = {"limit": limit, "suspect": SUSPECT_ATTEMPTS}
    rows = connection.execute(SQL["pending_claim"], values).fetchall()
    suspects = [row for row in rows if row["attempts"] > SUSPECT_ATTEMPTS]
    if suspects and len(rows) > 1:
        keep = [r for r in rows if r["attempts"] <= SUSPECT_ATTEMPTS] or suspects[:1]
        ids = [r["document_id"] for r in rows if r not in keep]
        connection.execute("update pending set attempts = attempts - 1 where document_id = any (%s)", (ids,))
        rows = keep
    return [row["document_id"] for row in rows]


def take(connection: Conn, ids: Sequence[int]) -> list[Row]:
    """The claimed documents with their bodies, locked until the transaction ends."""
    return connection.execute(SQL["pending_take"], {"ids": list(ids)}).fetchall()


def known_vectors(connection: Conn, space: Space, hashes: Iterable[bytes]) -> dict[bytes, HalfVector]:
    """Vectors of this space that the store already has for these texts, wherever they stand."""
    values = {"space": space.id, "hashes": list(set(hashes))}
    rows = connection.execute(space.of(SQL["chunk_vectors"]), values)
    return {bytes(row["hash"]): row["embedding"] for row in rows}


def write(connection: Conn, spaces: Sequence[Space], documents: Sequence[Indexed]) -> int:
    """Swap the chunks of `documents`; returns how many were new. Unchanged ones keep their row.

    spaces: those that the vectors are of, as `spaces.targets` told them in this transaction.
    """
    # Searches are planned anew each time; here it would be each row's foreign keys.
    connection.execute("set local plan_cache_mode = auto")
    slots = {space.slot: space.id for space in spaces}
    ids = [document.row["document_id"] for document in documents]
    old: dict[tuple[int, bytes], list[Row]] = {}
    for row in connection.execute(SQL["chunk_of_documents"], {"ids": ids}):
        old.setdefault((row["document_id"], bytes(row["hash"])), []).append(row)
    fresh: list[tuple[Any, ...]] = []
    moved: list[dict[str, Any]] = []
    for document in documents:
        for chunk, digest, weights in zip(document.chunks, document.hashes, document.weights, strict=True):
            values = _values(document.row, chunk)
            same = old.get((document.row["document_id"], digest))
            if same:
                row = same.pop(0)
                if any(row[key] != value for key, value in values.items()):
                    moved.append({**values, "id": row["id"], "customer": values["customer_id"]})
            else:
                vectors = {slot: (slots[slot], document.vectors[slot][digest]) for slot in slots}
                fresh.append(_record(document.row, chunk, values, digest, weights, vectors))
    gone = [row["id"] for rows in old.values() for row in rows]
    if gone:
        connection.execute(SQL["chunk_drop"], {"ids": gone})
    if moved:
        with connection.cursor() as cursor:
            cursor.executemany(SQL["chunk_keep"], moved)
    if fresh:
        # Not COPY: that is refused on a table with row-level security.
        with connection.cursor() as cursor:
            cursor.executemany(SQL["chunk_add"], fresh)
    with connection.cursor() as cursor:
        cursor.executemany(SQL["document_indexed"], [_indexed(document, slots) for document in documents])
    _digests(connection, [document for document in documents if document.row["kind"] == Kind.TICKET])
    connection.execute(SQL["failure_clear"], {"ids": ids})
    connection.execute(SQL["pending_done"], {"ids": ids})
    return len(fresh)


def _indexed(document: Indexed, slots: Mapping[int, int]) -> dict[str, Any]:
    """As `document_indexed` takes it: of a slot that is not written there is no title any more."""
    row, titles = document.row, document.title_vectors
    return {
        "id": row["document_id"],
        "revision": row["revision"],
        "title": row["title"],
        "created_at": row["created_at"],
        "stated": json.dumps({"stated": own} if (own := row.get("stated")) else {}),
        **{f"space_{slot}": slots.get(slot) for slot in (1, 2)},
        **{f"title_{slot}": half(titles[slot]) if slot in slots else None for slot in (1, 2)},
    }


def _digests(connection: Conn, tickets: Sequence[Indexed]) -> None:
    connection.execute(SQL["digest_drop"], {"ids": [ticket.row["document_id"] for ticket in tickets]})
    with connection.cursor() as cursor:
        cursor.executemany(
            SQL["digest_add"],
            [
                {
                    "document": ticket.row["document_id"],
                    "ordinal": ordinal,
                    "kind": line.step.value,
                    "audience": _audience(ticket.row, line.audience),
                    "acl": ticket.row["acl"],
                    "narrow": _narrow(ticket.row, line.access),
                    "role": line.role,
                    "at": line.at or ticket.row["created_at"],
                    "text": line.text,
                }
                for ticket in tickets
                for ordinal, line in enumerate(ticket.lines)
            ],
        )
        cursor.executemany(
            SQL["ticket_codes"],
            [{"id": ticket.row["document_id"], "codes": list(ticket.codes)} for ticket in tickets],
        )


def _audience(row: Row, audience: Audience) -> str:
    internal = row["audience"] == Audience.INTERNAL or audience is Audience.INTERNAL
    return "internal" if internal else "public"


def _narrow(row: Row, access: Access | None) -> list[str] | None:
    return None if access is None else sorted(token(row["realm"], name) for name in access.tokens)


def _values(row: Row, chunk: Chunk) -> dict[str, Any]:
    created: dt.datetime | None = chunk.created_at or row["created_at"]
    return {
        "ordinal": chunk.ordinal,
        "audience": _audience(row, chunk.audience),
        "acl": row["acl"],
        "narrow": _narrow(row, chunk.access),
        "created_at": created,
        "role": chunk.role,
        "is_solution": chunk.is_solution,
        "customer_id": row["customer_id"],
        "language": row["language"],
        "page": chunk.page,
    }


def _record(
    row: Row,
    chunk: Chunk,
    values: dict[str, Any],
    digest: bytes,
    weights: Mapping[int, float],
    vectors: Mapping[int, tuple[int, Vector]],
) -> tuple[Any, ...]:
    """As `chunk_add` takes it; `vectors` are (space id, vector) by slot."""
    placed = {slot: (space, half(vector)) for slot, (space, vector) in vectors.items()}
    return (
        row["document_id"],
        row["source_id"],
        values["ordinal"],
        row["kind"],
        values["audience"],
        values["acl"],
        values["narrow"],
        values["customer_id"],
        values["language"],
        values["created_at"],
        values["role"],
        values["is_solution"],
        list(chunk.headings),
        values["page"],
        chunk.tokens,
        chunk.text,
        digest,
        sorted(weights),
        # pgvector counts dimensions from 1 in SQL and from 0 in Python.
        SparseVector({term - 1: weight for term, weight in weights.items()}, MAX_TERM),
        *(value for slot in (1, 2) for value in placed.get(slot, (None, None))),
    )


def ready(connection: Conn) -> int:
    """How many documents could be indexed now."""
    row = connection.execute(SQL["pending_ready"]).fetchone()
    return int(row["documents"]) if row else 0


def full(connection: Conn, source_id: int, *, documents: int, size: int) -> bool:
    """Whether a source has so many documents or bytes waiting that reading it should pause."""
    row = connection.execute(SQL["pending_load"], {"source": source_id}).fetchone()
    return row is not None and (row["documents"] >= documents or row["bytes"] >= size)


def later(connection: Conn, document_id: int, *, seconds: float) -> None:
    connection.execute(SQL["pending_later"], {"id": document_id, "seconds": seconds})


def park(connection: Conn, document_id: int) -> None:
    connection.execute(SQL["pending_park"], {"id": document_id})


def refresh_statistics(connection: Conn) -> bool:
    """Recount how many chunks each word is in, when enough chunks came or went."""
    row = connection.execute(SQL["statistics_stale"]).fetchone()
    if row is None or not row["stale"]:
        return False
    got = connection.execute("select pg_try_advisory_xact_lock(hashtext('deskhand.statistics')) as ok")
    if not (got.fetchone() or {"ok": False})["ok"]:
        return False
    _count(connection)
    return True


def recount(connection: Conn) -> None:
    """Recount now: a word that nobody has any more is not to be known."""
    connection.execute("select pg_advisory_xact_lock(hashtext('deskhand.statistics'))")
    _count(connection)


def _count(connection: Conn) -> None:
    connection.execute(SQL["statistics_count"])
    connection.execute(SQL["statistics_terms"])
