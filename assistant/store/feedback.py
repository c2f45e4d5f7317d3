"""What people say of answers, what became of tickets, and what the knowledge owner gets to see of it.

A person judges answers of their own, under row-level security. The knowledge owner works
with the writer's role: for it there are views of the questions that were declined or
judged, without who asked them, and a function that counts people.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from enum import StrEnum

from assistant.errors import ConfigError, NotThere
from assistant.store.db import Conn, Row
from assistant.store.history import CLOSED
from assistant.store.sql import SQL

SOLVED = ("solved", "closed", "resolved", "done")
"""of the statuses of a closed ticket those that speak for its last answer"""


class Verdict(StrEnum):
    """What is said of an answer: by whoever asked, and in the end by the ticket."""

    UP = "up"
    DOWN = "down"
    SOURCE_WRONG = "source_wrong"
    SOURCE_OUTDATED = "source_outdated"
    ACCEPTED = "accepted"
    """it was used, as a draft that was sent"""
    SOLVED = "solved"
    REOPENED = "reopened"

    @property
    def of_source(self) -> bool:
        return self in (Verdict.SOURCE_WRONG, Verdict.SOURCE_OUTDATED)

    @property
    def of_ticket(self) -> bool:
        """What became of it after a draft, which is nobody's to say."""
        return self in (Verdict.SOLVED, Verdict.REOPENED)


def add(
    connection: Conn, message: int, verdict: Verdict, *, source: int | None = None, comment: str = ""
) -> None:
    """Store what the transaction's principal says of an answer of theirs, instead of what they said before.

    Up and down are one kind of verdict, so are the two on one source. Raises `ConfigError`
    for an answer that is not there or not theirs, and for a source that it doesn't cite.
    """
    about = connection.execute(SQL["feedback_about"], {"message": message}).fetchone()
    if about is None:
        raise NotThere(
            f"You have no answer with the number {message}. Nothing was stored; `deskhand ask` prints the number "
            "under each answer, and only whoever asked can judge it (`--as`)."
        )
    if verdict.of_ticket:
        raise ConfigError(f"«{verdict}» is what the ticket says, and is noted by itself. Nothing was stored.")
    if verdict.of_source and source not in about["markers"]:
        cited = ", ".join(map(str, about["markers"])) or "none"
        raise ConfigError(
            f"Say which source with --source: answer {message} cites these: {cited}. Nothing was stored."
        )
    if source is not None and not verdict.of_source:
        raise ConfigError(
            f"«{verdict}» is about the whole answer. Nothing was stored; leave --source out, or say "
            "source_wrong or source_outdated."
        )
    if verdict is Verdict.ACCEPTED and about["declined"]:
        raise ConfigError(f"Answer {message} says that the sources don't have it. Nothing was stored.")
    connection.execute(
        SQL["feedback_add"], {"message": message, "verdict": verdict, "marker": source, "comment": comment}
    )


def record_outcomes(connection: Conn) -> int:
    """Store of each draft whether its ticket was solved after it, and came back; returns how much is new."""
    row = connection.execute(SQL["feedback_outcomes"], {"closed": list(CLOSED), "solved": list(SOLVED)})
    return int((row.fetchone() or {"made": 0})["made"])


def listing(
    connection: Conn, *, since: dt.datetime, verdict: Verdict | None = None, limit: int = 100
) -> list[Row]:
    """Verdicts with the question, the model and the titles of what was cited, the latest first."""
    values = {"since": since, "verdict": verdict, "limit": limit}
    return connection.execute(SQL["feedback_all"], values).fetchall()


def summary(connection: Conn, *, since: dt.datetime) -> list[Row]:
    """By model, and by what answers rest on: how many there were and what was said of them."""
    return connection.execute(SQL["feedback_summary"], {"since": since}).fetchall()


def counts(connection: Conn, *, since: dt.datetime) -> dict[str, int]:
    """How often each verdict was given; 0 is told too."""
    said = {
        row["verdict"]: row["said"] for row in connection.execute(SQL["feedback_counts"], {"since": since})
    }
    return {verdict.value: said.get(verdict.value, 0) for verdict in Verdict}


def by_day(connection: Conn, *, since: dt.datetime) -> list[Row]:
    """Questions, how many were declined and how many people asked, for each day on which there was one."""
    return connection.execute(SQL["answers_by_day"], {"since": since}).fetchall()


def unanswered(connection: Conn, space: int, *, since: dt.datetime, limit: int) -> list[Row]:
    """Declined questions and those of bad answers; `vector` is None where none of that space is stored."""
    values = {"space": space, "since": since, "limit": limit}
    return connection.execute(SQL["unanswered"], values).fetchall()


def askers(connection: Conn, messages: Sequence[int]) -> int:
    """How many people these answers were given to."""
    row = connection.execute(SQL["askers"], {"messages": list(messages)}).fetchone()
    return int((row or {"people": 0})["people"])


def titles(connection: Conn, documents: Sequence[int]) -> dict[int, Row]:
    """Title, address and place of documents that are still there."""
    rows = connection.execute(SQL["document_titles"], {"ids": list(documents)})
    return {row["id"]: row for row in rows}


def complained(connection: Conn, *, limit: int = 50) -> list[Row]:
    """Documents that somebody called wrong or outdated since they were last changed."""
    return connection.execute(SQL["documents_complained"], {"limit": limit}).fetchall()


def old(connection: Conn, *, since: dt.datetime, months: int, cited: int, limit: int = 50) -> list[Row]:
    """Documents unchanged for so many months that so many answers since then rest on."""
    values = {"since": since, "months": months, "cited": cited, "limit": limit}
    return connection.execute(SQL["documents_old"], values).fetchall()
