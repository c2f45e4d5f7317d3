"""`deskhand ticket …`: one ticket, who else had it, and a reply to it."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from assistant.model import Audience
from assistant.retrieve.scope import Scope
from assistant.surfaces import drafting
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
        found = drafting.ticket(assistant, asker(assistant, who), number).past
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        show_ticket(found)


@ticket.command("alike")
def alike(number: Number, who: As = "", as_json: Json = False) -> None:
    """Have others had this? Their tickets, without saying whose, and what helped."""
    from assistant.retrieve import evidence

    with opened() as assistant:
        principal = asker(assistant, who)
        asked = drafting.ticket(assistant, principal, number, Audience.INTERNAL)
        scope = Scope(
            principal,
            customer=asked.about.customer.ids if asked.about.customer else (),
            without=asked.past.document_id,
        )
        others = evidence.alike(assistant.retriever, f"{asked.past.title}\n{asked.text}", scope)
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
        asked = drafting.ticket(assistant, principal, number)
        made, _, message = drafting.write(assistant, principal, asked)
    if as_json:
        print_json({"draft": made.text, **answer_json(made.answer), "message": message})
        return
    if made.text:
        out.print(made.text, markup=False)
        show_sources(made.answer, out)
        show_number(message, "accepted|down")
    else:
        out.print("Nothing that may be told to a customer answers this, so there is no draft.")
