"""Sources and their sync runs. A run's row is the truth; a message only hints that it exists."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.errors import LockNotAvailable

from assistant.errors import ConfigError, NotThere
from assistant.store import schedule
from assistant.store.db import Conn, Row
from assistant.store.schedule import Job, Times
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
    prune_share: float

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
    """A new source, synced at once and then every so often; without `every_seconds` only when asked."""
    row = connection.execute(
        SQL["source_add"],
        {
            "name": name,
            "connector": connector,
            "realm": realm,
            "settings": json.dumps(settings),
            "secrets": secrets,
        },
    ).fetchone()
    if row is None:
        raise ConfigError(f"There is a source «{name}» already. Nothing was changed; choose another name.")
    source_id = int(row["id"])
    if every_seconds is not None:
        for job, times in schedule.DEFAULTS.items():
            chosen = Times(every=every_seconds) if job is Job.SYNC else times
            schedule.put(connection, source_id, job, chosen, now=job in (Job.SYNC, Job.PERMISSIONS))
    return source_id


def get(connection: Conn, name: str) -> Source:
    row = connection.execute(SQL["source_by_name"], {"name": name}).fetchone()
    if row is None:
        known = ", ".join(s.name for s in everything(connection)) or "none yet"
        raise NotThere(f"There is no source «{name}». Known: {known}.")
    return Source.of(row)


def by_id(connection: Conn, source_id: int) -> Source | None:
    row = connection.execute(SQL["source_by_id"], {"id": source_id}).fetchone()
    return Source.of(row) if row else None


def everything(connection: Conn) -> list[Source]:
    return [Source.of(row) for row in connection.execute(SQL["source_all"])]


def remove(connection: Conn, source: Source) -> None:
    """The source with everything read from it; unsearchable from this transaction on."""
    connection.execute(SQL["source_remove"], {"id": source.id})


def request(connection: Conn, source: Source, *, job: Job = Job.SYNC, prune_all: bool = False) -> int:
    """Id of the run that will do it: a new one, or the one already under way."""
    row = connection.execute(
        SQL["run_request"], {"source": source.id, "job": job.value, "prune_all": prune_all}
    ).fetchone()
    assert row is not None, "an upsert returns its row"  # noqa: S101 - states an invariant
    return int(row["id"])


def request_all(connection: Conn, source: Source, *, prune_all: bool = False) -> list[int]:
    """Ids of the runs that bring a source wholly up to date: its people, its items, what is gone."""
    return [
        request(connection, source, job=job, prune_all=prune_all)
        for job in (Job.PERMISSIONS, Job.SYNC, Job.INVENTORY)
    ]


def request_due(connection: Conn) -> None:
    """Turn what the schedules say into runs."""
    for source_id, job in schedule.claim_due(connection):
        connection.execute(SQL["run_request"], {"source": source_id, "job": job.value, "prune_all": False})


def waiting(connection: Conn, jobs: Collection[Job], *, limit: int = 100) -> list[int]:
    """Runs of these jobs that could be carried now and are not, the longest waiting first."""
    rows = connection.execute(
        SQL["run_waiting"], {"jobs": [j.value for j in jobs], "lock": ACTIVE_RUN_LOCK, "limit": limit}
    )
    return [int(row["id"]) for row in rows]


def take(connection: Conn, jobs: Collection[Job]) -> Row | None:
    """Carry the next waiting run for as long as `connection` lives; None when there is none."""
    for run_id in waiting(connection, jobs):
        if (run := carry(connection, run_id)) is not None:
            return run
    return None


def carry(connection: Conn, run_id: int) -> Row | None:
    """Take the run for as long as `connection` lives, or None when another worker has it."""
    key = (ACTIVE_RUN_LOCK, run_id % 2**31)
    taken = connection.execute("select pg_try_advisory_lock(%s, %s) as ok", key).fetchone()
    if taken is None or not taken["ok"]:
        return None
    run = connection.execute(SQL["run_start"], {"id": run_id}).fetchone()
    if run is None:  # it ended, or has to wait, since it was looked up
        connection.execute("select pg_advisory_unlock(%s, %s)", key)
    return run


def alive(connection: Conn, run_id: int) -> None:
    connection.execute(SQL["run_alive"], {"id": run_id})


def wait(connection: Conn, run_id: int, *, seconds: float, note: str = "") -> None:
    """The run goes on, but not before so many seconds have passed."""
    connection.execute(SQL["run_wait"], {"id": run_id, "seconds": seconds, "note": note})


def finish(connection: Conn, run: Row, *, error: str = "", note: str = "", wait: float = 0.0) -> None:
    """End a run: failed with an `error`, else done, perhaps with a `note` for the admin.

    After an error the next scheduled one waits, the longer the more often it failed in a row.
    """
    connection.execute(SQL["run_finish"], {"id": run["id"], "error": error, "note": note})
    schedule.outcome(connection, run["source_id"], run["job"], failed=bool(error), wait=wait)


def pause(connection: Conn, source_id: int, reason: str) -> None:
    connection.execute("update source set paused = %s where id = %s", (reason, source_id))


def resume(connection: Conn, source_id: int) -> None:
    connection.execute("update source set paused = '' where id = %s", (source_id,))


def progress(row: Row) -> tuple[int, int]:
    """Of a run's row with what is `pending`: documents read and indexed, of how many as far as is known."""
    read = row["added"] + row["changed"] + row["unchanged"]
    return max(read - row["pending"], 0), max(row["total"] or 0, read)


def overview(connection: Conn) -> list[Row]:
    """One row a source: counts of documents, tickets, chunks, pending, failures, and its last run."""
    return connection.execute(SQL["overview"]).fetchall()


def change(connection: Conn, source_id: int, settings: Mapping[str, Any]) -> None:
    """Set these of its settings, which the caller has validated."""
    connection.execute(SQL["source_settings"], {"id": source_id, "settings": json.dumps(settings)})


def reread(connection: Conn, source_id: int) -> None:
    """Forget the checkpoint: the next slice reads everything, and what is unchanged is not embedded again."""
    connection.execute(SQL["source_reread"], {"id": source_id})


def start_over(connection: Conn, source: Source) -> None:
    """Have it read from its beginning. Waits until no worker is in the middle of it, who would
    overwrite the checkpoint; give it a connection that commits by itself."""
    run_id = request(connection, source)
    try:
        with connection.transaction():
            connection.execute("set local lock_timeout = '2min'")
            connection.execute("select pg_advisory_xact_lock(%s, %s)", (ACTIVE_RUN_LOCK, run_id % 2**31))
            reread(connection, source.id)
            request(connection, source)  # unless the run goes on, it ended just now
    except LockNotAvailable as error:
        raise ConfigError(
            f"«{source.name}» is being synced, so it could not be told to begin anew. Nothing was lost; "
            "run the same again when `deskhand status` shows that it is done."
        ) from error


def stored(connection: Conn, source_id: int) -> bool:
    """Whether anything of the source is here."""
    row = connection.execute(SQL["document_stored"], {"source": source_id}).fetchone()
    return bool(row and row["any"])


def active(connection: Conn, source_id: int) -> list[int]:
    """Ids of its runs that are not done yet."""
    return [int(row["id"]) for row in connection.execute(SQL["runs_active"], {"source": source_id})]


def run(connection: Conn, run_id: int) -> Row | None:
    return connection.execute(SQL["run_progress"], {"id": run_id}).fetchone()
