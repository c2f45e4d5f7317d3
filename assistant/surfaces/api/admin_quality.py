"""Quality for knowledge owners: what is asked in vain, what is said of answers. Use, trail and health for admins."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from assistant.evaluate import gaps, results
from assistant.store import conversations, feedback
from assistant.store.db import Row
from assistant.surfaces.api.access import Caller, Desk, Role, needs
from assistant.surfaces.api.wire import BIGGEST, Page, page

router = APIRouter(prefix="/api/v1/admin", tags=["admin: quality"])
Admin = Annotated[Caller, Depends(needs(Role.ADMIN, "admin"))]
Owner = Annotated[Caller, Depends(needs(Role.OWNER, "admin"))]
Days = Annotated[int, Query(ge=1, le=3_650)]

MONTHS, CITED = 12, 3
"""a document that nobody changed for so many months is old if so many answers rest on it"""


class Evaluation(BaseModel):
    id: int
    at: dt.datetime
    kind: str
    dataset: str
    system: str
    metrics: dict[str, float]


class Document(BaseModel):
    title: str
    url: str
    source: str


class Gap(BaseModel):
    """Questions that mean the same and were declined or answered badly, without who asked them."""

    question: str
    asked: int
    declined: int
    askers: int
    latest: dt.datetime
    documents: list[Document]
    """the nearest that were found"""


class Stale(BaseModel):
    document_id: int
    title: str
    url: str
    source: str
    reason: str
    people: int
    comments: list[str]
    at: dt.datetime
    """of the latest complaint or answer"""


class Quality(BaseModel):
    evaluations: list[Evaluation]
    gaps: list[Gap]
    stale: list[Stale]
    feedback: dict[str, int]
    """how often each verdict was given"""


class Day(BaseModel):
    day: dt.date
    questions: int
    declined: int
    people: int


class Totals(BaseModel):
    questions: int
    declined: int


class Usage(BaseModel):
    days: list[Day]
    totals: Totals


class Entry(BaseModel):
    id: int
    at: dt.datetime
    actor: str
    action: str
    object: str
    detail: dict[str, Any]


class Check(BaseModel):
    name: str
    ok: bool
    detail: str
    remedy: str


@router.get("/quality")
def quality(
    caller: Owner, assistant: Desk, days: Days = 90, limit: Annotated[int, Query(ge=1, le=200)] = 20
) -> Quality:
    """What the sources lack, what is said of answers, and how evaluations went."""
    since = _ago(days)
    found, questions = gaps.find(assistant, since=since, limit=limit)
    with assistant.database.writer() as connection:
        said = feedback.complained(connection, limit=limit)
        old = feedback.old(connection, since=since, months=MONTHS, cited=CITED, limit=limit)
        told = Quality(
            evaluations=[Evaluation(**row) for row in results.kept(connection)],
            gaps=[_gap(gap) for gap in found],
            stale=[_complained(row) for row in said] + [_old(row) for row in old],
            feedback=feedback.counts(connection, since=since),
        )
        conversations.audit(
            connection, actor=caller.principal.id, action="gaps.list", detail={"questions": questions}
        )
    return told


@router.get("/usage")
def usage(_: Admin, assistant: Desk, days: Days = 90) -> Usage:
    """Questions, declined ones and how many people asked, a day (in UTC)."""
    with assistant.database.writer() as connection:
        rows = [Day(**row) for row in feedback.by_day(connection, since=_ago(days))]
    totals = Totals(questions=sum(row.questions for row in rows), declined=sum(row.declined for row in rows))
    return Usage(days=rows, totals=totals)


@router.get("/audit")
def audit(
    _: Admin,
    assistant: Desk,
    before: Annotated[int | None, Query(ge=1, le=BIGGEST)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Page[Entry]:
    """Who did what, the latest first."""
    with assistant.database.writer() as connection:
        return page(conversations.trail(connection, before=before, limit=limit + 1), limit, Entry)


@router.get("/health")
def health(_: Admin, assistant: Desk) -> list[Check]:
    """What `deskhand doctor` says; it takes some seconds."""
    from assistant.runtime import doctor  # SQLAlchemy and Alembic, which nothing else needs

    return [
        Check(name=check.name, ok=check.ok, detail=check.detail, remedy=check.remedy)
        for check in doctor.diagnose(assistant)
    ]


def _ago(days: int) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=days)


def _gap(gap: gaps.Gap) -> Gap:
    return Gap(
        question=gap.question,
        asked=gap.questions,
        declined=gap.declined,
        askers=gap.people,
        latest=gap.latest,
        documents=[Document(title=d["title"], url=d["url"], source=d["source"]) for d in gap.documents],
    )


def _complained(row: Row) -> Stale:
    reasons = [f"called {what} {row[what]}×" for what in ("wrong", "outdated") if row[what]]
    comments = [gaps.shown(comment) for comment in row["comments"]]
    return _stale(row, ", ".join(reasons), comments)


def _old(row: Row) -> Stale:
    return _stale(row, f"unchanged since {row['changed']:%Y-%m-%d}, cited by {row['answers']} answers", [])


def _stale(row: Row, reason: str, comments: list[str]) -> Stale:
    kept = {name: row[name] for name in ("title", "url", "source", "people")}
    return Stale(document_id=row["id"], **kept, reason=reason, comments=comments, at=row["latest"])
