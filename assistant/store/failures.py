"""What could not be read or indexed, why, and trying it again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from assistant.store import sources
from assistant.store.db import Conn, Row
from assistant.store.sources import Source
from assistant.store.sql import SQL

READ_TRIES = 10
"""an item that could not be read so often is read again only when it changes or somebody asks"""


def listing(
    connection: Conn, *, source: str | None = None, before: int | None = None, limit: int | None = None
) -> list[Row]:
    """The latest first; `before`: older than the one with this id."""
    values = {"source": source, "before": before, "limit": limit}
    return connection.execute(SQL["failure_list"], values).fetchall()


def retry_passing(connection: Conn, source: Source) -> int:
    """Queue again what failed for a reason that may have passed, as a time limit or a server's trouble."""
    ids = [row["id"] for row in connection.execute(SQL["failure_passing"], {"source": source.id})]
    queued = connection.execute(SQL["pending_retry"], {"ids": ids}).rowcount if ids else 0
    values = {"source": source.id, "attempts": READ_TRIES}
    if due := connection.execute(SQL["failure_read_passing"], values).rowcount:
        sources.request(connection, source)
    return queued + due


def retry(connection: Conn, ids: Sequence[int]) -> int:
    """Queue them again: from the stored body where it was read, else for the source's next sync, requested here.

    Returns how many were queued. The rows stay until the document is indexed.
    """
    values = {"ids": list(ids)}
    queued = connection.execute(SQL["pending_retry"], values).rowcount
    due = [row["source_id"] for row in connection.execute(SQL["failure_read_again"], values)]
    for source_id in sorted(set(due)):
        source = sources.by_id(connection, source_id)
        if source is not None:
            sources.request(connection, source)
    return queued + len(due)


def due(connection: Conn, source: Source, *, limit: int) -> list[str]:
    """Items to be read again, the longest waiting first; in place of an attachment what it hangs on."""
    rows = connection.execute(SQL["failure_due"], {"source": source.id, "limit": limit})
    return [row["item"] for row in rows]


def was_read(connection: Conn, source: Source, ids: Sequence[str]) -> None:
    """They were read again, whatever came of it: what failed once more is due later."""
    connection.execute(SQL["failure_was_read"], {"source": source.id, "ids": list(ids)})


def forget(connection: Conn, source_id: int, *, there: set[str], before: dt.datetime) -> None:
    """Forget failures to read, older than `before`, of what a complete inventory doesn't have.

    One that was about a place, such as a line of an export without an id, is about
    nothing any more once the item there has an id of its own; so is one of an item
    that is gone and never became a document.
    """
    rows = connection.execute(SQL["failure_before"], {"source": source_id, "before": before}).fetchall()
    gone = [row["external_id"] for row in rows if row["external_id"] not in there]
    connection.execute(SQL["failure_forget"], {"source": source_id, "ids": gone})
