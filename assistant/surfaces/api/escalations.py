"""What is said of an answer, and handing a question over to a person."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from assistant.answer import handoff
from assistant.app import Assistant
from assistant.model import Audience, Principal
from assistant.store import conversations, escalations, feedback
from assistant.store.db import Row
from assistant.store.escalations import State
from assistant.store.feedback import Verdict
from assistant.surfaces import handing
from assistant.surfaces.api import shapes
from assistant.surfaces.api.access import Caller, Desk, Role, needs
from assistant.text.sentences import safe_url

router = APIRouter(prefix="/api/v1", tags=["feedback and escalations"])
Agent = Annotated[Caller, Depends(needs(Role.AGENT))]
MessageId = Annotated[int, Path(ge=0, lt=2**63)]


class Judgement(BaseModel):
    verdict: Literal["up", "down", "source_wrong", "source_outdated", "accepted"]
    marker: int | None = Field(default=None, ge=1, le=10_000)
    comment: str = Field(default="", max_length=4000)


class HandOver(BaseModel):
    question: str = Field(default="", max_length=20_000)
    """what they are to read, where the question needs the talk before it"""


class Closing(BaseModel):
    note: str = Field(default="", max_length=4000)


@router.post("/messages/{message}/feedback", status_code=204)
def judge(assistant: Desk, caller: Agent, message: MessageId, body: Judgement) -> None:
    """What one says of an answer of one's own, or of a source of it, instead of what one said before."""
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        feedback.add(connection, message, Verdict(body.verdict), source=body.marker, comment=body.comment)


@router.post("/messages/{message}/escalate")
def escalate(
    assistant: Desk, caller: Agent, message: MessageId, body: HandOver | None = None
) -> dict[str, Any]:
    """Hand an earlier question of one's own over to a person; returns the packet as one may see it oneself."""
    principal = caller.principal
    made = handing.hand_over(assistant, principal, message, body.question if body else "")
    return {"id": made, "packet": _view(assistant, principal, made)}


@router.get("/escalations")
def listing(assistant: Desk, caller: Agent, state: State | None = None) -> list[dict[str, Any]]:
    """One's own, and everybody's for whoever has the right to work on them; those that are not closed by default."""
    states = (state,) if state else tuple(one for one in State if one is not State.CLOSED)
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        rows = escalations.listing(connection, states=states)
    return [_row(row, caller.principal) for row in rows]


@router.get("/escalations/{escalation}")
def show(assistant: Desk, caller: Agent, escalation: UUID) -> dict[str, Any]:
    """The question with what was found for it, as far as whoever looks may read that."""
    return _view(assistant, caller.principal, escalation)


@router.post("/escalations/{escalation}/take")
def take(assistant: Desk, caller: Agent, escalation: UUID) -> dict[str, Any]:
    """Say that one works on it."""
    return _move(assistant, caller.principal, escalation, State.TAKEN)


@router.post("/escalations/{escalation}/close")
def close(assistant: Desk, caller: Agent, escalation: UUID, body: Closing | None = None) -> dict[str, Any]:
    """Say that it is answered, or no longer wanted."""
    return _move(assistant, caller.principal, escalation, State.CLOSED, note=body.note if body else "")


@router.get("/escalations/{escalation}/note")
def note(assistant: Desk, caller: Agent, escalation: UUID) -> dict[str, Any]:
    """The internal note that `deliver` would write on the ticket, to be read before."""
    made = assistant.delivery(caller.principal, str(escalation))
    return {"source": made.source, "url": safe_url(made.url), "text": made.text}


@router.post("/escalations/{escalation}/deliver")
def deliver(assistant: Desk, caller: Agent, escalation: UUID) -> dict[str, Any]:
    """Write it on its ticket as an internal note, once."""
    assistant.deliver(caller.principal, assistant.delivery(caller.principal, str(escalation)))
    return _view(assistant, caller.principal, escalation)


def _move(
    assistant: Assistant, principal: Principal, escalation: UUID, to: State, *, note: str = ""
) -> dict[str, Any]:
    with assistant.database.reader(principal, Audience.INTERNAL) as connection:
        escalations.move(connection, escalations.get(connection, str(escalation)), to, note=note)
        conversations.audit(
            connection, actor=principal.id, action=f"escalation.{to.value}", object=str(escalation)
        )
    return _view(assistant, principal, escalation)


def _view(assistant: Assistant, principal: Principal, escalation: UUID) -> dict[str, Any]:
    with assistant.database.reader(principal, Audience.INTERNAL) as connection:
        found = handoff.view(connection, escalations.get(connection, str(escalation)))
    return {
        **_row(found.row, principal),
        "customer": shapes.customer(found.customer),
        "nearest": [
            {"title": one.title, "url": safe_url(one.url), "source": one.source, "evidence": one.evidence}
            for one in found.nearest
        ],
        "history": [shapes.ticket(ticket) for ticket in found.history],
        "experts": [{"name": expert.name, "why": expert.why} for expert in found.experts],
        "queue": found.queue,
        "text": handing.packet(found),
    }


def _row(row: Row, principal: Principal) -> dict[str, Any]:
    kept = ("id", "state", "question", "asked_by", "created_at", "changed_by", "changed_at", "note")
    return {
        **{name: row[name] for name in kept},
        "ticket": safe_url(row["ticket"] or "") or None,
        "mine": row["asked_by"] == principal.id,
    }
