"""A reply to a ticket, as every surface has it made: what was asked, the draft, what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from assistant.app import Assistant
from assistant.model import Audience, Principal
from assistant.retrieve.about import About
from assistant.retrieve.scope import Scope
from assistant.store import conversations, history
from assistant.store.history import PastTicket

if TYPE_CHECKING:
    from assistant.answer.draft import Draft


@dataclass(frozen=True, slots=True)
class Asked:
    """A ticket that a reply is to be written for."""

    about: About
    past: PastTicket
    text: str
    """what its customer wrote in it"""


def ticket(
    assistant: Assistant, principal: Principal, reference: str, audience: Audience = Audience.PUBLIC
) -> Asked:
    """The ticket of that number or address. Raises `NotThere`; `ConfigError` where several bear the number."""
    about = assistant.about(principal, "", ticket=reference)
    row: dict[str, Any] = about.ticket or {}
    with assistant.database.reader(principal, Audience.INTERNAL) as connection:
        past = history.tickets(connection, ids=[row["id"]], limit=1)[0]
    with assistant.database.reader(principal, audience) as connection:
        return Asked(about, past, history.asked(connection, past.document_id))


def write(assistant: Assistant, principal: Principal, asked: Asked) -> tuple[Draft, UUID, int]:
    """A draft, with the conversation and message it is kept as: without greeting and name, beside its ticket.

    It knows only what a customer may be told, and not the ticket itself.
    """
    from assistant.answer.draft import draft

    past, customer = asked.past, asked.about.customer
    scope = Scope(
        principal,
        Audience.PUBLIC,
        customer=customer.ids if customer else (),
        without=past.document_id,
    )
    made = draft(
        assistant.engine(scope),
        title=past.title,
        asked=asked.text,
        requester=past.requester,
        language=past.language,
    )
    vector = assistant.vector(made.answer.question)
    with assistant.database.reader(principal, Audience.PUBLIC) as connection:
        talk = conversations.start(connection, title=past.title, surface="draft")
        message = conversations.record(
            connection, talk, past.title, made.answer, vector=vector, ticket=past.document_id
        )
    return made, talk, message
