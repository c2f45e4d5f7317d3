"""What watches Deskhand asks for: `/metrics` for Prometheus, `/healthz` and `/readyz` for whatever restarts it.

Metrics take a token of an admin with the scope `metrics`, also on this machine: behind a proxy
everybody comes from here. Sources are told by id; no name and no text is among the numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Annotated

import redis
import structlog
from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from assistant import servers
from assistant.app import Assistant
from assistant.errors import DeskhandError
from assistant.runtime.up import INGEST, SYNC, TICK, TUNE, UPKEEP
from assistant.store import documents, sources
from assistant.store.db import Row
from assistant.surfaces.api import limits
from assistant.surfaces.api.access import Caller, Desk, Role, needs

STATES = ("never", "queued", "running", "done", "failed", "paused")
OF_SOURCE = {
    "documents": "Documents and tickets that are stored.",
    "chunks": "Passages that can be found.",
    "pending": "Documents that wait to be indexed.",
    "failures": "Documents that could not be used.",
    "held": "Deletions that wait to be confirmed.",
}
QUEUES = (SYNC, UPKEEP, INGEST, TICK, TUNE)

log = structlog.get_logger()
router = APIRouter(include_in_schema=False)


@router.get("/metrics")
def metrics(_: Annotated[Caller, Depends(needs(Role.ADMIN, "metrics"))], assistant: Desk) -> Response:
    with assistant.database.writer() as connection:
        rows, ready = sources.overview(connection), documents.ready(connection)
    registry = CollectorRegistry()
    registry.register(_Stored(rows, ready, _waiting(assistant)))
    return Response(generate_latest(REGISTRY) + generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/healthz")
def alive() -> dict[str, str]:
    """This process answers; whatever else is down, a restart of it would not help."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(assistant: Desk) -> JSONResponse:
    """Whether a question could be answered now, and otherwise what is missing."""
    checks: dict[str, Callable[[], object]] = {
        "database": assistant.database.ping,
        "broker": limits.client(servers.redis_url(assistant.settings)).ping,
    }
    missing = [name for name, check in checks.items() if not _works(check)]
    told = {"status": "not ready" if missing else "ready", "missing": missing}
    return JSONResponse(told, status_code=503 if missing else 200)


class _Stored(Collector):
    """What the database and the broker say at this moment."""

    def __init__(self, rows: list[Row], ready: int, waiting: dict[str, int]) -> None:
        self._rows, self._ready, self._waiting = rows, ready, waiting

    def collect(self) -> Iterable[GaugeMetricFamily]:
        states = Counter("paused" if row["paused"] else row["run_state"] or "never" for row in self._rows)
        yield _family("deskhand_sources", "Sources, by state.", "state", {s: states[s] for s in STATES})
        for name, help_text in OF_SOURCE.items():
            counts = {str(row["id"]): _count(row, name) for row in self._rows}
            yield _family(f"deskhand_source_{name}", help_text, "source", counts)
        ended = {str(row["id"]): row["finished_at"].timestamp() for row in self._rows if row["finished_at"]}
        yield _family(
            "deskhand_source_last_run_timestamp_seconds", "When a source's run ended.", "source", ended
        )
        yield GaugeMetricFamily(
            "deskhand_queue_documents", "Documents that could be indexed now.", value=self._ready
        )
        yield _family("deskhand_queue_messages", "Hints that wait in the broker.", "queue", self._waiting)


def _count(row: Row, name: str) -> int:
    return row["documents"] + row["tickets"] if name == "documents" else row[name] or 0


def _family(
    name: str, help_text: str, label: str, values: dict[str, float] | dict[str, int]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _waiting(assistant: Assistant) -> dict[str, int]:
    """Messages by queue; nothing when the broker is away, which is what an alert looks for."""
    try:
        client = limits.client(servers.redis_url(assistant.settings))
        return {queue: int(client.llen(queue)) for queue in QUEUES}  # pyright: ignore[reportArgumentType] - not awaited
    except (redis.RedisError, DeskhandError) as error:
        log.warning("metrics.no_broker", error=type(error).__name__)
        return {}


def _works(check: Callable[[], object]) -> bool:
    try:
        check()
    except (DeskhandError, redis.RedisError):
        return False
    return True
