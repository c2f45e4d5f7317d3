"""Questions that were handed over to a person, as the reader of the open transaction may see them.

A row keeps ids, never texts of the sources: whoever opens it reads what they may read
themselves (`references`, `history.tickets`). The question and its state are seen by who
asked and by who works on escalations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from assistant.errors import ConfigError, NotThere
from assistant.model import Audience, Part
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL

MARKER = "[deskhand escalation {}]"
_OWN_NOTE = re.compile(r"\s*\[deskhand escalation [0-9a-f-]{36}\]")


class State(StrEnum):
    OPEN = "open"
    TAKEN = "taken"
    DELIVERED = "delivered"
    CLOSED = "closed"


BEFORE: Mapping[State, tuple[State, ...]] = {
    State.TAKEN: (State.OPEN,),
    State.DELIVERED: (State.OPEN, State.TAKEN),
    State.CLOSED: (State.OPEN, State.TAKEN, State.DELIVERED),
}
"""which states each may follow"""


def marker(escalation: UUID) -> str:
    """How the note of an escalation begins, by which it is recognised in a ticket system."""
    return MARKER.format(escalation)


def without_notes(body: bytes | tuple[Part, ...]) -> bytes | tuple[Part, ...]:
    """A ticket's body but for the internal notes that Deskhand wrote: they are no source.

    A person's note that quotes one is theirs, and stays.
    """
    if isinstance(body, bytes):
        return body
    return tuple(p for p in body if not (p.audience is Audience.INTERNAL and _OWN_NOTE.match(p.text)))


def add(
    connection: Conn,
    *,
    question: str,
    packet: Mapping[str, Any],
    message: int | None = None,
    customer: int | None = None,
    ticket: int | None = None,
) -> UUID:
    """A new one of the transaction's principal."""
    values = {
        "question": question,
        "packet": json.dumps(packet),
        "message": message,
        "customer": customer,
        "ticket": ticket,
    }
    row = connection.execute(SQL["escalation_add"], values).fetchone()
    assert row is not None, "an insert returns its row"  # noqa: S101 - states an invariant
    return row["id"]


def listing(connection: Conn, *, states: Sequence[State], limit: int = 100) -> list[Row]:
    return connection.execute(
        SQL["escalation_all"], {"states": [state.value for state in states], "limit": limit}
    ).fetchall()


def get(connection: Conn, name: str) -> Row:
    """The one whose id is, or begins with, `name`. Raises `ConfigError` when there is none, or several."""
    start = name.strip().lower()
    found = connection.execute(SQL["escalation_find"], {"start": start}).fetchall() if start else []
    if not found:
        raise NotThere(
            f"There is no escalation «{name}» among those you may see. `deskhand escalation list` shows them."
        )
    if len(found) > 1:
        raise ConfigError(f"«{name}» begins several escalations. Give more of its id. Nothing was changed.")
    return found[0]


def move(connection: Conn, row: Row, to: State, *, note: str = "") -> None:
    """Change its state. Raises `ConfigError` where that does not follow on what it is by now."""
    values = {
        "id": row["id"],
        "state": to.value,
        "before": [state.value for state in BEFORE[to]],
        "note": note,
    }
    if connection.execute(SQL["escalation_move"], values).fetchone() is None:
        require(get(connection, str(row["id"])), to)


def require(row: Row, to: State) -> None:
    """Raises `ConfigError` unless `to` may follow on its state."""
    if row["state"] not in BEFORE[to]:
        raise ConfigError(
            f"The escalation is {row['state']} already, by {row['changed_by']} on {row['changed_at']:%Y-%m-%d}. "
            "Nothing was changed."
        )


def references(connection: Conn, documents: Sequence[int], *, ticket: int | None = None) -> dict[int, Row]:
    """Titles and addresses of those documents that the reader may see, by id.

    `shared`: whoever may read `ticket` may read it as well; `own`: it is a ticket of the same customer.
    """
    rows = connection.execute(
        SQL["escalation_references"], {"ids": list(documents), "ticket": ticket}
    ).fetchall()
    return {row["id"]: row for row in rows}


def asked(connection: Conn, message: int) -> Row:
    """The question that this answer, or this question itself, is about; as it was put and as it was searched.

    Raises `ConfigError` when it is nobody's or somebody else's.
    """
    row = connection.execute(SQL["message_asked"], {"id": message}).fetchone()
    if row is None:
        raise NotThere(f"You have no message {message}. `deskhand ask --json` tells the number of yours.")
    return row
