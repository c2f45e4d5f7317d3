"""What the store knows of which texts belong together: links that agents gave, and relations of tickets.

It reads as the writer, so everything: it is for training, never for an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector

from assistant.store.db import Conn, Row
from assistant.store.spaces import Space
from assistant.store.sql import SQL


def addressed(connection: Conn) -> list[Row]:
    """Documents and tickets that have an address: id, url, kind, created_at, customer_id."""
    return connection.execute(SQL["pair_addressed"]).fetchall()


def linking(connection: Conn) -> Iterator[Row]:
    """What agents wrote in tickets with an address in it: document_id, text."""
    return iter(connection.execute(SQL["pair_linking"]))


def related(connection: Conn) -> list[Row]:
    """Tickets that their source relates to an earlier one: id, other."""
    return connection.execute(SQL["pair_related"]).fetchall()


def asked(connection: Conn, documents: Sequence[int]) -> list[Row]:
    """Tickets as they were opened: id, title, created_at, customer_id, and what the customer wrote first."""
    return connection.execute(SQL["pair_asked"], {"ids": list(documents)}).fetchall()


def ids(connection: Conn, names: Sequence[str]) -> dict[str, int]:
    """External id → id, of a store that has one source."""
    rows = connection.execute(SQL["pair_ids"], {"names": list(names)})
    return {row["external_id"]: row["id"] for row in rows}


def tokens(connection: Conn) -> frozenset[str]:
    """Everything that anybody may have to read something: who has them all reads everything."""
    return frozenset(row["token"] for row in connection.execute(SQL["pair_tokens"]))


def nearest(
    connection: Conn, space: Space, documents: Sequence[int], vector: NDArray[np.float32], *, each: int
) -> list[Row]:
    """Of each document the chunks nearest to the vector, the best first: id, document_id, cosine."""
    values = {"space": space.id, "ids": list(documents), "vector": HalfVector(vector), "each": each}
    return connection.execute(space.of(SQL["pair_nearest"]), values).fetchall()


def chunks(connection: Conn, *, documents: Sequence[int]) -> list[Row]:
    """All chunks of the documents, in order: id, document_id, title, headings, text, kind, created_at."""
    return connection.execute(SQL["pair_chunks"], {"ids": list(documents)}).fetchall()


def some(connection: Conn, *, count: int) -> list[int]:
    """About so many documents, spread evenly over all of them."""
    return [row["id"] for row in connection.execute(SQL["pair_some"], {"count": count})]
