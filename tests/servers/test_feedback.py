"""Feedback against a real PostgreSQL: whose it is, what it leads to, and who sees what of it."""

from __future__ import annotations

import datetime as dt
from types import ModuleType, SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.errors import CheckViolation, InsufficientPrivilege

from assistant.errors import ConfigError
from assistant.model import (
    Answer,
    Audience,
    Citation,
    Delete,
    Event,
    Evidence,
    Kind,
    Passage,
    Principal,
    Ticket,
    Upsert,
)
from assistant.store import conversations, feedback, schema
from assistant.store.db import Database, Row
from assistant.store.feedback import Verdict
from tests.servers.desk import Desk, document

ADA, EVE = Principal("ada@x"), Principal("eve@x")
LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def passage(desk: Desk, name: str, evidence: Evidence = Evidence.DOCUMENT) -> Passage:
    row = desk.rows(
        "select c.id, c.document_id from chunk c join document d on d.id = c.document_id where d.external_id = %s",
        name,
    )[0]
    ids = (int(str(row["id"])), int(str(row["document_id"])))
    return Passage(*ids, "text", name, "", Kind.DOCUMENT, 1.0, evidence=evidence)


def ask(
    desk: Desk,
    *cited: Passage,
    who: Principal = ADA,
    question: str = "Is it so?",
    refusal: str = "",
    model: str = "small",
    found: tuple[Passage, ...] = (),
    ticket: int | None = None,
) -> int:
    """Number of the stored answer that cites these, in that order."""
    citations = tuple(Citation(n, p, "text", (0, 13)) for n, p in enumerate(cited, 1))
    answer = Answer("It is so [1].", citations, 0.9, refusal, found or cited, question, model)
    with desk.database.reader(who, Audience.INTERNAL) as connection:
        talk = conversations.start(connection, title=question, surface="cli")
        return conversations.record(connection, talk, question, answer, ticket=ticket)


def judge(desk: Desk, message: int, verdict: Verdict, who: Principal = ADA, **more: Any) -> None:
    with desk.database.reader(who, Audience.INTERNAL) as connection:
        feedback.add(connection, message, verdict, **more)


def told(desk: Desk, **more: Any) -> list[Row]:
    with desk.database.writer() as connection:
        return feedback.listing(connection, since=LONG_AGO, **more)


def verdicts(desk: Desk) -> list[tuple[object, object]]:
    return sorted((row["message"], row["verdict"]) for row in told(desk))


def outcomes(desk: Desk) -> int:
    with desk.database.writer() as connection:
        return feedback.record_outcomes(connection)


def refused(desk: Desk, message: int, verdict: Verdict, who: Principal = ADA, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        judge(desk, message, verdict, who, **more)
    return str(caught.value)


@pytest.fixture
def pages(desk: Desk) -> Desk:
    desk.batch(*(Upsert(document(name)) for name in ("ports", "purge")))
    desk.index()
    return desk


# ── whose it is ──────────────────────────────────────────────────────────────


def test_somebody_elses_answer_is_as_one_that_does_not_exist(pages: Desk) -> None:
    message = ask(pages, passage(pages, "ports"))
    for verdict, more in ((Verdict.UP, {}), (Verdict.SOURCE_WRONG, {"source": 1}), (Verdict.ACCEPTED, {})):
        theirs = refused(pages, message, verdict, EVE, **more)
        assert theirs.replace(str(message), "N") == refused(pages, 999_999, verdict, EVE, **more).replace(
            "999999", "N"
        )
    question = message - 1
    assert "no answer" in refused(pages, question, Verdict.UP), "nobody judges a question"
    assert told(pages) == []


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("insert into feedback (message_id, verdict) values ({id}, 'up')", InsufficientPrivilege),
        (
            "insert into feedback (message_id, principal_id, verdict) values ({id}, 'ada@x', 'up')",
            InsufficientPrivilege,
        ),
        ("update feedback set principal_id = 'eve@x'", InsufficientPrivilege),
        ("update feedback set message_id = {id}", InsufficientPrivilege),
        ("delete from feedback", InsufficientPrivilege),
        ("select * from told_question", InsufficientPrivilege),
        ("select * from given_feedback", InsufficientPrivilege),
        ("select askers(array[{id}])", InsufficientPrivilege),
        ("select record_outcomes('{{}}', '{{}}')", InsufficientPrivilege),
    ],
)
def test_the_database_itself_keeps_people_apart(
    pages: Desk, statement: str, error: type[psycopg.Error]
) -> None:
    message = ask(pages, passage(pages, "ports"))
    judge(pages, message, Verdict.DOWN)
    with pytest.raises(error), pages.database.reader(EVE, Audience.INTERNAL) as connection:
        connection.execute(statement.format(id=message).encode())
    with pages.database.reader(EVE, Audience.INTERNAL) as connection:
        assert connection.execute("select from feedback").fetchall() == []
        assert connection.execute("update feedback set verdict = 'up'").rowcount == 0
    assert verdicts(pages) == [(message, "down")]


def test_nobody_says_what_became_of_a_ticket(pages: Desk) -> None:
    message = ask(pages, passage(pages, "ports"))
    for verdict in (Verdict.SOLVED, Verdict.REOPENED):
        assert "noted by itself" in refused(pages, message, verdict)
        with pytest.raises(CheckViolation), pages.database.reader(ADA, Audience.INTERNAL) as connection:
            connection.execute(
                f"insert into feedback (message_id, verdict) values ({message}, '{verdict}')".encode()
            )


@pytest.mark.parametrize("table", ["message", "conversation", "feedback", "citation"])
def test_the_writer_sees_of_conversations_only_what_the_views_tell(pages: Desk, table: str) -> None:
    ask(pages, passage(pages, "ports"), question="Nobody's business")
    with pytest.raises(InsufficientPrivilege), pages.database.writer() as connection:
        connection.execute(f"select * from {table}".encode())
    with pages.database.writer() as connection:
        assert connection.execute("select * from told_question").fetchall() == [], "it was answered well"
        columns = {
            row["column_name"]
            for row in connection.execute(
                "select column_name from information_schema.columns where table_schema = 'deskhand'"
                " and table_name in ('given_answer', 'given_citation', 'given_feedback', 'told_question')"
            )
        }
    assert columns & {"principal_id", "conversation_id", "content", "quote"} == set()
    assert {"question", "verdict", "evidence", "declined"} <= columns


def test_no_condition_tells_the_writer_of_a_question_that_the_view_leaves_out(pages: Desk) -> None:
    ask(pages, passage(pages, "ports"), question="Nobody's business")
    ask(pages, refusal="low", question="Declined")
    told: list[str] = []
    with pages.database.writer() as connection:
        connection.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
        connection.execute(
            "create function pg_temp.tell(text) returns boolean language plpgsql cost 0.0001"
            " as $$ begin raise notice '%', $1; return true; end $$"
        )
        connection.execute("select from told_question where pg_temp.tell(question)")
    assert told == ["Declined"]


# ── what can be said ─────────────────────────────────────────────────────────


def test_a_second_verdict_of_the_same_kind_replaces_the_first(pages: Desk) -> None:
    message = ask(pages, passage(pages, "ports"), passage(pages, "purge"))
    judge(pages, message, Verdict.UP, comment="fine")
    judge(pages, message, Verdict.DOWN, comment="not fine")
    judge(pages, message, Verdict.SOURCE_WRONG, source=1)
    judge(pages, message, Verdict.SOURCE_OUTDATED, source=1)
    judge(pages, message, Verdict.SOURCE_WRONG, source=2)
    judge(pages, message, Verdict.ACCEPTED)
    judge(pages, message, Verdict.ACCEPTED)
    found = {(row["verdict"], row["comment"], *row["documents"]) for row in told(pages)}
    assert found == {
        ("down", "not fine", "Ports", "Purge"),
        ("source_outdated", "", "Ports"),
        ("source_wrong", "", "Purge"),
        ("accepted", "", "Ports", "Purge"),
    }
    only = told(pages, verdict=Verdict.DOWN)[0]
    assert (only["question"], only["model"], only["message"]) == ("Is it so?", "small", message)
    assert "ada" not in str(told(pages)), "not by whom"


def test_a_verdict_on_a_source_needs_one_that_the_answer_cites(pages: Desk) -> None:
    message = ask(pages, passage(pages, "ports"), passage(pages, "purge"))
    declined = ask(pages, refusal="low")
    assert "cites these: 1, 2" in refused(pages, message, Verdict.SOURCE_WRONG, source=3)
    assert "cites these: 1, 2" in refused(pages, message, Verdict.SOURCE_OUTDATED)
    assert "cites these: none" in refused(pages, declined, Verdict.SOURCE_OUTDATED, source=1)
    assert "leave --source out" in refused(pages, message, Verdict.UP, source=1)
    assert "don't have it" in refused(pages, declined, Verdict.ACCEPTED)
    assert told(pages) == []


def test_what_was_retrieved_is_kept_in_its_order(pages: Desk) -> None:
    ports, purge = passage(pages, "ports"), passage(pages, "purge")
    message = ask(pages, purge, found=(ports, purge))
    with pages.database.reader(ADA, Audience.INTERNAL) as connection:
        row = connection.execute("select chunks, documents from message where id = %s", (message,)).fetchone()
    assert row == {
        "chunks": [ports.chunk_id, purge.chunk_id],
        "documents": [ports.document_id, purge.document_id],
    }


# ── what became of it ────────────────────────────────────────────────────────


def now(hours: float = 0) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)


def reported(desk: Desk, *events: Event, solved_at: dt.datetime | None = None, revision: str = "2") -> int:
    """Sync the ticket as it is now; id of its document."""
    facts = Ticket(status=events[-1].new if events else "open", events=events, solved_at=solved_at)
    desk.batch(Upsert(document("t1", ticket=facts, revision=revision)))
    return int(str(desk.rows("select id from document where external_id = 't1'")[0]["id"]))


SOLVED = Event(now(1), "open", "Solved")
OUTCOMES = {
    "still open": ((), None, set[str]()),
    "solved": ((SOLVED,), None, {"solved"}),
    "solved, by its date alone": ((), now(1), {"solved"}),
    "solved before the draft": ((Event(now(-1), "open", "solved"),), now(-1), set[str]()),
    "closed, as it was solved before": (
        (Event(now(-1), "open", "solved"), Event(now(1), "solved", "closed")),
        now(1),
        set[str](),
    ),
    "rejected": ((Event(now(1), "open", "rejected"),), None, set[str]()),
    "reopened": ((SOLVED, Event(now(2), "solved", "open")), None, {"solved", "reopened"}),
    "closed after it was solved": ((SOLVED, Event(now(2), "solved", "closed")), None, {"solved"}),
    "reopened before the draft": (
        (Event(now(-2), "open", "solved"), Event(now(-1), "solved", "open"), SOLVED),
        None,
        {"solved"},
    ),
    "came back from before the draft": (
        (Event(now(-1), "open", "solved"), Event(now(1), "solved", "open")),
        None,
        set[str](),
    ),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_what_becomes_of_a_ticket_is_noted_once_for_its_draft(pages: Desk, case: str) -> None:
    events, solved_at, expected = OUTCOMES[case]
    ticket = reported(pages)
    message = ask(pages, passage(pages, "ports"), ticket=ticket)
    ask(pages, passage(pages, "ports"))  # no draft
    ask(pages, refusal="low", ticket=ticket)  # nothing to send
    assert outcomes(pages) == 0
    reported(pages, *events, solved_at=solved_at, revision="3")
    assert outcomes(pages) == len(expected)
    assert verdicts(pages) == sorted((message, verdict) for verdict in expected)
    assert outcomes(pages) == 0, "once more changes nothing"
    assert {v for _, v in verdicts(pages)} == expected


def test_a_ticket_that_comes_back_later_is_noted_then(pages: Desk) -> None:
    ticket = reported(pages)
    message = ask(pages, passage(pages, "ports"), ticket=ticket)
    reported(pages, SOLVED, revision="3")
    assert outcomes(pages) == 1
    back = Event(now(2), "solved", "open")
    reported(pages, SOLVED, back, revision="4")
    assert outcomes(pages) == 1
    reported(pages, SOLVED, back, Event(now(3), "open", "solved"), revision="5")
    assert outcomes(pages) == 0
    rows = {row["verdict"]: row["at"] for row in told(pages)}
    assert rows == {"solved": SOLVED.at, "reopened": back.at}, "at the time the source tells"
    assert {row["message"] for row in told(pages)} == {message}


def test_the_scheduler_takes_the_step(pages: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESKHAND_REDIS_URL", "redis://127.0.0.1:1/0")  # an address is enough to be imported
    from workers import schedule
    from workers.app import app

    module: ModuleType = schedule
    monkeypatch.setattr(module, "assistant", lambda: SimpleNamespace(database=pages.database))
    entry = app.conf.beat_schedule["outcomes"]
    task = app.tasks[entry["task"]]
    assert app.amqp.router.route({}, task.name)["queue"].name == "tick"
    message = ask(pages, passage(pages, "ports"), ticket=reported(pages))
    reported(pages, SOLVED, revision="3")
    task()
    task()
    assert verdicts(pages) == [(message, "solved")]


# ── what it adds up to ───────────────────────────────────────────────────────


def test_the_summary_counts_exactly(pages: Desk) -> None:
    ports, purge = passage(pages, "ports"), passage(pages, "purge")
    old = passage(pages, "purge", Evidence.TICKET)
    ticket = reported(pages)
    up, down, wrong = (ask(pages, ports) for _ in range(3))
    both = ask(pages, ports, old, purge)
    ask(pages, refusal="low")
    draft, unused = ask(pages, old, ticket=ticket), ask(pages, ports, ticket=ticket)
    ask(pages, refusal="low", ticket=ticket)
    ask(pages, ports, model="large")
    for message, verdict in (
        (up, Verdict.UP),
        (both, Verdict.UP),
        (down, Verdict.DOWN),
        (draft, Verdict.ACCEPTED),
    ):
        judge(pages, message, verdict)
    judge(pages, wrong, Verdict.SOURCE_WRONG, source=1)
    judge(pages, both, Verdict.SOURCE_OUTDATED, source=2)
    judge(pages, both, Verdict.SOURCE_WRONG, source=3)
    assert unused
    reported(pages, SOLVED, Event(now(2), "solved", "open"), revision="3")
    assert outcomes(pages) == 4
    with pages.database.writer() as connection:
        rows = feedback.summary(connection, since=LONG_AGO)
        assert feedback.summary(connection, since=now(1)) == []
    pages.batch(Delete("t1"))
    with pages.database.writer() as connection:
        assert feedback.summary(connection, since=LONG_AGO) == rows, "a draft outlives its ticket"
    names = ("answers", "declined", "up", "down", "complained", "drafts", "accepted", "solved", "reopened")
    assert {(r["model"], r["evidence"]): tuple(r[name] for name in names) for r in rows} == {
        ("large", "all"): (1, 0, 0, 0, 0, 0, 0, 0, 0),
        ("large", "document"): (1, 0, 0, 0, 0, 0, 0, 0, 0),
        ("small", "all"): (8, 2, 2, 1, 2, 2, 1, 2, 2),
        ("small", "document"): (5, 0, 2, 1, 2, 1, 0, 1, 1),
        ("small", "ticket"): (2, 0, 1, 0, 1, 1, 1, 1, 1),
        ("small", "nothing"): (2, 2, 0, 0, 0, 0, 0, 0, 0),
    }


# ── documents to look at ─────────────────────────────────────────────────────


def complained(desk: Desk) -> list[Row]:
    with desk.database.writer() as connection:
        return feedback.complained(connection)


def old(desk: Desk, *, cited: int = 2, months: int = 12, since: dt.datetime = LONG_AGO) -> list[str]:
    with desk.database.writer() as connection:
        return [row["title"] for row in feedback.old(connection, since=since, months=months, cited=cited)]


def test_complaints_come_with_their_document_until_it_changes(pages: Desk) -> None:
    ports, purge = passage(pages, "ports"), passage(pages, "purge")
    for who, verdict in ((ADA, Verdict.SOURCE_WRONG), (EVE, Verdict.SOURCE_OUTDATED)):
        message = ask(pages, purge, ports, who=who)
        judge(pages, message, verdict, who, source=2, comment=f"Port 7400 is of {who.id}")
        judge(pages, message, Verdict.DOWN, who)
    again = ask(pages, ports)
    judge(pages, again, Verdict.SOURCE_OUTDATED, source=1)
    found = complained(pages)
    assert [(r["title"], r["wrong"], r["outdated"], r["people"]) for r in found] == [("Ports", 1, 2, 2)]
    assert len(found[0]["comments"]) == 2
    pages.rows("update document set updated_at = now() where external_id = 'ports' returning id")
    assert complained(pages) == []


def test_old_documents_that_answers_rest_on(pages: Desk) -> None:
    pages.rows("update document set created_at = now() - interval '14 months' returning id")
    ports, purge = passage(pages, "ports"), passage(pages, "purge")
    ask(pages, ports, ports, purge)
    assert old(pages) == [], "one answer is too few"
    ask(pages, ports, who=EVE)
    assert old(pages) == ["Ports"]
    assert old(pages, cited=1) == ["Ports", "Purge"]
    assert old(pages, months=15) == []
    assert old(pages, since=now(1)) == []


# ── the schema ───────────────────────────────────────────────────────────────


def test_the_schema_goes_back_and_forth_with_what_is_in_it(pages: Desk, database_url: str) -> None:
    message = ask(pages, passage(pages, "ports"), ticket=reported(pages))
    judge(pages, message, Verdict.UP)
    reported(pages, SOLVED, revision="3")
    outcomes(pages)
    pages.database.close()
    schema.downgrade(database_url, "0001")
    schema.migrate(database_url)
    assert verdicts(pages) == [(message, "up")], "only people's own verdicts outlast the older schema"
    with pages.database.writer() as connection:
        rows = feedback.summary(connection, since=LONG_AGO)
    assert [(r["evidence"], r["answers"]) for r in rows] == [("all", 1), ("document", 1)]
    pages.database.close()
    schema.downgrade(database_url)
    schema.migrate(database_url)
    fresh = Database(database_url)
    with fresh.writer() as connection:
        assert feedback.summary(connection, since=LONG_AGO) == []
    fresh.close()
