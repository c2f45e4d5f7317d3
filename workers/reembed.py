"""Another embedder takes over: a message wakes a process, which works on what the wanted space lacks."""

from __future__ import annotations

import psycopg
import structlog

from assistant.errors import ConfigError, ModelUnavailable, NotRunning
from assistant.ingest import reembed
from workers.app import app
from workers.context import assistant

SHIFT_SECONDS = 45.0
"""then it steps aside, so that permissions and inventories, which have the same queue, take their turn"""

log = structlog.get_logger()


@app.task(name="workers.reembed.work", ignore_result=True)
def work() -> None:
    try:
        more = reembed.run(assistant().database, assistant().embedders, seconds=SHIFT_SECONDS)
    except (psycopg.OperationalError, NotRunning) as error:
        log.warning("re-embedding interrupted, it goes on where it was", reason=type(error).__name__)
        return
    except (ModelUnavailable, ConfigError) as error:
        log.warning("re-embedding given up, the index stays as it is", reason=str(error))
        return
    if more:
        work.delay()
