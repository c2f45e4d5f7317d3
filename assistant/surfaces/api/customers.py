"""Customers to pick, what happened with one, and a ticket by its number or address."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from assistant.model import Audience
from assistant.store import customers, history
from assistant.surfaces import asking, drafting
from assistant.surfaces.api import shapes
from assistant.surfaces.api.access import Caller, Desk, Role, needs

router = APIRouter(prefix="/api/v1", tags=["customers"])
Agent = Annotated[Caller, Depends(needs(Role.AGENT))]
SHOWN = 20
"""tickets of a timeline"""


@router.get("/customers")
def listing(
    assistant: Desk, caller: Agent, query: Annotated[str, Query(max_length=200)] = ""
) -> dict[str, Any]:
    """Customers with tickets that the person may read, by name, id or domain; the one with the latest ticket first."""
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        rows = customers.page(connection, query)
    return {"items": rows, "next": None}


@router.get("/customers/{customer}/history")
def timeline(
    assistant: Desk, caller: Agent, customer: Annotated[int, Path(ge=0, lt=2**31)]
) -> dict[str, Any]:
    """What there is to know before one answers: what is open, what comes again, what was tried."""
    known = asking.of_id(assistant, caller.principal, customer)
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        found = history.history(connection, known.ids, limit=SHOWN)
    return {
        "customer": shapes.customer(known),
        "domains": list(known.domains),
        "attributes": dict(known.attributes),
        "tickets": found.tickets,
        "open_tickets": found.open_tickets,
        "first": found.first,
        "timeline": [shapes.ticket(ticket) for ticket in found.latest],
        "open": [shapes.ticket(ticket) for ticket in found.open],
        "recurring": [
            {"what": again.what, "tickets": again.tickets, "latest": again.latest}
            for again in found.recurring
        ],
        "versions": [
            {"product": product, "version": version, "at": at} for product, version, at in found.versions
        ],
    }


@router.get("/tickets")
def ticket(
    assistant: Desk, caller: Agent, reference: Annotated[str, Query(min_length=1, max_length=2000)]
) -> dict[str, Any]:
    """The ticket of that number or address; 404 where the person may not read one."""
    found = drafting.ticket(assistant, caller.principal, reference.strip())
    return {
        **shapes.ticket(found.past),
        "external_id": found.past.external_id,
        "customer": shapes.customer(found.about.customer),
    }
