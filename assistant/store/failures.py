"""What could not be read or indexed, why, and trying it again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from assistant.store import sources
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL


def listing(connection: Conn, *, source: str | None = None) -> list[Row]:
    return connection.execute(SQL["failure_list"], {"source": source}).fetchall()


def retry_passing(connection: Conn, source_id: int) -> int:
    """Queue again what failed at indexing for a reason that may have passed, as a time limit."""
    ids = [row["id"] for row in connection.execute(SQL["failure_passing"], {"source": source_id})]
    return connection.execute(SQL["pending_retry"], {"ids": ids}).rowcount if ids else 0


def retry(connection: Conn, ids: Sequence[int]) -> int:
    """Queue them again: from the stored body where it was read, else by a new sync of the source.

    Returns how many were queued. The rows stay until the document is indexed.
    """
    values = {"ids": list(ids)}
    queued = connection.execute(SQL["pending_retry"], values).rowcount
    for row in connection.execute(SQL["failure_sources_to_read"], values).fetchall():
        source = sources.by_id(connection, row["source_id"])
        if source is not None:
            sources.request(connection, source)
            queued += 1
    return queued


def forget(connection: Conn, source_id: int, *, there: set[str], before: dt.datetime) -> None:
    """Forget failures to read, older than `before`, of what a complete inventory doesn't have.

    One that was about a place, such as a line of an export without an id, is about
    nothing any more once the item there has an id of its own; so is one of an item
    that is gone and never became a document.
    """
    rows = connection.execute(SQL["failure_before"], {"source": source_id, "before": before}).fetchall()
    gone = [row["external_id"] for row in rows if row["external_id"] not in there]
    connection.execute(SQL["failure_forget"], {"source": source_id, "ids": gone})
