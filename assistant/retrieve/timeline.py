"""A customer's tickets that a question is about, each told as what happened in it, line by line.

They are found by meaning and by structure: an error code, the person who wrote, what is
open, what came last. Their lines were made when the ticket was indexed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from assistant.ingest.digest import error_codes
from assistant.model import TIMELINE, Audience, Evidence, Kind, Line, Passage
from assistant.retrieve.cues import Cues, Listing, cues
from assistant.store import history
from assistant.store.db import Conn
from assistant.store.history import PastTicket
from assistant.store.search import Filters

TIMELINES = 3
"""tickets that are told for a question with a topic"""
LISTED = 8
"""tickets of a list"""
RECENT = 30
"""latest tickets of a customer that are compared by structure"""
CODE, PERSON, STATE, LATEST = 0.2, 0.1, 0.1, 0.05
"""What a structural match adds to a ticket's fused relevance, which is about 0.3 for a neighbour in topic and
0.6 for the same matter: a shared error code settles it, the others decide between near ones."""

_WORD = re.compile(r"[^\W\d_]{3,}")


def timelines(
    connection: Conn,
    question: str,
    customers: Sequence[int],
    *,
    filters: Filters,
    scores: Mapping[int, float],
    ticket: int | None = None,
) -> list[Passage]:
    """As the reader of the open transaction: the nearest tickets of these customers, the nearest first.

    `scores`: fused relevance by document of those that were found by meaning. `ticket`: one
    that is told in any case.
    """
    meant = cues(question)
    if meant.listing is Listing.TRIED and ticket:
        found = history.tickets(connection, ids=[ticket], before=filters.before)
        return [told(one, score=1.0) for one in found]
    recent = history.tickets(
        connection,
        customers,
        before=filters.before,
        only_open=meant.listing is Listing.OPEN,
        limit=LISTED if meant.listing else RECENT,
    )
    if meant.listing:
        # None open: the latest ones show that.
        recent = recent or history.tickets(connection, customers, before=filters.before, limit=LISTED)
        return [told(one, score=1.0) for one in recent]
    known = {t.document_id for t in recent}
    missing = [document for document in [*scores, *([ticket] if ticket else [])] if document not in known]
    if missing:
        recent += history.tickets(connection, ids=missing, before=filters.before, limit=len(missing))
    # One that meaning did not find is overtaken by those it found, unless more than a name speaks for it.
    least = min(scores.values(), default=0.0) - PERSON
    near: list[tuple[float, PastTicket]] = []
    for rank, one in enumerate(recent):
        shared = structure(question, meant, one, rank)
        if one.document_id in scores or one.document_id == ticket or shared > LATEST:
            near.append((scores.get(one.document_id, least) + shared, one))
    near.sort(key=lambda pair: (pair[1].document_id != ticket, -pair[0]))
    return [told(one, score=score) for score, one in near[:TIMELINES]]


def structure(question: str, meant: Cues, ticket: PastTicket, rank: int) -> float:
    """What a ticket has in common with the question beside its topic; `rank`: 0 for the latest one."""
    shared = CODE * bool(set(error_codes(question)) & set(ticket.codes))
    names = {word.lower() for word in _WORD.findall(ticket.requester)}
    words = {word.lower() for word in _WORD.findall(question) if word[0].isupper()}
    shared += PERSON * bool(names & words)
    shared += STATE * (meant.open and ticket.is_open)
    shared += STATE * (meant.version and meant.them and bool(ticket.version))
    if meant.latest:
        shared += LATEST * max(0.0, 1 - rank / RECENT)
    return shared


def told(ticket: PastTicket, *, score: float, evidence: Evidence = Evidence.HISTORY) -> Passage:
    """A ticket's facts and lines as a passage."""
    internal = any(line.audience is Audience.INTERNAL for line in ticket.lines)
    return Passage(
        chunk_id=0,
        document_id=ticket.document_id,
        text="\n".join([_facts(ticket), *(_said(line) for line in ticket.lines)]),
        title=ticket.title,
        url=ticket.url,
        kind=Kind.TICKET,
        score=score,
        source=ticket.source,
        external_id=ticket.external_id,
        audience=Audience.INTERNAL if internal else Audience.PUBLIC,
        role=TIMELINE,
        customer_id=ticket.customer_id,
        created_at=ticket.created_at,
        evidence=evidence,
        outcome="reopened" if ticket.reopened else "open" if ticket.is_open else "solved",
    )


def _facts(ticket: PastTicket) -> str:
    """Ticket of 2025-07-08, closed on 2025-07-16, on Sync Server 4.2.6, from Sabine Brandt."""
    product = " ".join(filter(None, (ticket.product, ticket.version)))
    parts = (
        f"Ticket of {ticket.created_at:%Y-%m-%d}" if ticket.created_at else "Ticket",
        f"solved on {ticket.solved_at:%Y-%m-%d}" if ticket.solved_at else ticket.status,
        f"reopened {ticket.reopened}×" if ticket.reopened else "",
        product and f"on {product}",
        ticket.requester and f"from {ticket.requester}",
    )
    return ", ".join(part for part in parts if part) + "."


def _said(line: Line) -> str:
    day = f"{line.at:%Y-%m-%d} " if line.at else ""
    return f"{day}{line.step}: {line.text}"
