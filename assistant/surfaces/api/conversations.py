"""A person's conversations, and those that colleagues share with them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from assistant.errors import QuestionRejected
from assistant.model import Audience, Principal
from assistant.store import conversations, customers, history, secrets
from assistant.store.db import Conn, Row
from assistant.surfaces.api import shapes, stream
from assistant.surfaces.api.access import Caller, Desk, Role, needs
from assistant.surfaces.api.chat import Answers

router = APIRouter(prefix="/api/v1", tags=["conversations"])
Agent = Annotated[Caller, Depends(needs(Role.AGENT))]
PAGE = 50


class Title(BaseModel):
    title: str = Field(min_length=1, max_length=200)


@router.get("/conversations")
def listing(
    assistant: Desk,
    caller: Agent,
    query: Annotated[str, Query(max_length=200)] = "",
    before: Annotated[str, Query(max_length=100)] = "",
) -> dict[str, Any]:
    """One's own, those last talked in first; `query` is looked for in titles and texts, `before` is a page's `next`."""
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        rows = conversations.page(connection, query=query.strip(), before=_place(before), limit=PAGE + 1)
    last = rows[PAGE - 1] if len(rows) > PAGE else None
    return {
        "items": [
            {
                "id": row["id"],
                "title": row["title"],
                "created_at": row["created_at"],
                "updated_at": row["updated_at"],
                "customer": row["customer_id"] and {"id": row["customer_id"], "name": row["customer"]},
                "shared": row["shared"],
            }
            for row in rows[:PAGE]
        ],
        "next": last and f"{last['updated_at'].isoformat()}_{last['id']}",
    }


@router.get("/conversations/{conversation}")
def show(assistant: Desk, answers: Answers, caller: Agent, conversation: UUID) -> dict[str, Any]:
    """One of one's own, with the sources as they are now."""
    running = answers.running(stream.key(caller.principal.id, conversation))
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        row = conversations.get(connection, conversation)
        told = _conversation(connection, row)
        link = conversations.shared(connection, conversation, secrets.key(assistant.settings))
    return {**told, "running": running, "share": link and _url(link), "shared": link is not None}


@router.patch("/conversations/{conversation}", status_code=204)
def rename(assistant: Desk, caller: Agent, conversation: UUID, body: Title) -> None:
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        conversations.rename(connection, conversation, " ".join(body.title.split()) or "Untitled")


@router.delete("/conversations/{conversation}", status_code=204)
def remove(assistant: Desk, answers: Answers, caller: Agent, conversation: UUID) -> None:
    """For good, with its messages; an answer that is being made stops."""
    answers.stop(stream.key(caller.principal.id, conversation))
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        conversations.remove(connection, conversation)


@router.post("/conversations/{conversation}/share")
def share(assistant: Desk, caller: Agent, conversation: UUID) -> dict[str, str]:
    """A link for colleagues; it opens for those who may read all that the answers rest on."""
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        link = conversations.share(connection, conversation, secrets.key(assistant.settings))
        _audit(connection, caller.principal, "conversation.share", conversation)
    return {"url": _url(link)}


@router.delete("/conversations/{conversation}/share", status_code=204)
def unshare(assistant: Desk, caller: Agent, conversation: UUID) -> None:
    """The link is dead at once; another one can be made."""
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        conversations.unshare(connection, conversation)
        _audit(connection, caller.principal, "conversation.unshare", conversation)


@router.get("/shared/{token}")
def shared(assistant: Desk, caller: Agent, token: str) -> dict[str, Any]:
    """What a colleague shared; 404 where one of its sources is not the reader's to read, or is gone."""
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        row = conversations.get(connection, conversations.by_link(connection, token))
        return {**_conversation(connection, row), "running": False, "share": None, "shared": True}


def _conversation(connection: Conn, row: Row) -> dict[str, Any]:
    known = customers.known(connection, [row["customer_id"]]) if row["customer_id"] else None
    its = history.tickets(connection, ids=[row["ticket_id"]], limit=1) if row["ticket_id"] else []
    return {
        "id": row["id"],
        "title": row["title"],
        "created_at": row["created_at"],
        "asked_by": row["asked_by"] or "",
        "mine": row["mine"],
        "customer": shapes.customer(known),
        "ticket": its[0].url or its[0].external_id if its else None,
        "messages": shapes.messages(connection, conversations.messages(connection, row["id"]), known),
    }


def _url(secret: str) -> str:
    return f"/shared/{secret}"


def _audit(connection: Conn, principal: Principal, action: str, conversation: UUID) -> None:
    conversations.audit(connection, actor=principal.id, action=action, object=str(conversation))


def _place(before: str) -> tuple[dt.datetime, UUID] | None:
    """Where a page ended. Raises `QuestionRejected` for what no page said."""
    if not before:
        return None
    at, _, last = before.partition("_")
    try:
        moment = dt.datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise ValueError("it has no zone")  # noqa: TRY301 - as what is no date at all
        return moment, UUID(last)
    except ValueError:
        raise QuestionRejected("This is no place in a list. Begin with the first page again.") from None
