"""Indexing: a message wakes a process, which works until the queue in PostgreSQL is empty."""

from __future__ import annotations

import time

import structlog

from assistant.errors import NotRunning
from workers.app import app
from workers.context import assistant

SHIFT_SECONDS = 45.0
"""a task ends after this long, so that stopping and replacing a process is never far away"""

log = structlog.get_logger()


@app.task(name="workers.ingest.index", ignore_result=True)
def index() -> None:
    pipeline = assistant().pipeline
    until = time.monotonic() + SHIFT_SECONDS
    try:
        while time.monotonic() < until:
            if pipeline.run_batch() is None:
                return
    except NotRunning as error:
        log.warning("indexing interrupted", reason=str(error))
        return
    index.delay()
