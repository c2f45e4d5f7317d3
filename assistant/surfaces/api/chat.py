"""Asking: an answer as a stream, taken up again, stopped; a draft of a reply; what to begin with."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Annotated, Any, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from assistant.answer.events import Done, Event, Sources, Status, TextDelta
from assistant.app import Assistant
from assistant.errors import DeskhandError
from assistant.model import Audience, Principal
from assistant.store import conversations, customers, history
from assistant.surfaces import drafting
from assistant.surfaces.api import files, limits, shapes, stream
from assistant.surfaces.api.access import Caller, Desk, Role, identify, needs
from assistant.surfaces.api.stream import Parts, Runs
from assistant.surfaces.asking import Asking

router = APIRouter(prefix="/api/v1", tags=["chat"])
Agent = Annotated[Caller, Depends(needs(Role.AGENT))]
TEXT = "answer"
"""id of the one text of a stream"""


def runs(request: Request) -> Runs:
    return cast(Runs, request.app.state.runs)


Answers = Annotated[Runs, Depends(runs)]


class Question(BaseModel):
    text: str
    conversation: UUID | None = None
    customer: int | None = Field(default=None, ge=0, lt=2**31)
    ticket: str | None = Field(default=None, max_length=2000)
    public: bool = False
    replaces: int | None = Field(default=None, ge=0, lt=2**63)
    files: list[UUID] = Field(default_factory=list[UUID], max_length=files.MOST)


class DraftFor(BaseModel):
    ticket: str = Field(min_length=1, max_length=2000)


@router.post("/chat", response_class=StreamingResponse)
def ask(
    assistant: Desk, answers: Answers, caller: Agent, request: Request, body: Question
) -> StreamingResponse:
    """Ask, in a new conversation or one of one's own; the answer comes as a UI message stream (SSE)."""
    limits.count(assistant.settings, "questions", caller.principal.id)
    person = caller.principal.id
    held = stream.key(person, body.conversation) if body.conversation else ""
    if held:
        answers.claim(held)
    try:
        asking = Asking(
            assistant,
            caller.principal,
            body.text,
            customer=body.customer,
            ticket=body.ticket or "",
            public=body.public,
            conversation=body.conversation,
            replaces=body.replaces,
            files=files.load(assistant, person, body.files),
            surface="web",
        )
    except BaseException:
        if held:
            answers.release(held)
        raise
    key = stream.key(person, asking.conversation)
    if not held:
        answers.claim(key)
    answers.start(key, _answer(assistant, asking, lambda: answers.stopping(key)))
    return answers.read(key, still(request, caller))


@router.get("/chat/{conversation}/stream", response_class=StreamingResponse)
def resume(answers: Answers, caller: Agent, request: Request, conversation: UUID) -> Response:
    """The answer that is being made, from its beginning; 204 when none is."""
    key = stream.key(caller.principal.id, conversation)
    if not answers.running(key):
        return Response(status_code=204)
    return answers.read(key, still(request, caller))


@router.post("/chat/{conversation}/stop", status_code=204)
def stop(answers: Answers, caller: Agent, conversation: UUID) -> None:
    """Enough read: the answer ends with the sentence that it is at. Nothing happens when none is being made."""
    answers.stop(stream.key(caller.principal.id, conversation))


@router.post("/drafts", response_class=StreamingResponse)
def make_draft(
    assistant: Desk, answers: Answers, caller: Agent, request: Request, body: DraftFor
) -> StreamingResponse:
    """A reply to a ticket, of public material only, as a stream; nothing is sent to anybody."""
    limits.count(assistant.settings, "questions", caller.principal.id)
    found = drafting.ticket(assistant, caller.principal, body.ticket)
    key = stream.key(caller.principal.id, f"draft-{found.past.document_id}")
    answers.claim(key)
    answers.start(key, _draft(assistant, caller.principal, found))
    return answers.read(key, still(request, caller))


@router.get("/suggestions")
def suggestions(assistant: Desk, caller: Agent) -> list[str]:
    """Something to begin with: what the latest tickets are about."""
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        return history.latest_titles(connection)


def still(request: Request, caller: Caller) -> Callable[[], bool]:
    """Whether whoever reads a stream is still signed in; while the database is away, nobody is shut out."""

    def check() -> bool:
        try:
            now = identify(request)
        except DeskhandError:
            return True
        return now is not None and now.principal.id == caller.principal.id

    return check


def _answer(assistant: Assistant, asking: Asking, stopping: Callable[[], bool]) -> Parts:
    with assistant.database.reader(asking.scope.principal, Audience.INTERNAL) as connection:
        row = conversations.get(connection, asking.conversation)
    yield {"type": "start", "messageId": str(asking.message)}
    yield {
        "type": "data-conversation",
        "data": {
            "id": str(asking.conversation),
            "title": row["title"],
            "question": asking.question,
            "about": shapes.about(asking.about),
        },
    }
    begun = False
    events = asking.events()
    for event in events:
        if isinstance(event, TextDelta) and not begun:
            begun = True
            yield {"type": "text-start", "id": TEXT}
        yield from _part(event)
        if not isinstance(event, Done) and stopping():
            events.close()  # it stores what there is
            break
    if begun:
        yield {"type": "text-end", "id": TEXT}
    if asking.answer is not None:
        yield _stored(assistant, asking.scope.principal, asking.conversation, asking.message)
    yield {"type": "finish"}


def _part(event: Event) -> Generator[dict[str, Any]]:
    if isinstance(event, Status):
        yield {"type": "data-status", "data": {"step": event.step}, "transient": True}
    elif isinstance(event, Sources):
        found = [shapes.source(passage, marker=n) for n, passage in enumerate(event.passages, 1)]
        yield {"type": "data-sources", "data": found}
    elif isinstance(event, TextDelta):
        yield {"type": "text-delta", "id": TEXT, "delta": event.text}


def _stored(
    assistant: Assistant, principal: Principal, conversation: UUID, message: int, **changed: object
) -> dict[str, Any]:
    """The answer as a conversation that is opened again has it."""
    with assistant.database.reader(principal, Audience.INTERNAL) as connection:
        row = conversations.get(connection, conversation)
        known = customers.known(connection, [row["customer_id"]]) if row["customer_id"] else None
        rows = conversations.messages(connection, conversation, message=message)
        (told,) = shapes.messages(connection, rows, known)
    return {"type": "data-answer", "data": {**told, **changed}}


def _draft(assistant: Assistant, principal: Principal, found: drafting.Asked) -> Parts:
    yield {"type": "start"}
    yield {"type": "data-status", "data": {"step": "reading the ticket"}, "transient": True}
    made, conversation, message = drafting.write(assistant, principal, found)
    if made.text:
        yield {"type": "text-start", "id": TEXT}
        yield {"type": "text-delta", "id": TEXT, "delta": made.text}
        yield {"type": "text-end", "id": TEXT}
    yield _stored(assistant, principal, conversation, message, text=made.text or made.answer.text)
    yield {"type": "finish"}
