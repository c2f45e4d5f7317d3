"""Who is asked when the sources don't have it, and what of a ticket system's notes is a source."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import uuid4

from assistant.answer import handoff
from assistant.model import Audience, Part
from assistant.store import escalations
from assistant.store.history import PastTicket

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)


def ticket(assignee: str, days: int | None, **facts: Any) -> PastTicket:
    """Solved so many days ago by somebody; None: open."""
    solved = NOW - dt.timedelta(days=days) if days is not None else None
    values: dict[str, Any] = {
        **dict.fromkeys(
            ("external_id", "title", "url", "language", "requester", "version", "satisfaction"), ""
        ),
        "source": "desk",
        "product": "",
        "queue": "",
        "document_id": 1,
        "status": "solved" if solved else "open",
        "is_open": solved is None,
        "created_at": None,
        "solved_at": solved,
        "assignee": assignee,
        "tags": (),
        "codes": (),
        "reopened": 0,
        "lines": (),
    }
    return PastTicket(**{**values, **facts})


def names(*alike: tuple[float, PastTicket]) -> list[str]:
    return [expert.name for expert in handoff.experts(alike, NOW)]


def test_who_solved_most_of_its_like_is_the_expert_and_it_is_said_why() -> None:
    alike = [
        (0.6, ticket("Ana", 92)),
        (0.5, ticket("Ana", 200)),
        (0.6, ticket("Bo", 100)),
        (0.5, ticket("Cy", None)),
    ]
    ana, bo = handoff.experts(alike, NOW)
    assert ana.why == "solved 2 of 4 tickets like this, the last on 2026-03-01"
    assert (bo.name, bo.solved) == ("Bo", 1)


def test_what_is_more_alike_or_more_recent_counts_more() -> None:
    assert names((0.5, ticket("Ana", 10)), (0.9, ticket("Bo", 10))) == ["Bo", "Ana"]
    assert names((0.6, ticket("Ana", 2000)), (0.6, ticket("Ana", 2100)), (0.5, ticket("Bo", 5))) == [
        "Bo",
        "Ana",
    ]


def test_nobody_is_an_expert_for_what_they_did_not_solve() -> None:
    assert not names(
        (0.9, ticket("Ana", None)),
        (0.9, ticket("Bo", 10, reopened=1)),
        (0.9, ticket("Cy", 10, status="Rejected")),
        (0.9, ticket("Di", 10, status="duplicate")),
        (0.9, ticket("", 10)),
    )


def test_the_queue_is_where_its_like_was_solved_else_where_the_ticket_is() -> None:
    own = ticket("", None, queue="General")
    queue = handoff._queue
    alike = [(0.5, ticket("Ana", 9, queue="Network")), (0.9, ticket("Bo", None, queue="Billing"))]
    assert queue(alike, own) == "Network", "an open ticket shows nothing yet"
    assert queue([], own) == "General"
    assert queue([(0.5, ticket("Ana", 9, product="CRM"))], None) == "CRM"
    assert queue([], None) == ""


def test_our_own_notes_are_no_source_and_everybody_elses_words_are() -> None:
    marker = escalations.marker(uuid4())
    ours = Part(f"\n{marker}\nsomebody hands this over", audience=Audience.INTERNAL)
    others = (
        Part("an agent's note", audience=Audience.INTERNAL),
        Part(f"> {marker}\nI called them, it is the fan.", audience=Audience.INTERNAL),
        Part(f"{marker} in a public reply: a person put it there"),
        Part("[deskhand escalation soon?]", audience=Audience.INTERNAL),
    )
    assert escalations.without_notes((*others, ours)) == others
    assert escalations.without_notes(b"bytes") == b"bytes"
