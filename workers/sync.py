"""Carrying runs: a message wakes a process, which takes the run that waited longest, one slice at a time.

A sync reads for some seconds and steps aside, so that a long import doesn't hold up
a small source; every batch is committed with its checkpoint. What could not be read
before and is due comes first. Permission and
inventory runs are read whole, on a queue of their own. The run's advisory lock is
the claim: it falls with the process, whatever kills it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import psycopg
import structlog

from assistant.errors import DeskhandError, NotRunning, SourceBusy, SourceError, SourceRefused
from assistant.model import Batch
from assistant.store import breaker, documents, failures, sources
from assistant.store.db import Conn, Row, explain
from assistant.store.schedule import Job
from assistant.store.sources import Source
from assistant.store.sync import (
    Counts,
    Stale,
    commit_accesses,
    commit_batch,
    commit_memberships,
    count,
    delete,
    load,
)
from connectors.base import BATCH_SIZE, Connector
from workers.app import SYNC_SECONDS, UPKEEP_SECONDS, app
from workers.context import assistant

SLICE_SECONDS = 20.0
"""a sync steps aside after this long"""
AGAIN = 5
"""items read again between two looks at the clock: few, as each may run into all its time limits"""
FULL_DOCUMENTS = 1500
FULL_BYTES = 256 * 2**20
"""a source with this much waiting to be indexed is not read further for now"""
FULL_PAUSE_SECONDS = 2.0
ALIVE_SECONDS = 10.0
"""how often a long read says that it goes on"""
ACCESSES = 500
"""documents whose readers are compared in one transaction"""
SYNCING = (Job.SYNC,)
UPKEEP = (Job.PERMISSIONS, Job.INVENTORY, Job.RETRY)

log = structlog.get_logger()
Item = TypeVar("Item")


@app.task(name="workers.sync.work", ignore_result=True, time_limit=SYNC_SECONDS)
def work() -> None:
    """One slice of a sync, and a message for whatever else waits."""
    if _turn(SYNCING):
        work.delay()


@app.task(name="workers.sync.upkeep", ignore_result=True, time_limit=UPKEEP_SECONDS)
def upkeep() -> None:
    """One permission sync, inventory or retry, and a message for whatever else waits."""
    if _turn(UPKEEP):
        upkeep.delay()


def _turn(jobs: Sequence[Job]) -> bool:
    """Carry the next run of these jobs; False when there was none, or PostgreSQL is away."""
    try:
        lock = assistant().database.connect()
    except psycopg.Error as error:
        log.warning("run skipped", reason=explain(error))
        return False
    run = None
    try:
        run = sources.take(lock, jobs)
        source = sources.by_id(lock, run["source_id"]) if run else None
        if run is None or source is None:
            return False
        _guarded(lock, run, source)
    except (psycopg.OperationalError, NotRunning):
        log.warning("run interrupted, it goes on from its checkpoint", run=run and run["id"])
        return False
    finally:
        lock.close()
    return True


def _guarded(lock: Conn, run: Row, source: Source) -> None:
    """Whatever goes wrong with the source ends the run with a reason; nothing read is lost."""
    try:
        connector = assistant().connector(source)
        try:
            note = _JOBS[Job(run["job"])](lock, run, source, connector)
        finally:
            connector.close()
    except SourceRefused as error:
        sources.pause(lock, source.id, str(error))
        sources.finish(lock, run, error=str(error))
    except SourceBusy as error:
        if error.retry_after is not None:  # the source named a time, so the run simply waits for it
            sources.wait(lock, run["id"], seconds=error.retry_after, note=str(error))
        else:
            sources.finish(lock, run, error=str(error))
    except (NotRunning, psycopg.OperationalError):
        raise
    except DeskhandError as error:
        sources.finish(lock, run, error=str(error))
    except Exception as error:
        log.exception("run failed", run=run["id"], source=source.id)
        sources.finish(
            lock,
            run,
            error=f"An unexpected {type(error).__name__} stopped it; the worker's log has the details. What "
            "was read is kept, and the next sync goes on from there.",
        )
    else:
        if note is not None:
            sources.finish(lock, run, note=note)
            log.info("run done", run=run["id"], source=source.id, job=run["job"])


def _sync(lock: Conn, run: Row, source: Source, connector: Connector) -> str | None:
    """Read on from the checkpoint. None: there is more; else the source was read, with a note or ''."""
    database, fingerprint = assistant().database, assistant().fingerprint
    until = time.monotonic() + SLICE_SECONDS
    if _full(lock, run, source):
        return None
    more = _read_again(lock, run, source, connector)
    for batch in connector.sync(source.checkpoint):
        loaded = load(lock, source, batch, fingerprint)
        try:
            with database.writer() as connection:
                commit_batch(connection, source, run["id"], loaded, fingerprint)
        except Stale:
            sources.reread(lock, source.id)
            return None
        if time.monotonic() > until or _full(lock, run, source):
            return None
    return None if more else ""


def _read_again(lock: Conn, run: Row, source: Source, connector: Connector) -> bool:
    """Read what is due after a failure, for half a slice so that news don't wait for it; True: there is more.

    A sync does it, not the retry that finds it due, because there is one sync of a source at a
    time: so an older reading never overwrites a newer one. What is due stays so until it is
    committed, hence a crash loses nothing.
    """
    until = time.monotonic() + SLICE_SECONDS / 2
    fingerprint = assistant().fingerprint
    if source.checkpoint is None:  # everything is read anyway
        return False
    while ids := failures.due(lock, source, limit=AGAIN):
        if time.monotonic() > until:
            return True
        for some in _batches(connector.read(ids), BATCH_SIZE):
            loaded = load(lock, source, Batch(tuple(some), source.checkpoint), fingerprint)
            with assistant().database.writer() as connection:
                commit_batch(connection, source, run["id"], loaded, fingerprint)
        failures.was_read(lock, source, ids)
    return False


def _full(lock: Conn, run: Row, source: Source) -> bool:
    """Whether the run has to wait because the source's queue is full."""
    full = documents.full(lock, source.id, documents=FULL_DOCUMENTS, size=FULL_BYTES)
    if full:
        sources.wait(lock, run["id"], seconds=FULL_PAUSE_SECONDS)
    return full


def _permissions(lock: Conn, run: Row, source: Source, connector: Connector) -> str:
    database, fingerprint = assistant().database, assistant().fingerprint
    members = list(_alive(lock, run, connector.memberships()))
    with database.writer() as connection:
        commit_memberships(connection, source, members, fingerprint)
    changed = 0
    for some in _batches(_alive(lock, run, connector.accesses()), ACCESSES):
        with database.writer() as connection:
            changed += commit_accesses(connection, source, some, fingerprint)
    with database.writer() as connection:
        count(connection, run["id"], Counts(changed=changed))
    return ""


def _inventory(lock: Conn, run: Row, source: Source, connector: Connector) -> str:
    """Delete what the source no longer has; when it isn't sure, delete nothing and say why."""
    if not sources.stored(lock, source.id):
        return ""
    try:
        present = set(_alive(lock, run, connector.inventory()))
    except SourceRefused:
        raise
    except SourceError as error:
        if isinstance(error, SourceBusy) and error.retry_after is not None:
            raise
        return str(error)
    with assistant().database.writer() as connection:
        gone, note = breaker.missing(connection, source, run, present)
        counts = Counts()
        for some in _batches(gone, ACCESSES):
            delete(connection, source, some, counts)
        count(connection, run["id"], counts)
        if not note:
            failures.forget(connection, source.id, there=present, before=run["started_at"])
    return note


def _retry(lock: Conn, run: Row, source: Source, connector: Connector) -> str:
    with assistant().database.writer() as connection:
        failures.retry_passing(connection, source)
    return ""


def _alive(lock: Conn, run: Row, items: Iterator[Item]) -> Iterator[Item]:
    """The same items; now and then the run's row says that it goes on."""
    told = time.monotonic()
    for item in items:
        if time.monotonic() - told > ALIVE_SECONDS:
            sources.alive(lock, run["id"])
            told = time.monotonic()
        yield item


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


_JOBS: dict[Job, Callable[[Conn, Row, Source, Connector], str | None]] = {
    Job.SYNC: _sync,
    Job.PERMISSIONS: _permissions,
    Job.INVENTORY: _inventory,
    Job.RETRY: _retry,
}
