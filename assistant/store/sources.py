"""Sources and their sync runs. A run's row is the truth; a message only hints that it exists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assistant.errors import ConfigError
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL

ACTIVE_RUN_LOCK = 0x0D15
"""first key of the advisory lock a worker holds while it carries a run; the run's id is the second"""


@dataclass(frozen=True, slots=True)
class Source:
    id: int
    name: str
    connector: str
    realm: str
    settings: Mapping[str, Any]
    secrets: bytes | None
    checkpoint: Mapping[str, Any] | None
    paused: str

    @classmethod
    def of(cls, row: Row) -> Source:
        return cls(**{name: row[name] for name in cls.__slots__})


def add(
    connection: Conn,
    *,
    name: str,
    connector: str,
    realm: str,
    settings: Mapping[str, Any],
    secrets: bytes | None,
    every_seconds: float | None,
) -> int:
    row = connection.execute(
        SQL["source_add"],
        {
            "name": name,
            "connector": connector,
            "realm": realm,
            "settings": json.dumps(settings),
            "secrets": secrets,
            "every": every_seconds,
        },
    ).fetchone()
    if row is None:
        raise ConfigError(f"There is a source «{name}» already. Nothing was changed; choose another name.")
    return int(row["id"])


def get(connection: Conn, name: str) -> Source:
    row = connection.execute(SQL["source_by_name"], {"name": name}).fetchone()
    if row is None:
        known = ", ".join(s.name for s in everything(connection)) or "none yet"
        raise ConfigError(f"There is no source «{name}». Known: {known}.")
    return Source.of(row)


def by_id(connection: Conn, source_id: int) -> Source | None:
    row = connection.execute(SQL["source_by_id"], {"id": source_id}).fetchone()
    return Source.of(row) if row else None


def everything(connection: Conn) -> list[Source]:
    return [Source.of(row) for row in connection.execute(SQL["source_all"])]


def remove(connection: Conn, source: Source) -> None:
    """The source with everything read from it; unsearchable from this transaction on."""
    connection.execute(SQL["source_remove"], {"id": source.id})


def request(connection: Conn, source: Source, *, prune_all: bool = False) -> int:
    """Id of the run that will do it: a new one, or the one already under way."""
    connection.execute(SQL["run_request"], {"source": source.id, "prune_all": prune_all})
    row = connection.execute(SQL["run_active"], {"source": source.id}).fetchone()
    if row is None:
        raise ConfigError(f"The sync of «{source.name}» could not be queued; try again.")
    return int(row["id"])


def due(connection: Conn) -> list[int]:
    """Runs to send a message for: those just become due, and those nobody carries."""
    connection.execute(SQL["run_request_due"])
    return [int(row["id"]) for row in connection.execute(SQL["run_orphans"], {"lock": ACTIVE_RUN_LOCK})]


def carry(connection: Conn, run_id: int) -> Row | None:
    """Take the run for as long as `connection` lives, or None when another worker has it."""
    taken = connection.execute(
        "select pg_try_advisory_lock(%s, %s) as ok", (ACTIVE_RUN_LOCK, run_id % 2**31)
    ).fetchone()
    if taken is None or not taken["ok"]:
        return None
    return connection.execute(SQL["run_start"], {"id": run_id}).fetchone()


def finish(connection: Conn, run_id: int, *, error: str = "", note: str = "") -> None:
    """End a run: failed with an `error`, else done, perhaps with a `note` for the admin."""
    connection.execute(SQL["run_finish"], {"id": run_id, "error": error, "note": note})


def pause(connection: Conn, source_id: int, reason: str) -> None:
    connection.execute("update source set paused = %s where id = %s", (reason, source_id))


def postpone(connection: Conn, source_id: int, *, seconds: float) -> None:
    """The source asked to be left alone for a while."""
    connection.execute(SQL["source_postpone"], {"id": source_id, "seconds": seconds})


def resume(connection: Conn, source_id: int) -> None:
    connection.execute("update source set paused = '' where id = %s", (source_id,))


def overview(connection: Conn) -> list[Row]:
    """One row a source: counts of documents, tickets, chunks, pending, failures, and its last run."""
    return connection.execute(SQL["overview"]).fetchall()


def run(connection: Conn, run_id: int) -> Row | None:
    return connection.execute(SQL["run_progress"], {"id": run_id}).fetchone()
