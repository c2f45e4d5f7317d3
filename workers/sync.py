"""Carrying a sync run: slices of a source, each batch committed with its checkpoint."""

from __future__ import annotations

import time

import psycopg
import structlog

from assistant.errors import DeskhandError, NotRunning, SourceBusy, SourceError, SourceRefused
from assistant.store import documents, sources
from assistant.store.db import Conn, Row, explain
from assistant.store.sources import Source
from assistant.store.sync import commit_batch, commit_memberships, prune
from connectors.base import Connector
from workers.app import app
from workers.context import assistant

SLICE_SECONDS = 20.0
"""a run steps aside after this long, so that a first import doesn't hold up small sources"""
FULL_DOCUMENTS = 1500
FULL_BYTES = 256 * 2**20
"""a source with this much waiting to be indexed is not read further for now"""

log = structlog.get_logger()


@app.task(name="workers.sync.carry", ignore_result=True)
def carry(run_id: int) -> None:
    """One slice of the run. The session's advisory lock is the claim: it falls with the process."""
    try:
        lock = assistant().database.connect()
    except psycopg.Error as error:
        log.warning("sync skipped", run=run_id, reason=explain(error))
        return
    try:
        run = sources.carry(lock, run_id)
        if run is None:
            return
        source = sources.by_id(lock, run["source_id"])
        if source is None:
            return
        _guarded(lock, run, source)
    except (psycopg.OperationalError, NotRunning):
        log.warning("sync interrupted, it goes on from its checkpoint", run=run_id)
    finally:
        lock.close()


def _guarded(lock: Conn, run: Row, source: Source) -> None:
    """Whatever goes wrong with the source ends the run with a reason; nothing read is lost."""
    try:
        connector = assistant().connector(source)
        try:
            note = _slice(lock, run, source, connector)
        finally:
            connector.close()
    except SourceRefused as error:
        sources.pause(lock, source.id, str(error))
        sources.finish(lock, run["id"], error=str(error))
    except SourceBusy as error:
        sources.postpone(lock, source.id, seconds=error.retry_after or 60.0)
        sources.finish(lock, run["id"], error=str(error))
    except (NotRunning, psycopg.OperationalError):
        raise
    except DeskhandError as error:
        sources.finish(lock, run["id"], error=str(error))
    except Exception as error:
        log.exception("sync failed", run=run["id"], source=source.id)
        sources.finish(
            lock,
            run["id"],
            error=f"An unexpected {type(error).__name__} stopped it; the worker's log has the details. What "
            "was read is kept, and the next sync goes on from there.",
        )
    else:
        if note is not None:
            sources.finish(lock, run["id"], note=note)
            log.info("sync done", run=run["id"], source=source.id)


def _slice(lock: Conn, run: Row, source: Source, connector: Connector) -> str | None:
    """Read on from the checkpoint. None: there is more; else the source was read, with a note or ''."""
    database = assistant().database
    if run["slices"] == 1:
        with database.writer() as connection:
            commit_memberships(connection, source, connector.memberships())
    until = time.monotonic() + SLICE_SECONDS
    if documents.full(lock, source.id, documents=FULL_DOCUMENTS, size=FULL_BYTES):
        return None
    for batch in connector.sync(source.checkpoint):
        with database.writer() as connection:
            commit_batch(connection, source, run["id"], batch)
        if time.monotonic() > until:
            return None
        if documents.full(lock, source.id, documents=FULL_DOCUMENTS, size=FULL_BYTES):
            return None
    return _prune(run, source, connector)


def _prune(run: Row, source: Source, connector: Connector) -> str:
    """Delete what the source no longer has; when it isn't sure, delete nothing and return why."""
    try:
        present = set(connector.inventory())
        with assistant().database.writer() as connection:
            prune(
                connection, source, run["id"], present, before=run["started_at"], confirmed=run["prune_all"]
            )
    except SourceRefused:
        raise
    except SourceError as error:
        return str(error)
    return ""
