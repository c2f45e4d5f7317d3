"""A source in a fresh database, with shorthands for what a worker does."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence

import numpy as np

from assistant.model import (
    Access,
    Batch,
    Change,
    Chunk,
    Customer,
    Kind,
    Part,
    SourceDocument,
    Ticket,
)
from assistant.store import (
    documents,
    sources,
    spaces,
    sync,
)
from assistant.store.db import Database

NOW = dt.datetime(2026, 5, 1, 12, 0, tzinfo=dt.UTC)


def vector(seed: int) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal(384).astype(np.float32)
    return made / np.linalg.norm(made)


def document(
    name: str,
    *,
    revision: str = "1",
    access: Access | None = None,
    body: bytes | tuple[Part, ...] = b"text",
    customer: Customer | None = None,
    ticket: Ticket | None = None,
) -> SourceDocument:
    return SourceDocument(
        external_id=name,
        kind=Kind.TICKET if ticket else Kind.DOCUMENT,
        title=name.title(),
        body=body,
        revision=revision,
        access=access or Access.of(groups=("support",)),
        created_at=NOW,
        customer=customer,
        ticket=ticket,
    )


class Desk:
    """A source in a fresh database, with shorthands for what a worker does."""

    def __init__(self, database: Database, name: str = "files", realm: str = "acme") -> None:
        self.database = database
        with database.writer() as connection:
            sources.add(
                connection,
                name=name,
                connector="directory",
                realm=realm,
                settings={"path": "/x"},
                secrets=b"sealed",
                every_seconds=None,
            )
            self.source = sources.get(connection, name)
            self.run = sources.request(connection, self.source)
            self.space = spaces.live(connection)

    def batch(self, *changes: Change, checkpoint: dict[str, int] | None = None) -> sync.Counts:
        with self.database.writer() as connection:
            return sync.commit_batch(
                connection, self.source, self.run, Batch(changes, checkpoint or {"at": 1})
            )

    def index(self, *, limit: int = 32, texts: dict[str, Sequence[Chunk]] | None = None) -> int:
        """Index what is queued: by default one chunk a document with a vector by its name."""
        with self.database.writer() as connection:
            ids = documents.claim(connection, limit=limit)
        with self.database.writer() as connection:
            made: list[documents.Indexed] = []
            for row in documents.take(connection, ids):
                chunks = (texts or {}).get(row["external_id"]) or [
                    Chunk(0, f"text of {row['external_id']}", tokens=4)
                ]
                hashes = [hashlib.sha256(c.text.encode()).digest()[:16] for c in chunks]
                made.append(
                    documents.Indexed(
                        row=row,
                        chunks=chunks,
                        hashes=hashes,
                        weights=[{7: 1.0, len(c.text): 2.0} for c in chunks],
                        vectors={1: {h: vector(int.from_bytes(h[:4])) for h in hashes}},
                        title_vectors={1: vector(1)},
                    )
                )
            return documents.write(connection, [self.space], made)

    def rows(self, query: str, *values: object) -> list[dict[str, object]]:
        with self.database.writer() as connection:
            return connection.execute(query.encode(), values or None).fetchall()
