"""The tick: looks in PostgreSQL for what is due or lies idle, and says so to the queues.

Two beats double the ticks, which is harmless: what is due is claimed in the
database, and a second message for the same work finds it locked.
"""

from __future__ import annotations

import redis
import structlog

from assistant import servers
from assistant.config import settings
from assistant.errors import NotRunning
from assistant.store import customers, documents, feedback, sources, spaces, versions
from assistant.store.versions import Kind
from workers.app import app
from workers.context import assistant
from workers.ingest import index
from workers.reembed import work as reembed
from workers.sync import SYNCING, UPKEEP, upkeep, work
from workers.tune import train

WAKE_UPS = 4
"""messages kept waiting in a queue at most: enough to wake every process, cheap to drop"""
CUSTOMERS = 500
"""new customers compared with the others in one tick"""

log = structlog.get_logger()


@app.task(name="workers.schedule.tick", ignore_result=True, acks_late=False)
def tick() -> None:
    try:
        with assistant().database.writer() as connection:
            sources.request_due(connection)
        with assistant().database.writer() as connection:
            syncs = len(sources.waiting(connection, SYNCING, limit=WAKE_UPS))
            upkeeps = len(sources.waiting(connection, UPKEEP, limit=WAKE_UPS))
            trainings = int(versions.waiting(connection, Kind.GENERATOR) is not None)
            documents_waiting = documents.ready(connection)
            wanted = spaces.wanted(connection) is not None
            if not documents_waiting:
                documents.refresh_statistics(connection)
        for _ in range(CUSTOMERS):
            with assistant().database.writer() as connection:
                if not customers.resolve(connection):
                    break
    except NotRunning as error:
        log.warning("tick skipped", reason=str(error))
        return
    for count, task, queue in (
        (syncs, work, "sync"),
        (upkeeps, upkeep, "upkeep"),
        (int(wanted), reembed, "upkeep"),
        (-(-documents_waiting // documents.BATCH), index, "ingest"),
        (trainings, train, "tune"),
    ):
        if count:
            for _ in range(min(count, WAKE_UPS) - _queued(queue)):
                task.delay()


@app.task(name="workers.schedule.outcomes", ignore_result=True, acks_late=False)
def outcomes() -> None:
    """What became of the tickets that drafts were written for; once more changes nothing."""
    try:
        with assistant().database.writer() as connection:
            made = feedback.record_outcomes(connection)
    except NotRunning as error:
        log.warning("outcomes skipped", reason=str(error))
        return
    if made:
        log.info("outcomes", new=made)


def _queued(queue: str) -> int:
    """Messages that wait in `queue`."""
    client = redis.Redis.from_url(servers.redis_url(settings()))
    try:
        return int(client.llen(queue))  # pyright: ignore[reportArgumentType] - typed for async too
    finally:
        client.close()
