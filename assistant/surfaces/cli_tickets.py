"""`deskhand ticket …`: one ticket, who else had it, and a reply to it."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from assistant.answer.draft import draft
from assistant.app import Assistant
from assistant.model import Answer, Audience, Principal
from assistant.retrieve import evidence
from assistant.retrieve.about import About
from assistant.retrieve.scope import Scope
from assistant.store import conversations, history
from assistant.store.history import PastTicket
from assistant.surfaces.answers import as_json as answer_json
from assistant.surfaces.answers import show_sources
from assistant.surfaces.cli_customers import show_ticket
from assistant.surfaces.terminal import As, Json, asker, opened, out, print_json, show_number

ticket = typer.Typer(no_args_is_help=True, help="One ticket: its summary, others like it, a reply to it.")

Number = Annotated[str, typer.Argument(metavar="TICKET", help="Its number or address.")]


@ticket.command("show")
def show(number: Number, who: As = "", as_json: Json = False) -> None:
    """What was asked, what was tried and what came of it, with dates."""
    with opened() as assistant:
        found = _ticket(assistant, asker(assistant, who), number)[1]
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        show_ticket(found)


@ticket.command("alike")
def alike(number: Number, who: As = "", as_json: Json = False) -> None:
    """Have others had this? Their tickets, without saying whose, and what helped."""
    with opened() as assistant:
        principal = asker(assistant, who)
        about, found = _ticket(assistant, principal, number)
        scope = Scope(
            principal, customer=about.customer.ids if about.customer else (), without=found.document_id
        )
        others = evidence.alike(assistant.retriever, _asked(assistant, principal, found), scope)
    if as_json:
        print_json([dataclasses.asdict(other) for other in others])
        return
    for other in others:
        show_ticket(other)
    if not others:
        out.print("No other customer's ticket that you may read is like it.")


@ticket.command("draft")
def draft_reply(number: Number, who: As = "", as_json: Json = False) -> None:
    """A reply to copy, of public material only. Nothing is sent.

    It is kept as an answer of yours: its number is for `deskhand feedback add NUMBER accepted`.
    """
    with opened() as assistant:
        principal = asker(assistant, who)
        about, found = _ticket(assistant, principal, number)
        engine = assistant.engine(
            Scope(
                principal,
                Audience.PUBLIC,
                customer=about.customer.ids if about.customer else (),
                without=found.document_id,
            )
        )
        made = draft(
            engine,
            title=found.title,
            asked=_asked(assistant, principal, found, Audience.PUBLIC),
            requester=found.requester,
            language=found.language,
        )
        message = _kept(assistant, principal, found, made.answer)
    if as_json:
        print_json({"draft": made.text, **answer_json(made.answer), "message": message})
        return
    if made.text:
        out.print(made.text, markup=False)
        show_sources(made.answer, out)
        show_number(message, "accepted|down")
    else:
        out.print("Nothing that may be told to a customer answers this, so there is no draft.")


def _ticket(assistant: Assistant, principal: Principal, number: str) -> tuple[About, PastTicket]:
    about = assistant.about(principal, "", ticket=number)
    row: dict[str, Any] = about.ticket or {}
    with assistant.database.reader(principal, Audience.INTERNAL) as connection:
        return about, history.tickets(connection, ids=[row["id"]], limit=1)[0]


def _kept(assistant: Assistant, principal: Principal, found: PastTicket, answer: Answer) -> int:
    """Store what a draft is made of, without greeting and name, beside the ticket that it is for."""
    vector = assistant.vector(answer.question)
    with assistant.database.reader(principal, Audience.PUBLIC) as connection:
        talk = conversations.start(connection, title=found.title, surface="draft")
        return conversations.record(
            connection, talk, found.title, answer, vector=vector, ticket=found.document_id
        )


def _asked(
    assistant: Assistant, principal: Principal, found: PastTicket, audience: Audience = Audience.INTERNAL
) -> str:
    with assistant.database.reader(principal, audience) as connection:
        return f"{found.title}\n{history.asked(connection, found.document_id)}"
