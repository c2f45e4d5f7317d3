"""Sources for admins: how each is, what to do with it, and what could not be read of it."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from assistant.store import breaker, failures, manage, schedule, sources
from assistant.store.db import Row
from assistant.store.schedule import Job
from assistant.surfaces.api.access import Caller, Desk, Role, needs
from assistant.surfaces.api.wire import BIGGEST, Id, Line, Page, page

router = APIRouter(prefix="/api/v1/admin", tags=["admin: sources"])
Admin = Annotated[Caller, Depends(needs(Role.ADMIN, "admin"))]


class SourceRow(BaseModel):
    """One source. Counts of the last run are of the one that goes on or went wrong, if any."""

    id: int
    name: str
    connector: str
    realm: str
    state: str
    """never, queued, running, done, failed or paused"""
    last_run: dt.datetime | None
    """when the last one ended"""
    next_run: dt.datetime | None
    every: str | None
    """how often it is synced: 15m; null: at the times of `cron`, or only when asked"""
    cron: str
    documents: int
    tickets: int
    chunks: int
    pending: int
    """documents that are read and not yet indexed"""
    failures: int
    paused: str
    """why; empty: it is not"""
    held: int
    """deletions that wait to be confirmed"""
    held_examples: list[str]
    progress: float | None
    """0..1 of a run that goes on"""
    read: int
    total: int
    added: int
    changed: int
    unchanged: int
    deleted: int
    failed: int
    error: str
    note: str


class FailureRow(BaseModel):
    id: int
    source: str
    external_id: str
    stage: str
    reason: str
    attempts: int
    first_at: dt.datetime
    last_at: dt.datetime


class Runs(BaseModel):
    runs: list[int]
    """ids of what was asked for, or is under way already"""


class Schedule(BaseModel):
    every: Line
    """30s, 15m, 6h, 1d or never"""


class Retry(BaseModel):
    ids: list[Id] = Field(default=[], max_length=10_000)
    """of failures; none: all of the source"""


class Queued(BaseModel):
    queued: int


class Done(BaseModel):
    done: bool = True


@router.get("/sources")
def list_sources(_: Admin, assistant: Desk) -> list[SourceRow]:
    """All sources with counts, state and schedule."""
    with assistant.database.writer() as connection:
        rows = sources.overview(connection)
        synced = {r["source"]: r for r in schedule.everything(connection) if r["job"] == Job.SYNC}
        held = {row["source"]: row for row in breaker.held(connection)}
    return [_row(row, synced.get(row["name"]), held.get(row["name"])) for row in rows]


@router.post("/sources/{name}/sync")
def sync(name: Line, caller: Admin, assistant: Desk) -> Runs:
    """Read what changed, who may read it and what is gone. A paused source goes on."""
    with assistant.database.writer() as connection:
        return Runs(runs=manage.sync(connection, name, by=caller.principal.id))


@router.post("/sources/{name}/confirm-prune")
def confirm_prune(name: Line, caller: Admin, assistant: Desk) -> Runs:
    """The documents that are held back are really gone: sync, and delete what is missing."""
    with assistant.database.writer() as connection:
        return Runs(runs=manage.sync(connection, name, by=caller.principal.id, prune_all=True))


@router.post("/sources/{name}/permissions")
def permissions(name: Line, caller: Admin, assistant: Desk) -> Runs:
    """Read who is who and who may read what."""
    with assistant.database.writer() as connection:
        return Runs(runs=[manage.permissions(connection, name, by=caller.principal.id)])


@router.post("/sources/{name}/pause")
def pause(name: Line, caller: Admin, assistant: Desk) -> Done:
    """Stop syncing it; what is indexed stays."""
    with assistant.database.writer() as connection:
        manage.pause(connection, name, by=caller.principal.id)
    return Done()


@router.post("/sources/{name}/resume")
def resume(name: Line, caller: Admin, assistant: Desk) -> Runs:
    """Go on from where it was."""
    with assistant.database.writer() as connection:
        return Runs(runs=manage.resume(connection, name, by=caller.principal.id))


@router.post("/sources/{name}/retry")
def retry(name: Line, chosen: Retry, caller: Admin, assistant: Desk) -> Queued:
    """Try failed documents again."""
    with assistant.database.writer() as connection:
        return Queued(queued=manage.retry(connection, name, chosen.ids, by=caller.principal.id))


@router.patch("/sources/{name}")
def set_schedule(name: Line, wanted: Schedule, caller: Admin, assistant: Desk) -> Done:
    """How often it is synced."""
    with assistant.database.writer() as connection:
        manage.every(connection, name, wanted.every, by=caller.principal.id)
    return Done()


@router.get("/failures")
def list_failures(
    _: Admin,
    assistant: Desk,
    source: Line | None = None,
    before: Annotated[int | None, Query(ge=1, le=BIGGEST)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Page[FailureRow]:
    """What could not be read or indexed and why, the latest first."""
    with assistant.database.writer() as connection:
        return page(
            failures.listing(connection, source=source, before=before, limit=limit + 1), limit, FailureRow
        )


def _row(row: Row, synced: Row | None, held: Row | None) -> SourceRow:
    counts = {key: row[key] or 0 for key in ("total", "added", "changed", "unchanged", "deleted", "failed")}
    read, total = sources.progress({**counts, "pending": row["pending"]})
    goes_on = row["run_state"] == "running" or bool(row["run_state"] and row["pending"])
    values: dict[str, Any] = {
        **row,
        **counts,
        "state": "paused" if row["paused"] else row["run_state"] or "never",
        "last_run": row["finished_at"],
        "next_run": row["next_sync_at"],
        "every": schedule.in_words(synced["every"]) if synced and synced["every"] else None,
        "cron": synced["cron"] if synced else "",
        "held": row["held"] or 0,
        "held_examples": held["examples"] if held else [],
        "progress": read / total if goes_on and total else None,
        "read": read,
        "total": total,
        "error": row["error"] or "",
        "note": row["note"] or "",
    }
    return SourceRow(**{name: values[name] for name in SourceRow.model_fields})
