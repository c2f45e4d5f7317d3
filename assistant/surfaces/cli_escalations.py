"""`deskhand escalation …`: questions that were handed over to a person."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.markup import escape

from assistant.app import NoNotes
from assistant.errors import ConfigError
from assistant.model import Audience
from assistant.store import conversations, escalations
from assistant.store.escalations import State
from assistant.surfaces import asking
from assistant.surfaces.answers import KINDS
from assistant.surfaces.cli_customers import show_ticket
from assistant.surfaces.terminal import (
    As,
    Customer,
    Json,
    TicketId,
    asker,
    opened,
    out,
    print_json,
    print_rows,
)

if TYPE_CHECKING:
    from assistant.answer.handoff import HandOff

escalation = typer.Typer(no_args_is_help=True, help="Questions that were handed over to a person.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Its id, or how that begins.")]
WAITING = (State.OPEN, State.TAKEN, State.DELIVERED)
SHOWN = 90
"""characters of a question in a list"""


@escalation.command("add")
def add(
    message: Annotated[int, typer.Argument(help="Number of the message, as `deskhand ask` tells it.")],
    question: Annotated[
        str, typer.Option(help="What they are to read, where yours needs the talk before it.")
    ] = "",
    who: As = "",
    customer: Customer = "",
    ticket: TicketId = "",
    as_json: Json = False,
) -> None:
    """Hand an earlier question of yours over to a person."""
    with opened() as assistant:
        principal = asker(assistant, who)
        with assistant.database.reader(principal, Audience.INTERNAL) as connection:
            asked = escalations.asked(connection, message)
        about = asking.about(assistant, principal, asked["question"], customer=customer, ticket=ticket)
        made = assistant.escalate(
            about.scope(principal),
            question or asked["question"],
            question or asked["searched"],
            message=message,
        )
    if as_json:
        print_json({"escalation": made})
    else:
        offer(message, made)


@escalation.command("list")
def list_escalations(
    state: Annotated[State | None, typer.Option(help="Only these. Default: all that are not closed.")] = None,
    who: As = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    as_json: Json = False,
) -> None:
    """Yours; and everybody's, if you have the right to work on them. The oldest first."""
    with (
        opened() as assistant,
        assistant.database.reader(asker(assistant, who), Audience.INTERNAL) as connection,
    ):
        rows = escalations.listing(connection, states=(state,) if state else WAITING, limit=limit)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["short"] = str(row["id"])[:8]
        row["question"] = " ".join(row["question"].split())[:SHOWN]
    columns = {
        "short": "Id",
        "state": "State",
        "created_at": "Since",
        "asked_by": "Asked by",
        "question": "Question",
        "ticket": "Ticket",
        "changed_by": "Changed by",
    }
    print_rows(rows, columns, empty="Nothing waits for a person.")


@escalation.command("show")
def show(name: Id, who: As = "", as_json: Json = False) -> None:
    """The question with what was found for it, as far as you may read that yourself."""
    from assistant.answer import handoff

    with (
        opened() as assistant,
        assistant.database.reader(asker(assistant, who), Audience.INTERNAL) as connection,
    ):
        found = handoff.view(connection, escalations.get(connection, name))
    if as_json:
        print_json(_json(found))
    else:
        _show(found)


@escalation.command("take")
def take(name: Id, who: As = "", as_json: Json = False) -> None:
    """Say that you work on it."""
    _move(name, State.TAKEN, who, as_json=as_json)


@escalation.command("close")
def close(
    name: Id,
    note: Annotated[str, typer.Option(help="What came of it.")] = "",
    who: As = "",
    as_json: Json = False,
) -> None:
    """Say that it is answered, or no longer wanted."""
    _move(name, State.CLOSED, who, note=note, as_json=as_json)


@escalation.command("deliver")
def deliver(
    name: Id,
    who: As = "",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Write it on its ticket as an internal note, after showing you the note; where that can't be, show it."""
    if as_json and not yes:
        raise ConfigError("With --json nobody can be asked: add --yes. Nothing was written.")
    with opened() as assistant:
        principal = asker(assistant, who)
        try:
            note = assistant.delivery(principal, name)
        except NoNotes:
            show(name, who, as_json)
            raise
        if not yes:
            out.print(
                f"An internal note on {note.url or note.external_id} («{note.source}»):\n", markup=False
            )
            out.print(note.text, markup=False, soft_wrap=True)
            if not typer.confirm("\nWrite it?"):
                out.print("Nothing was written, and the escalation stays as it was.")
                return
        assistant.deliver(principal, note)
    if as_json:
        print_json({"escalation": note.escalation, "state": State.DELIVERED.value, "ticket": note.url})
    else:
        out.print(f"✓ Written on {note.url or note.external_id} as an internal note.", markup=False)


def offer(message: int, made: UUID | None = None) -> None:
    """After a declined question: that it was handed over, or how to have that done."""
    if made is None:
        out.print(f"Yes: `deskhand escalation add {message}`.", style="dim", markup=False)
        return
    short = str(made)[:8]
    out.print(f"✓ Handed over. `deskhand escalation show {short}` shows what a colleague sees.", markup=False)


def _move(name: str, to: State, who: str, *, note: str = "", as_json: bool) -> None:
    with opened() as assistant:
        principal = asker(assistant, who)
        with assistant.database.reader(principal, Audience.INTERNAL) as connection:
            row = escalations.get(connection, name)
            escalations.move(connection, row, to, note=note)
            conversations.audit(
                connection,
                actor=principal.id,
                action="escalation.take" if to is State.TAKEN else "escalation.close",
                object=str(row["id"]),
            )
    if as_json:
        print_json({"escalation": row["id"], "state": to.value})
    else:
        out.print(f"✓ {to.value.capitalize()}.")


def _json(found: HandOff) -> dict[str, Any]:
    kept = (
        "id",
        "state",
        "question",
        "searched",
        "asked_by",
        "created_at",
        "changed_by",
        "changed_at",
        "note",
    )
    return {
        **{key: found.row[key] for key in (*kept, "ticket")},
        **{key: found.row["packet"][key] for key in ("audience", "before")},
        "customer": found.customer and found.customer.name,
        "nearest": [dataclasses.asdict(reference) for reference in found.nearest],
        "history": [dataclasses.asdict(ticket) for ticket in found.history],
        "experts": [{"name": e.name, "why": e.why, "last": e.last} for e in found.experts],
        "queue": found.queue,
    }


def _show(found: HandOff) -> None:
    row = found.row
    out.print(f"[bold]{escape(row['question'])}[/]", soft_wrap=True)
    asked = f"asked by {row['asked_by']} on {row['created_at']:%Y-%m-%d %H:%M}"
    changed = f"{row['state']} since {row['changed_at']:%Y-%m-%d %H:%M} by {row['changed_by']}"
    out.print(f"{asked}, {changed}", style="dim", markup=False)
    if row["searched"] and row["searched"] != row["question"]:
        out.print(f"searched as: {row['searched']}", markup=False, style="dim", soft_wrap=True)
    if row["packet"]["audience"] == Audience.PUBLIC:
        out.print("searched in what may be told to a customer", style="dim")
    if row["packet"]["before"]:
        out.print(f"searched as of {row['packet']['before'][:10]}", style="dim")
    for what, value in (
        ("Note", row["note"]),
        ("Customer", found.customer and found.customer.name),
        ("Ticket", row["ticket"]),
        ("Queue", found.queue),
        *(("Expert", f"{expert.name}, who {expert.why}") for expert in found.experts),
    ):
        if value:
            out.print(f"{what}: {value}", markup=False, soft_wrap=True)
    if found.nearest:
        out.print("\n[bold]Nearest in the sources[/]")
    for one in found.nearest:
        kind = f"({KINDS[one.evidence]}, {one.source})"
        out.print(f"- {one.title} {kind} {one.url}".rstrip(), markup=False, soft_wrap=True)
    if found.history:
        out.print("\n[bold]This customer's tickets[/]")
    for ticket in found.history:
        show_ticket(ticket)
