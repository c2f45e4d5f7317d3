"""A customer's tickets over time, as the reader of the open transaction may see them.

All is read from what was made at sync time: a ticket's facts and the lines of its
digest. What a person may not read is not in it, not even in a number.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from assistant.model import Audience, Line, Step
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL

CLOSED = ("solved", "closed", "resolved", "done", "rejected", "deleted", "cancelled", "duplicate", "merged")
"""statuses, in small letters, of a ticket that nobody works on"""
RECURRING_AMONG = 300
"""of a customer's latest tickets, where what comes again is looked for"""


@dataclass(frozen=True, slots=True)
class PastTicket:
    """One ticket as it was at the moment asked about."""

    document_id: int
    external_id: str
    source: str
    title: str
    url: str
    status: str
    is_open: bool
    created_at: dt.datetime | None
    solved_at: dt.datetime | None
    language: str
    requester: str
    assignee: str
    product: str
    queue: str
    version: str
    tags: tuple[str, ...]
    codes: tuple[str, ...]
    satisfaction: str
    reopened: int
    """how often it came back after it was solved"""
    lines: tuple[Line, ...]
    customer_id: int | None = None


@dataclass(frozen=True, slots=True)
class Recurring:
    """An error code or tag that several of the latest tickets share."""

    what: str
    tickets: int
    latest: dt.datetime | None
    ids: tuple[int, ...]
    """of the tickets' documents"""


@dataclass(frozen=True, slots=True)
class History:
    """Numbers over all tickets; `latest` and `open` are cut off where they get long."""

    tickets: int
    open_tickets: int
    first: dt.datetime | None
    latest: tuple[PastTicket, ...]
    open: tuple[PastTicket, ...]
    recurring: tuple[Recurring, ...]
    versions: tuple[tuple[str, str, dt.datetime], ...]
    """product, version and when it was last named, the latest first"""


def tickets(
    connection: Conn,
    customers: Sequence[int] | None = None,
    *,
    ids: Sequence[int] | None = None,
    before: dt.datetime | None = None,
    only_open: bool = False,
    limit: int = 20,
) -> list[PastTicket]:
    """A customer's tickets, the latest first, as of `before`.

    `ids`: those of these documents alone.
    """
    values = {
        "customers": list(customers) if customers is not None else None,
        "ids": list(ids) if ids is not None else None,
        "before": before,
        "open": only_open,
        "closed": list(CLOSED),
        "limit": limit,
    }
    return [_ticket(row, before) for row in connection.execute(SQL["history_tickets"], values)]


def history(
    connection: Conn, customers: Sequence[int], *, before: dt.datetime | None = None, limit: int = 10
) -> History:
    """What there is to know of a customer at a glance; `limit`: latest and open tickets at most."""
    values = {
        "customers": list(customers),
        "before": before,
        "closed": list(CLOSED),
        "limit": RECURRING_AMONG,
    }
    counts = connection.execute(SQL["history_counts"], values).fetchone() or {}
    recurring = connection.execute(SQL["history_recurring"], values).fetchall()
    versions = connection.execute(SQL["history_versions"], values).fetchall()
    return History(
        tickets=counts.get("tickets", 0),
        open_tickets=counts.get("open", 0),
        first=counts.get("first"),
        latest=tuple(tickets(connection, customers, before=before, limit=limit)),
        open=tuple(tickets(connection, customers, before=before, only_open=True, limit=limit)),
        recurring=tuple(Recurring(r["what"], r["tickets"], r["latest"], tuple(r["ids"])) for r in recurring),
        versions=tuple((r["product"], r["version"], r["latest"]) for r in versions),
    )


def find(connection: Conn, *, numbers: Sequence[str] = (), urls: Sequence[str] = ()) -> list[Row]:
    """Tickets of these numbers or addresses; one that may not be read is not there."""
    wanted = [number.lower() for number in numbers]
    return connection.execute(SQL["ticket_find"], {"numbers": wanted, "urls": list(urls)}).fetchall()


def latest_titles(connection: Conn, *, limit: int = 4) -> list[str]:
    """What the tickets that came last are about, each once."""
    rows = connection.execute(SQL["ticket_latest"], {"limit": 10 * limit})
    return list(dict.fromkeys(" ".join(row["title"].split()) for row in rows if row["title"].strip()))[:limit]


def asked(connection: Conn, document_id: int, *, pieces: int = 4) -> str:
    """What the customer wrote in a ticket, as far as the reader may see it; empty when nothing."""
    rows = connection.execute(SQL["ticket_asked"], {"id": document_id, "limit": pieces})
    return "\n\n".join(row["text"] for row in rows)


def people(connection: Conn, documents: Collection[int]) -> dict[int, Row]:
    """By document of a ticket: names, addresses and domains of who is behind it."""
    rows = connection.execute(SQL["names_of_customers"], {"ids": list(documents)})
    return {row["id"]: row for row in rows}


def outcome(row: Row) -> str:
    """`open`, `solved`, or `reopened` when it is open again or was once, from status, solved_at and events."""
    status = str(row["status"] or "").lower()
    if _reopened(row["events"] or ()):
        return "reopened"
    return "solved" if row["solved_at"] is not None or status in CLOSED else "open"


def _reopened(events: Iterable[dict[str, Any]]) -> int:
    """How often a ticket came back after it was closed."""
    return sum(e["old"].lower() in CLOSED and e["new"].lower() not in CLOSED for e in events)


def _ticket(row: Row, before: dt.datetime | None) -> PastTicket:
    events: list[dict[str, Any]] = sorted(row["events"], key=lambda e: str(e["at"]))
    status, solved = row["status"], row["solved_at"]
    happened = [e for e in events if before is None or dt.datetime.fromisoformat(e["at"]) <= before]
    if before is not None:
        later = events[len(happened) :]
        if later:
            status = later[0]["old"] or status
        if solved is not None and solved > before:
            status, solved = (status if later else "open"), None
    return PastTicket(
        document_id=row["id"],
        external_id=row["external_id"],
        source=row["source"],
        title=row["title"],
        url=row["url"],
        status=status,
        is_open=solved is None and status.lower() not in CLOSED,
        created_at=row["created_at"],
        solved_at=solved,
        language=row["language"],
        requester=row["requester"],
        assignee=row["assignee"],
        product=row["product"],
        queue=row["queue"],
        version=row["version"],
        tags=tuple(row["tags"]),
        codes=tuple(row["codes"]),
        satisfaction=row["satisfaction"],
        reopened=_reopened(happened),
        lines=tuple(
            Line(
                Step(line["step"]),
                line["text"],
                dt.datetime.fromisoformat(line["at"]) if line["at"] else None,
                line["role"],
                Audience(line["audience"]),
            )
            for line in row["lines"]
        ),
        customer_id=row["customer_id"],
    )
