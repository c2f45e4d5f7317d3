"""Training: a message wakes a process, which starts another one for it and waits.

The training's row is the truth, and its advisory lock the claim; both outlive this
process and the broker. The one that trains may be killed, or outlive the one that started it:
the next tick goes on with what is left to do.
"""

from __future__ import annotations

import psycopg
import structlog

from assistant.errors import NotRunning
from assistant.store import versions
from assistant.store.db import explain
from assistant.store.versions import Kind
from assistant.tune import job
from workers.app import app
from workers.context import assistant

log = structlog.get_logger()


@app.task(name="workers.tune.train", ignore_result=True, acks_late=False)
def train() -> None:
    """The training that waits longest. It takes hours, so it is acknowledged at once: the tick repeats it."""
    try:
        with assistant().database.connect() as connection:
            version = versions.waiting(connection, Kind.GENERATOR)
            if version is None or not versions.claim(connection, version):
                return
    except (psycopg.Error, NotRunning) as error:
        log.warning("training skipped", reason=explain(error))
        return
    log.info("training", version=version.name)
    ended = job.start(assistant().settings, version, politely=True).wait()
    log.info("training ended", version=version.name, exit=ended)
