"""Filling in the vectors of the space that is wanted, until it can take over from the live one.

Each batch is read and written in a transaction of its own, and what lacks a vector says so itself. So it
can be killed at any moment and goes on where it was, and it holds no lock while it computes: neither
questions nor ingest wait for it. While documents wait to be indexed it works a quarter of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog

from assistant.errors import ConfigError, ModelUnavailable
from assistant.ingest.chunk import embedding_text
from assistant.ingest.embed import Embedder, Embedders
from assistant.model import Chunk
from assistant.store import documents, spaces
from assistant.store.db import Conn, Database, Row
from assistant.store.spaces import Space, Vector

BATCH = 64
"""chunks, or titles, at once: two seconds of a core"""
SHARE = 3.0
"""how many times as long as it works it waits, while documents are to be indexed"""

Progress = Callable[[int, int], None]
"""(chunks that have their vector, chunks there are)"""

log = structlog.get_logger()


def run(
    database: Database,
    embedders: Embedders,
    *,
    seconds: float = float("inf"),
    progress: Progress = lambda _done, _total: None,
) -> bool:
    """Fill in what the wanted space lacks, for so long, and make it live when that was all.

    True: there is more to do. False: nothing is wanted, somebody else is at it, or it is done. An embedder
    that can't be loaded ends the wish: raises its `ModelUnavailable` or `ConfigError`, and the live space goes on.
    """
    until = time.monotonic() + seconds
    owner = database.connect("deskhand_owner")
    try:
        if not spaces.claim(owner) or (space := spaces.wanted(owner)) is None:
            return False
        spaces.tidy(owner)
        try:
            embedder = embedders.of(space)
        except (ModelUnavailable, ConfigError):
            spaces.unwant(owner)
            raise
        while True:
            if not _fill(database, space, embedder, until, progress):
                return True
            spaces.index(owner, space)
            with database.writer() as connection:
                if spaces.switch(connection, space):
                    log.info("the index switched", space=space.id, embedder=space.name)
                    return False
            if spaces.wanted(owner) != space:
                return True
    finally:
        owner.close()


def _fill(database: Database, space: Space, embedder: Embedder, until: float, progress: Progress) -> bool:
    """False: the time was over, or another space is wanted now."""
    with database.writer() as connection:
        done, total = spaces.counts(connection, space)
    for step in (_chunks, _titles):
        after = 0
        while True:
            progress(done, max(done, total))
            started = time.monotonic()
            with database.writer() as connection:
                if started > until or spaces.wanted(connection) != space:
                    return False
                waiting = documents.ready(connection) > 0
            last = step(database, space, embedder, after)
            if last is None:
                break
            after, count = last
            done += count
            if waiting:
                time.sleep(SHARE * (time.monotonic() - started))
    return True


def _chunks(database: Database, space: Space, embedder: Embedder, after: int) -> tuple[int, int] | None:
    """The next chunks' vectors: the last id, and how many they were; None when there are none."""
    with database.writer() as connection:
        rows = spaces.texts(connection, space, after=after, limit=BATCH)
        known = _known(connection, space, rows)
    if not rows:
        return None
    # Of texts that stand in several places one is embedded. A title that was changed without its text
    # being indexed again counts here, so that hash and vector may be of two titles: as for the live vector.
    new = {bytes(row["hash"]): _text(row) for row in rows if bytes(row["hash"]) not in known}
    vectors: Mapping[bytes, Vector] = known | dict(zip(new, embedder.encode(list(new.values())), strict=True))
    with database.writer() as connection:
        spaces.fill(connection, space, {row["id"]: vectors[bytes(row["hash"])] for row in rows})
    return rows[-1]["id"], len(rows)


def _titles(database: Database, space: Space, embedder: Embedder, after: int) -> tuple[int, int] | None:
    with database.writer() as connection:
        rows = spaces.titles(connection, space, after=after, limit=BATCH)
    if not rows:
        return None
    vectors = embedder.encode([row["title"] for row in rows])
    with database.writer() as connection:
        made = [(row["id"], row["title"], vector) for row, vector in zip(rows, vectors, strict=True)]
        spaces.fill(connection, space, {}, made)
    return rows[-1]["id"], 0


def _known(connection: Conn, space: Space, rows: list[Row]) -> dict[bytes, Vector]:
    return dict(documents.known_vectors(connection, space, [bytes(row["hash"]) for row in rows]))


def _text(row: Row) -> str:
    return embedding_text(row["title"], Chunk(0, row["text"], tuple(row["headings"])))
