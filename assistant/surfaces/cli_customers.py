"""`deskhand customer …`: who the customers are, what happened with each, and whose names are the same."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Annotated

import typer
from rich.markup import escape

from assistant.model import Audience, Step
from assistant.store import conversations, customers, history
from assistant.store.customers import Known
from assistant.store.history import History, PastTicket
from assistant.surfaces.terminal import As, Json, asker, opened, out, print_json, print_rows

customer = typer.Typer(no_args_is_help=True, help="Customers and their history.")

Name = Annotated[str, typer.Argument(help="Its name, id or domain.")]
AsOf = Annotated[
    dt.datetime | None,
    typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="As it was on that day."),
]
SIGNS = {Step.PROBLEM: "?", Step.TRIED: "→", Step.SOLUTION: "✓", Step.REPLY: "«"}


@customer.command("list")
def list_customers(
    who: As = "", limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100, as_json: Json = False
) -> None:
    """Customers of tickets that you may read, the latest first."""
    with (
        opened() as assistant,
        assistant.database.reader(asker(assistant, who), Audience.INTERNAL) as connection,
    ):
        rows = customers.listing(connection, limit=limit)
    if as_json:
        print_json(rows)
        return
    columns = {
        "id": "Number",
        "name": "Name",
        "accounts": "Known as",
        "tickets": "Tickets",
        "latest": "Latest",
    }
    print_rows(rows, columns, empty="No customers yet among the tickets you may read.")


@customer.command("show")
def show_customer(name: Name, who: As = "", as_of: AsOf = None, as_json: Json = False) -> None:
    """What there is to know before you answer: what is open, what comes again, what was tried."""
    before = as_of.replace(tzinfo=dt.UTC) if as_of else None
    with opened() as assistant:
        principal = asker(assistant, who)
        known = assistant.customer(principal, name)
        with assistant.database.reader(principal, Audience.INTERNAL) as connection:
            found = history.history(connection, known.ids, before=before)
    if as_json:
        print_json({"customer": dataclasses.asdict(known), "history": dataclasses.asdict(found)})
    else:
        show_history(known, found)


@customer.command("open")
def open_tickets(name: Name, who: As = "", as_json: Json = False) -> None:
    """What is still open for them."""
    with opened() as assistant:
        principal = asker(assistant, who)
        known = assistant.customer(principal, name)
        with assistant.database.reader(principal, Audience.INTERNAL) as connection:
            found = history.tickets(connection, known.ids, only_open=True, limit=100)
    if as_json:
        print_json([dataclasses.asdict(ticket) for ticket in found])
        return
    for ticket in found:
        show_ticket(ticket)
    if not found:
        out.print(f"Nothing that you may read is open for {known.name}.", markup=False)


@customer.command("merge")
def merge_customers(
    into: Annotated[int, typer.Argument(help="Number of the customer that stays.")],
    other: Annotated[int, typer.Argument(help="Number of the one that is the same.")],
) -> None:
    """Say that two customers are one. `customer split` takes it back."""
    with opened() as assistant, assistant.database.writer() as connection:
        moved = customers.merge(connection, into, other)
        numbers = [row["id"] for row in moved]
        conversations.audit(
            connection, actor="cli", action="customer.merge", object=str(into), detail={"rows": numbers}
        )
    for row in moved:
        out.print(
            f"«{row['name']}» ({row['external_id']}, number {row['id']}) is customer {into} now.",
            markup=False,
        )


@customer.command("split")
def split_customer(
    number: Annotated[int, typer.Argument(help="Number of the name that is somebody else.")],
) -> None:
    """Say that a name is a customer of its own. Domains no longer decide about it."""
    with opened() as assistant, assistant.database.writer() as connection:
        customers.split(connection, number)
        conversations.audit(connection, actor="cli", action="customer.split", object=str(number))
    out.print(f"Number {number} is a customer of its own now.")


def show_history(known: Known, found: History) -> None:
    out.print(f"[bold]{escape(known.name)}[/]  [dim]{escape(', '.join(known.domains))}[/]")
    for key, value in known.attributes.items():
        out.print(f"  {key}: {value}", markup=False)
    for product, version, latest in found.versions[:3]:
        out.print(f"  {product} {version} (last named {latest:%Y-%m-%d})", markup=False)
    since = f" since {found.first:%Y-%m-%d}" if found.first else ""
    many = "ticket" if found.tickets == 1 else "tickets"
    out.print(f"  {found.tickets} {many}{since}, {found.open_tickets} open")
    for again in found.recurring:
        last = f", last {again.latest:%Y-%m-%d}" if again.latest else ""
        out.print(f"  again and again: {again.what} ({again.tickets} tickets{last})", markup=False)
    shown = {ticket.document_id for ticket in found.open}
    for heading, tickets in (
        ("Open", found.open),
        ("Latest", [t for t in found.latest if t.document_id not in shown]),
    ):
        if tickets:
            out.print(f"\n[bold]{heading}[/]")
        for ticket in tickets:
            show_ticket(ticket)


def show_ticket(ticket: PastTicket) -> None:
    """A ticket's line of time."""
    date = f"{ticket.created_at:%Y-%m-%d} " if ticket.created_at else ""
    again = f", reopened {ticket.reopened}×" if ticket.reopened else ""
    out.print(
        f"{date}[bold]{escape(ticket.title)}[/] [dim]{ticket.status}{again} {ticket.url}[/]", soft_wrap=True
    )
    for line in ticket.lines:
        day = f"{line.at:%m-%d}" if line.at else ""
        note = " (internal note)" if line.audience is Audience.INTERNAL else ""
        out.print(f"  {day} {SIGNS[line.step]} {line.text}{note}", markup=False, style="dim", soft_wrap=True)
