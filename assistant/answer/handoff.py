"""Handing a question over to a person: what they should see, and who has solved its like.

What is stored names documents only. It is put into words for whoever looks, with that
person's rights: a title, a line of a history or an expert's name that rests on what they
may not read is not there for them.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from assistant.errors import ConfigError
from assistant.model import Audience, Evidence, Kind, Line, Passage, Right
from assistant.retrieve.hybrid import Retriever
from assistant.retrieve.mask import masks
from assistant.retrieve.scope import Scope
from assistant.store import customers, escalations, history, principals
from assistant.store.customers import Known
from assistant.store.db import Conn, Row
from assistant.store.escalations import State
from assistant.store.history import PastTicket
from assistant.store.search import Filters

NEAREST = 5
"""documents named"""
OWN, OPEN = 3, 5
"""tickets of the customer whose history is told: the nearest, and open ones"""
LINES = 4
"""of each"""
ALIKE = 12
"""tickets that experts are looked for in"""
ALIKE_FLOOR, ALIKE_SHARE = 0.4, 0.7
"""What a ticket must score, absolutely and beside the best, to be alike."""
HALF_LIFE_DAYS = 365.0
"""after so long it counts half that somebody solved a ticket"""
EXPERTS = 3
NOT_SOLVED = ("rejected", "deleted", "cancelled", "duplicate", "merged")
"""statuses of tickets that came to an end without anybody solving them"""


@dataclass(frozen=True, slots=True)
class Expert:
    name: str
    solved: int
    alike: int
    """tickets that were looked at in all"""
    last: dt.datetime

    @property
    def why(self) -> str:
        many = "ticket" if self.alike == 1 else "tickets"
        return f"solved {self.solved} of {self.alike} {many} like this, the last on {self.last:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class Reference:
    title: str
    url: str
    source: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class HandOff:
    """An escalation as one person may see it."""

    row: Row
    customer: Known | None
    nearest: tuple[Reference, ...]
    history: tuple[PastTicket, ...]
    experts: tuple[Expert, ...]
    queue: str
    """where its like was solved, or its ticket is: a queue, a product, else the source; empty: not known"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An internal note as it would be written on a ticket."""

    escalation: UUID
    source_id: int
    source: str
    external_id: str
    url: str
    text: str


def packet(retriever: Retriever, scope: Scope, searched: str, passages: Sequence[Passage]) -> dict[str, Any]:
    """What is to be kept of a search: ids of documents that the asker may read, and how they were found."""
    before, ticket = scope.filters.before, scope.ticket
    nearest: dict[int, str] = {}
    for passage in passages:
        nearest.setdefault(passage.document_id, passage.evidence.value)
    own = [p.document_id for p in passages if p.evidence is Evidence.HISTORY and p.kind is Kind.TICKET]
    told = list(dict.fromkeys(own))[:OWN]
    if scope.customer:
        with retriever.database.reader(scope.principal, Audience.INTERNAL) as connection:
            waiting = history.tickets(connection, scope.customer, before=before, only_open=True, limit=OPEN)
        told += [t.document_id for t in waiting if t.document_id not in told]
    tickets = Scope(scope.principal, filters=Filters(kinds=(Kind.TICKET,), before=before))
    ranked = retriever.documents(searched, tickets, limit=ALIKE)
    least = max([ALIKE_FLOOR, *(ALIKE_SHARE * document.score for document, _ in ranked)])
    return {
        "audience": scope.audience.value,
        "before": before and before.isoformat(),
        "nearest": [item for item in nearest.items() if item[0] != ticket][:NEAREST],
        "history": [document for document in told if document != ticket],
        "alike": [
            (document.document_id, round(document.score, 4))
            for document, _ in ranked
            if document.score >= least and document.document_id != ticket
        ],
    }


def view(connection: Conn, row: Row) -> HandOff:
    """An escalation as the reader of the open transaction may see it."""
    found, before = row["packet"], row["packet"]["before"]
    moment = dt.datetime.fromisoformat(before) if before else None
    ids = [*found["history"], *(document for document, _ in found["alike"])]
    if row["ticket_id"]:
        ids.append(row["ticket_id"])
    tickets = {t.document_id: t for t in history.tickets(connection, ids=ids, before=moment, limit=len(ids))}
    alike = [(score, tickets[document]) for document, score in found["alike"] if document in tickets]
    customer = customers.known(connection, [row["customer_id"]]) if row["customer_id"] else None
    return HandOff(
        row=row,
        customer=customer,
        nearest=tuple(_nearest(connection, row, customer)),
        history=tuple(_short(tickets[document]) for document in found["history"] if document in tickets),
        experts=tuple(experts(alike, moment or row["created_at"])),
        queue=_queue(alike, tickets.get(row["ticket_id"])),
    )


def experts(alike: Iterable[tuple[float, PastTicket]], now: dt.datetime) -> list[Expert]:
    """Who solved most of these tickets, the more alike and the more recent the better."""
    alike = list(alike)
    weight: dict[str, float] = defaultdict(float)
    solved: dict[str, list[dt.datetime]] = defaultdict(list)
    for likeness, ticket in alike:
        if ticket.assignee and ticket.solved_at is not None and _solved(ticket):
            age = max((now - ticket.solved_at).days, 0)
            weight[ticket.assignee] += likeness * 0.5 ** (age / HALF_LIFE_DAYS)
            solved[ticket.assignee].append(ticket.solved_at)
    best = sorted(weight, key=lambda name: (-weight[name], name))[:EXPERTS]
    return [Expert(name, len(solved[name]), len(alike), max(solved[name])) for name in best]


def delivery(connection: Conn, name: str) -> Delivery:
    """The note of an escalation, to be shown before it is written. Raises `ConfigError` where that may not be."""
    row = escalations.get(connection, name)
    if not principals.has(connection, Right.ESCALATE):
        raise ConfigError(
            "You may not write to ticket systems, so nothing was written. An admin allows it with "
            f"`deskhand people allow EMAIL {Right.ESCALATE}`."
        )
    escalations.require(row, State.DELIVERED)
    if row["source_id"] is None:
        raise ConfigError(
            "It belongs to no ticket that you may read, so there is nowhere to write to. Hand the question over "
            "with --ticket, or close the escalation when it is answered."
        )
    text = note(connection, row)
    return Delivery(row["id"], row["source_id"], row["source"], row["ticket_external"], row["ticket"], text)


def note(connection: Conn, row: Row) -> str:
    """What a ticket system is told: nothing that a reader of the ticket could not read anyhow.

    Of tickets that are not of the same customer only number and address: a title may name somebody.
    """
    ids = [document for document, _ in row["packet"]["nearest"]]
    known = escalations.references(connection, ids, ticket=row["ticket_id"])
    shared = [known[document] for document in ids if document in known and known[document]["shared"]]
    lines = [
        escalations.marker(row["id"]),
        f"{row['asked_by']} hands this question over. Deskhand did not find the answer in the sources:",
        "",
        *(f"> {line}" for line in row["question"].splitlines()),
    ]
    if shared:
        lines += ["", "The nearest it found:"]
    for one in shared:
        named = one["own"] or not one["of_ticket"]
        title = " ".join(one["title"].split()) if named else f"Ticket {one['number'] or one['external_id']}"
        lines.append(f"- {title} {one['url']}".rstrip())
    return "\n".join(lines)


def _nearest(connection: Conn, row: Row, customer: Known | None) -> Iterable[Reference]:
    """Where a customer is in question, others' tickets are named without them, and their files not at all."""
    kinds = {document: Evidence(kind) for document, kind in row["packet"]["nearest"]}
    known = escalations.references(connection, list(kinds))
    own = customer.ids if customer else (row["customer_id"],)
    strange = {
        document: str(one["title"])
        for document, one in known.items()
        if row["customer_id"] and one["of_ticket"] and one["customer_id"] not in own
    }
    hidden = masks(connection, strange)
    for document, kind in kinds.items():
        if document in known and (document not in strange or document in hidden):
            one = known[document]
            title = hidden[document](one["title"]) if document in strange else one["title"]
            yield Reference(title, one["url"], one["source"], kind)


def _short(ticket: PastTicket) -> PastTicket:
    """What was wrong, and how it went on last."""
    kept: tuple[Line, ...] = ticket.lines[:1] + ticket.lines[1:][1 - LINES :]
    return replace(ticket, lines=kept)


def _solved(ticket: PastTicket) -> bool:
    return not ticket.is_open and not ticket.reopened and ticket.status.lower() not in NOT_SOLVED


def _queue(alike: Iterable[tuple[float, PastTicket]], ticket: PastTicket | None) -> str:
    """Where the like was solved; else where the ticket is."""
    weight: dict[str, float] = defaultdict(float)
    for likeness, one in alike:
        if _solved(one):
            weight[_place(one)] += likeness
    if weight:
        return max(sorted(weight), key=lambda name: weight[name])
    return _place(ticket) if ticket else ""


def _place(ticket: PastTicket) -> str:
    return ticket.queue or ticket.product or ticket.source
