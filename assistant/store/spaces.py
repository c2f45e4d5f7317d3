"""Embedding spaces: which one answers, and how another takes its place without a gap.

A chunk and a document's title have two columns for vectors, each beside the id of the space that
its vector is of. The live space has one of the columns, its slot. A space that is wanted gets
the other one: its vectors are filled in while the live ones answer, whatever is indexed meanwhile
gets both, and when nothing lacks a vector of it, one transaction makes it live. The old vectors stay
until the next wanted space needs their column, so going back is the same thing with little to fill in.

Every search has the condition that a vector is of its space, row by row. So no two spaces are ever
compared, by whatever process and at whatever moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql

from assistant.errors import ConfigError, NotRunning
from assistant.store import versions
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL
from assistant.store.versions import Kind

Vector = NDArray[np.float32] | HalfVector

INDEX = "chunk_embedding_"
"""and the id of the space: name of its index"""


@dataclass(frozen=True, slots=True)
class Space:
    """An embedding space that has a column of vectors."""

    id: int
    name: str
    """of its embedding model: a built-in one, or a trained version"""
    revision: str
    """SHA-256 of the model's weights"""
    dimension: int
    slot: int
    """1 or 2"""

    def of(self, statement: bytes) -> bytes:
        """A statement of `queries.sql` on this space's columns."""
        slot, dimension = str(self.slot).encode(), str(self.dimension).encode()
        return statement.replace(b"{slot}", slot).replace(b"{dimension}", dimension)


def live(connection: Conn) -> Space:
    """The space that answers. Raises `NotRunning` when the database has none yet."""
    row = connection.execute(SQL["space_live"]).fetchone()
    if row is None:
        raise NotRunning("The database has no embedding space yet. Run `deskhand migrate`.")
    return Space(**row)


def wanted(connection: Conn) -> Space | None:
    """The space that is to become live."""
    row = connection.execute(SQL["space_wanted"]).fetchone()
    return Space(**row) if row else None


def targets(connection: Conn) -> list[Space]:
    """The spaces whose vectors an indexed document gets, the live one first.

    From here to the end of the transaction no other space becomes live.
    """
    connection.execute(SQL["space_lock_shared"])
    return [Space(**row) for row in connection.execute(SQL["space_targets"])]


def want(connection: Conn, *, name: str, revision: str, dimension: int, by: str) -> Space:
    """Have this space filled in and made live, instead of any that was wanted before.

    Raises `ConfigError` when it is the live one already.
    """
    connection.execute(SQL["space_lock"])
    row = connection.execute(
        SQL["space_register"], {"name": name, "revision": revision, "dimension": dimension}
    ).fetchone()
    assert row is not None, "an upsert returns its row"  # noqa: S101 - states an invariant
    connection.execute(SQL["space_unwant"])
    if row["live"]:
        raise ConfigError(f"The index answers with {name} already. Nothing was changed.")
    connection.execute(SQL["space_displace"], {"id": row["id"]})
    connection.execute(SQL["space_want"], {"id": row["id"], "by": by})
    found = wanted(connection)
    assert found is not None, "it was just written"  # noqa: S101 - states an invariant
    return found


def back(connection: Conn, *, base: str, by: str) -> Space:
    """Want the space that was live before the live one; `base`: name of the untrained model.

    Raises `ConfigError` when no trained one is live.
    """
    before = versions.before(connection, Kind.EMBEDDER)
    row = connection.execute(SQL["space_named"], {"name": before.name if before else base}).fetchone()
    if row is None:
        raise ConfigError(f"The index was never made with {base}. Nothing was changed.")
    return want(connection, **row, by=by)


def unwant(connection: Conn) -> None:
    """Leave it at the live one; vectors that were made stay where they are, for another time."""
    connection.execute(SQL["space_unwant"])


def claim(owner: Conn) -> bool:
    """Be the one that fills in vectors, as long as the connection lives; False: somebody else is.

    The same connection makes the index: so whoever is killed meanwhile keeps the claim until PostgreSQL
    has ended what it was doing for them.
    """
    row = owner.execute(SQL["space_claim"]).fetchone()
    return bool(row and row["ok"])


def texts(connection: Conn, space: Space, *, after: int, limit: int) -> list[Row]:
    """The next chunks, by id, without a vector of `space`: id, hash, title, headings, text."""
    values = {"space": space.id, "after": after, "limit": limit}
    return connection.execute(space.of(SQL["space_texts"]), values).fetchall()


def titles(connection: Conn, space: Space, *, after: int, limit: int) -> list[Row]:
    """The next documents, by id, whose title has no vector of `space`: id, title."""
    values = {"space": space.id, "after": after, "limit": limit}
    return connection.execute(space.of(SQL["space_titles"]), values).fetchall()


def fill(
    connection: Conn,
    space: Space,
    chunks: Mapping[int, Vector],
    documents: Sequence[tuple[int, str, Vector]] = (),
) -> None:
    """Write vectors of chunks by id, and of documents' titles as (id, title, vector).

    Waits for nobody: a row that somebody else holds, or a title that changed, is left for another time.
    """
    if chunks:
        vectors = [half(vector) for vector in chunks.values()]
        values = {"space": space.id, "ids": list(chunks), "vectors": vectors}
        connection.execute(space.of(SQL["space_fill"]), values)
    if documents:
        values = {
            "space": space.id,
            "ids": [document for document, _, _ in documents],
            "titles": [title for _, title, _ in documents],
            "vectors": [half(vector) for _, _, vector in documents],
        }
        connection.execute(space.of(SQL["space_fill_titles"]), values)


def counts(connection: Conn, space: Space) -> tuple[int, int]:
    """How many chunks have a vector of `space`, and how many chunks there are."""
    row = connection.execute(space.of(SQL["space_counts"]), {"space": space.id}).fetchone()
    return (row["done"], row["total"]) if row else (0, 0)


def tidy(owner: Conn) -> None:
    """Drop the indexes of spaces without a column, and what a process that died left unfinished."""
    for row in owner.execute(SQL["space_indexes"], {"start": INDEX}).fetchall():
        if not row["placed"] or not row["valid"]:
            owner.execute(sql.SQL("drop index concurrently {}").format(sql.Identifier(row["name"])))


def index(owner: Conn, space: Space) -> None:
    """Make the index of the space's vectors, if there is none, while everything else goes on."""
    name = f"{INDEX}{space.id}"
    if any(row["name"] == name for row in owner.execute(SQL["space_indexes"], {"start": INDEX})):
        return
    owner.execute(hnsw(space, concurrently=True))
    # Filling them in left a dead row for each live one, and statistics by which the column is empty.
    owner.execute("vacuum (analyze) chunk, document")


def hnsw(space: Space, *, concurrently: bool = False) -> sql.Composed:
    """The statement that makes the index of a space, if there is none."""
    return sql.SQL(
        "create index {concurrently} if not exists {name} on chunk using hnsw"
        " (({column}::halfvec({dimension})) halfvec_cosine_ops) with (m = 16, ef_construction = 64)"
        " where {of} = {space}"
    ).format(
        concurrently=sql.SQL("concurrently" if concurrently else ""),
        name=sql.Identifier(f"{INDEX}{space.id}"),
        column=sql.Identifier(f"embedding_{space.slot}"),
        dimension=sql.Literal(space.dimension),
        of=sql.Identifier(f"space_{space.slot}"),
        space=sql.Literal(space.id),
    )


def switch(connection: Conn, space: Space) -> bool:
    """Make the wanted space the live one, and its version with it; False: something lacks its vector.

    Waits for documents that are being indexed, and holds further ones off until the transaction
    ends. Questions neither wait nor are held off.
    """
    connection.execute(SQL["space_lock"])
    values = {"space": space.id, "slot": space.slot}
    row = connection.execute(space.of(SQL["space_lacking"]), values).fetchone()
    if row is None or row["lacking"]:
        return False
    connection.execute(SQL["space_retire"])
    connection.execute(SQL["space_take_over"], values)
    versions.answers(connection, Kind.EMBEDDER, space.name, by=row["wanted_by"])
    return True


def half(vector: Vector) -> HalfVector:
    return vector if isinstance(vector, HalfVector) else HalfVector(vector)
