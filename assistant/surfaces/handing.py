"""Handing an earlier question over to a person, as every surface does it, and what that person reads."""

from __future__ import annotations

from uuid import UUID

from assistant.answer.handoff import HandOff
from assistant.app import Assistant
from assistant.model import Audience, Principal
from assistant.store import customers, escalations, history
from assistant.surfaces import asking
from assistant.text.sentences import safe_url


def hand_over(assistant: Assistant, principal: Principal, message: int, said: str = "") -> UUID:
    """Hand a question of one's own over; `message` is its answer's number, or its own.

    `said`: what they are to read instead, where the question needs the talk before it. Raises `NotThere`.
    """
    with assistant.database.reader(principal, Audience.INTERNAL) as connection:
        asked = escalations.asked(connection, message)
        known = customers.known(connection, [asked["customer_id"]]) if asked["customer_id"] else None
        ids = [asked["ticket_id"]] if asked["ticket_id"] else []
        its = [one.url or one.external_id for one in history.tickets(connection, ids=ids, limit=1)]
    about = asking.about(
        assistant,
        principal,
        asked["question"],
        customer=known.ids[0] if known and not its else None,
        ticket=its[0] if its else "",
    )
    return assistant.escalate(
        about.scope(principal), said or asked["question"], said or asked["searched"], message=message
    )


def packet(found: HandOff) -> str:
    """What was found for it as plain text, to be pasted where a person works."""
    lines = [found.row["question"].strip(), ""]
    if found.customer:
        lines.append(f"Customer: {found.customer.name}")
    if found.queue:
        lines.append(f"Where its like was solved: {found.queue}")
    lines += [f"May know: {expert.name} ({expert.why})" for expert in found.experts]
    if found.nearest:
        lines += ["", "The nearest that was found:"]
        lines += [f"- {one.title} {safe_url(one.url)}".rstrip() for one in found.nearest]
    for ticket in found.history:
        lines += ["", f"{ticket.title} ({ticket.status}) {safe_url(ticket.url)}".rstrip()]
        lines += [
            f"- {line.at:%Y-%m-%d} {line.text}" if line.at else f"- {line.text}" for line in ticket.lines
        ]
    return "\n".join(lines)
