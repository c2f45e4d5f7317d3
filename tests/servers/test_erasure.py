"""Erasing a customer and a person: nothing of them is left, nothing comes back, and nobody else is harmed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from click.testing import Result
from cryptography.fernet import Fernet
from pydantic import SecretStr
from typer.testing import CliRunner

from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.model import (
    Access,
    AccessChanged,
    Answer,
    Audience,
    Batch,
    Change,
    Citation,
    Customer,
    Failed,
    Kind,
    Link,
    Member,
    Part,
    Principal,
    Renamed,
    Right,
    SourceDocument,
    Ticket,
    Upsert,
)
from assistant.retrieve.scope import Scope
from assistant.store import (
    conversations,
    customers,
    erasure,
    escalations,
    feedback,
    personal,
    principals,
    sources,
    sync,
)
from assistant.store.blocked import Fingerprint
from assistant.store.erasure import CUSTOMER, PERSON, Report
from assistant.store.feedback import Verdict
from assistant.store.spaces import Space
from assistant.surfaces import cli_erase
from tests import handed

AGENT = Principal("bo@desk.example", frozenset({"desk/group:support"}))
ACME = Customer("acme", "Acme Corp", ("acme.example",), {"plan": "Team"})
GLOBEX = Customer("globex", "Globex GmbH", ("globex.example",))
ANA = ("Ana Rossi", "ana@acme.example")
GUS = ("Gus Gorman", "gus@globex.example")


def ticket(
    number: int,
    text: str,
    *,
    customer: Customer | None = ACME,
    who: tuple[str, str] = ANA,
    revision: str = "1",
    access: Access | None = None,
    **facts: Any,
) -> Upsert:
    return Upsert(
        SourceDocument(
            external_id=f"ticket/{number}",
            kind=Kind.TICKET,
            title=f"Ticket {number}",
            body=(
                Part(text, role="customer", author=who[0]),
                Part("Please restart the frobnicator.", role="agent", author="Bo Bauer"),
            ),
            revision=revision,
            access=access or Access.of(groups=("support",)),
            url=f"https://desk.example/t/{number}",
            customer=customer,
            ticket=Ticket(status="open", requester=who[0], requester_email=who[1], **facts),
        )
    )


def file(name: str, text: str, *, parent: str = "") -> Upsert:
    return Upsert(
        SourceDocument(
            external_id=name,
            kind=Kind.DOCUMENT,
            title=name,
            body=text.encode(),
            media_type="text/plain",
            revision="1",
            access=Access.of(groups=("support",)),
            parent=parent,
        )
    )


EVERYTHING: tuple[Upsert, ...] = (
    ticket(1, "The frobnicator at our plant in Turin overheats, says Ana Rossi."),
    ticket(2, "The gyroscope drifts since Monday."),
    file("attachment/1", "Serial number TURIN-77 of the frobnicator.", parent="ticket/1"),
    ticket(
        3,
        "Our frobnicator is noisy.",
        customer=GLOBEX,
        who=GUS,
        links=(Link("related", "ticket/1"), Link("related", "ticket/4")),
        assignee="Bo Bauer",
    ),
    file("manual.txt", "How to restart the frobnicator: pull the lever."),
    file("visits.txt", "In May we went to see Acme  Corp and were shown the frobnicator."),
)
MEMBERS = (
    Member("bo", "bo@desk.example", "Bo Bauer", frozenset({"support"})),
    Member("ana", "ana@acme.example", "Ana Rossi"),
    Member("gus", "gus@globex.example", "Gus Gorman"),
)


class Office:
    """A desk whose tickets are indexed as the workers do it."""

    def __init__(self, settings: Settings) -> None:
        self.assistant = Assistant(settings)
        for name in ("desk", "shop"):
            handed.add_source(self.assistant, name)

    def commit(self, *changes: Change, source: str = "desk") -> None:
        handed.commit(self.assistant, changes, source=source)

    def index(self) -> None:
        handed.index(self.assistant)

    def take(self, *changes: Change, source: str = "desk") -> None:
        self.commit(*changes, source=source)
        self.index()

    def members(self, *members: Member) -> None:
        with self.assistant.database.writer() as connection:
            sync.commit_memberships(
                connection, sources.get(connection, "desk"), members, self.assistant.fingerprint
            )

    def asked(self, question: str, *, cite: str = "", who: Principal = AGENT) -> None:
        """A conversation, with an answer that quotes a document's first passage."""
        with self.assistant.database.reader(AGENT, Audience.INTERNAL) as connection:
            found = self.assistant.retriever.passages(question, Scope(AGENT), limit=20) if cite else []
        cited = [p for p in found if p.external_id == cite][:1]
        answer = Answer(
            text="Restart it. [1]",
            citations=tuple(Citation(1, passage, passage.text[:40], (0, 10)) for passage in cited),
            confidence=0.9,
            question=question,
        )
        with self.assistant.database.reader(who, Audience.INTERNAL) as connection:
            talk = conversations.start(connection, title="A question", surface="cli")
            message = conversations.record(connection, talk, question, answer)
            feedback.add(connection, message, Verdict.UP, comment="thanks")

    def erase(self, kind: str, name: str, **more: Any) -> Report:
        return erasure.erase(
            self.assistant.database, self.assistant.fingerprint, kind, name, actor="cli", **more
        )

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with self.assistant.database.owner() as connection:
            return connection.execute(query.encode(), values or None).fetchall()

    def ids(self) -> list[str]:
        return [row["external_id"] for row in self.rows("select external_id from document order by 1")]

    def holding(self, text: str) -> list[str]:
        """Columns of the whole schema in which the text stands, by a search that shares nothing with erasure's."""
        found: list[str] = []
        for row in self.rows(
            "select table_name as t from information_schema.tables where table_schema = 'deskhand'"
        ):
            for one in self.rows(f"select to_jsonb(x)::text as all_of_it from deskhand.{row['t']} x"):
                if text.lower() in one["all_of_it"].lower():
                    found.append(row["t"])
        return found


@pytest.fixture
def office(settings: Settings) -> Iterator[Office]:
    made = Office(settings)
    made.members(*MEMBERS)
    made.take(*EVERYTHING)
    yield made
    made.assistant.close()


def test_a_customer_goes_wholly_and_nobody_else_is_harmed(office: Office) -> None:
    office.asked("How do I cool the frobnicator in Turin?", cite="ticket/1")
    office.asked("What did Acme Corp want?")
    office.asked("And how does the lever work?", cite="manual.txt")
    office.commit(Failed("attachment/9", "HTTP 500", "ticket/2"), Failed("other", "HTTP 500"))
    acme = office.assistant.customer(AGENT, "acme").ids
    office.assistant.escalate(Scope(AGENT, customer=acme), "Why does it overheat?", "overheats")
    office.assistant.escalate(Scope(AGENT), "What about the gyroscope in Turin at Acme Corp?", "gyroscope")
    kept = office.assistant.escalate(Scope(AGENT), "How does the lever work?", "lever")
    before = {
        r["id"]: r["text"]
        for r in office.rows(
            "select c.id, c.text from chunk c join document d on "
            "d.id = c.document_id where d.external_id in ('ticket/3', 'manual.txt', 'visits.txt')"
        )
    }
    report = office.erase(CUSTOMER, "acme corp")
    assert report.left == {}
    assert sorted(row["external_id"] for row in report.documents) == ["attachment/1", "ticket/1", "ticket/2"]
    assert [row["external_id"] for row in report.mentions] == ["visits.txt"], "it stays, and is told"
    removed = report.removed
    assert (removed["document"], removed["ticket"], removed["customer"]) == (3, 2, 1)
    assert (removed["conversation"], removed["message"], removed["feedback"]) == (2, 4, 2)
    assert removed["escalation"] == 2
    assert [row["id"] for row in office.rows("select id from escalation")] == [kept]
    assert (removed["principal"], removed["identity"], removed["failure"]) == (1, 1, 1)
    assert office.ids() == ["manual.txt", "ticket/3", "visits.txt"]
    assert {r["id"]: r["text"] for r in office.rows("select id, text from chunk")} == before
    for text in ("ana rossi", "ana@acme", "turin", "gyroscope", "attachment/1", "attachment/9", "ticket/1"):
        assert office.holding(text) == [], text
    assert set(office.holding("acme")) == {"document", "chunk"} or set(office.holding("acme")) == {"chunk"}
    assert [row["links"] for row in office.rows("select links from ticket")] == [
        [{"relation": "related", "external_id": "ticket/4"}]
    ]
    assert [row["id"] for row in office.rows("select id from principal order by id")] == [
        "bo@desk.example",
        "gus@globex.example",
    ]
    found = office.assistant.retriever.passages("frobnicator", Scope(AGENT), limit=20)
    assert {p.external_id for p in found} == {"manual.txt", "ticket/3", "visits.txt"}


def test_nothing_comes_back_until_it_is_lifted(office: Office) -> None:
    report = office.erase(CUSTOMER, "acme")
    again = [replace(one.document, revision="2") for one in EVERYTHING]
    new = (
        file("attachment/5", "Photograph of Turin.", parent="ticket/5"),
        ticket(5, "Ana Rossi again, from Turin."),
        ticket(6, "Another account of ours, in Turin.", customer=Customer("new", "ACME", ("acme.example",))),
        Failed("attachment/6", "no right to Turin.pdf", "ticket/5"),
    )
    office.take(*(Upsert(document) for document in again), *new)
    office.take(file("attachment/7", "Turin, later, alone.", parent="ticket/5"))
    office.members(*MEMBERS, Member("new", "new@acme.example", "Turin Plant"))
    office.take(
        ticket(1, "Turin", customer=replace(ACME, external_id="shop-acme", domains=())), source="shop"
    )
    assert office.ids() == ["manual.txt", "ticket/1", "ticket/3", "visits.txt"]
    assert office.rows(
        "select s.name from document d join source s on s.id = d.source_id where external_id = 'ticket/1'"
    ) == [{"name": "shop"}], "another source's ticket of that number"
    assert set(office.holding("turin")) == {"chunk", "digest"}
    assert office.rows("select from failure") == []
    assert [row["id"] for row in office.rows("select id from principal order by id")] == [
        "bo@desk.example",
        "gus@globex.example",
    ]
    listed = erasure.listing(office.assistant.database)
    assert [(row["id"], row["kind"], row["lifted_at"]) for row in listed] == [(report.id, CUSTOMER, None)]
    assert "acme" not in json.dumps(listed, default=str).lower()

    assert erasure.lift(office.assistant.database, report.id or 0, actor="cli") == ["desk"]
    with office.assistant.database.writer() as connection:
        assert sources.get(connection, "desk").checkpoint is None, "or a sync by changes would pass it over"
    assert office.rows("select from blocked") == []
    office.take(*EVERYTHING, *new)
    office.members(*MEMBERS)
    assert {"ticket/1", "attachment/1", "ticket/5", "attachment/5"} <= set(office.ids())
    assert office.rows("select 1 as x from principal where id = 'ana@acme.example'")
    with pytest.raises(ConfigError, match="no erasure 99"):
        erasure.lift(office.assistant.database, 99, actor="cli")


def test_all_names_of_a_customer_go_and_a_namesake_stays(office: Office) -> None:
    office.take(
        ticket(1, "From the shop.", customer=Customer("9", "ACME Italia", ("acme.example",))), source="shop"
    )
    office.take(
        ticket(
            2,
            "Another.",
            customer=Customer("10", "Acme Corp", ("elsewhere.example",)),
            who=("Al Otto", "al@elsewhere.example"),
        ),
        source="shop",
    )
    for _ in range(9):
        with office.assistant.database.writer() as connection:
            customers.resolve(connection)
    with pytest.raises(ConfigError, match=r"several customers.*shop 10.*desk acme") as caught:
        office.erase(CUSTOMER, "Acme Corp")
    assert "Nothing was changed" in str(caught.value)
    assert len(office.ids()) == len(EVERYTHING) + 2
    report = office.erase(CUSTOMER, "desk acme")
    assert report.removed["customer"] == 2
    assert [m["external_id"] for m in report.mentions] == ["visits.txt"]
    assert [row["external_id"] for row in office.rows("select external_id from customer order by 1")] == [
        "10",
        "globex",
    ], "its name alone makes nobody the same"
    assert set(report.left or {}) == {"customer.name"}, "the search says that somebody is still called so"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (CUSTOMER, "Acm", "No customer has exactly"),
        (CUSTOMER, "nobody", "No customer has exactly"),
        (PERSON, "eve@nowhere.example", "Nothing is stored"),
        (PERSON, "Ana Rossi", "is none"),
    ],
)
def test_an_unknown_name_changes_nothing(office: Office, kind: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        office.erase(kind, name)
    with pytest.raises(ConfigError, match=message):
        erasure.plan(office.assistant.database, kind, name)
    assert office.rows("select from erasure") == []
    assert office.rows("select from blocked") == []
    assert len(office.ids()) == len(EVERYTHING)


def test_a_plan_is_what_then_happens_and_changes_nothing(office: Office) -> None:
    office.asked("What did Acme Corp want?")
    planned = erasure.plan(office.assistant.database, CUSTOMER, "acme", mentions=True)
    assert len(office.ids()) == len(EVERYTHING)
    assert office.rows("select 1 as x from conversation")
    report = office.erase(CUSTOMER, "acme", mentions=True)
    assert planned.removed == report.removed
    assert (planned.id, planned.left) == (None, None)
    assert office.ids() == ["manual.txt", "ticket/3"], "what mentions them went, too"
    assert office.holding("acme") == []
    office.take(*EVERYTHING)
    assert office.ids() == ["manual.txt", "ticket/3"]


def test_a_person_goes_from_a_customer_that_stays(office: Office) -> None:
    leo = ("Leo Lane", "leo@acme.example")
    office.take(
        ticket(4, "The gyroscope, too.", who=leo), file("note.txt", "Ask Ana Rossi, or ana@acme.example.")
    )
    office.take(
        ticket(8, "Mine alone.", customer=Customer("ana@acme.example", "Ana Rossi")),
        ticket(9, "No address.", who=("ana", ""), customer=None),
    )
    report = office.erase(PERSON, "Ana@ACME.example")
    assert report.left == {}
    assert office.ids() == ["manual.txt", "note.txt", "ticket/3", "ticket/4", "visits.txt"]
    assert [row["external_id"] for row in report.mentions] == ["note.txt"]
    assert [row["external_id"] for row in office.rows("select external_id from customer order by 1")] == [
        "acme",
        "globex",
    ]
    assert office.holding("turin") == []
    office.take(ticket(10, "Ana once more.", who=("A. Rossi", "ANA@acme.example")), *EVERYTHING)
    office.take(ticket(11, "No address again.", who=("ana", ""), customer=None))
    assert office.ids() == ["manual.txt", "note.txt", "ticket/3", "ticket/4", "visits.txt"]


def test_an_agent_who_is_erased_leaves_no_conversation_right_or_name(office: Office) -> None:
    dee = Principal("dee@desk.example", AGENT.tokens)
    office.members(*MEMBERS, Member("dee", "dee@desk.example", "Dee Doe", frozenset({"support"})))
    own = Access.of(users=("dee",), groups=("support",))
    office.take(ticket(7, "Noise.", customer=GLOBEX, who=GUS, assignee="Dee Doe", access=own))
    office.take(ticket(8, "Hum.", customer=GLOBEX, who=GUS, access=Access.of(users=("dee",))))
    office.asked("How does the lever work?", cite="manual.txt", who=dee)
    office.asked("And the frobnicator?", cite="manual.txt")
    office.assistant.escalate(Scope(dee), "Who cools it?", "cools")
    theirs = office.assistant.escalate(Scope(AGENT), "Who lifts it?", "lifts")
    with office.assistant.database.writer() as connection:
        principals.allow(connection, "dee@desk.example", Right.ESCALATE)
    with office.assistant.database.reader(dee, Audience.INTERNAL) as connection:
        escalations.move(connection, escalations.get(connection, str(theirs)), escalations.State.TAKEN)
    with office.assistant.database.writer() as connection:
        conversations.audit(connection, actor="dee@desk.example", action="x", object="desk dee")
        conversations.audit(connection, actor="cli", action="people.map", object="desk dee")
    report = office.erase(PERSON, "dee@desk.example")
    assert report.left == {}
    assert report.mentions == []
    assert report.removed["conversation"] == 1
    assert report.removed["escalation"] == 1
    assert [(r["id"], r["changed_by"]) for r in office.rows("select id, changed_by from escalation")] == [
        (theirs, erasure.ERASED)
    ]
    assert report.removed["rights"] == 2
    assert report.removed["ticket assignee (cleared)"] == 1
    assert [row["principal_id"] for row in office.rows("select principal_id from conversation")] == [AGENT.id]
    for text in ("dee doe", "dee@desk", "user:dee", "desk dee", '"dee"'):
        assert office.holding(text) == [], text
    assert office.rows(
        "select c.acl from chunk c join document d on d.id = c.document_id where external_id = 'ticket/8'"
    )[0] == {"acl": []}, "nobody else could read it"
    office.members(*MEMBERS, Member("dee", "dee@desk.example", "Dee Doe", frozenset({"support"})))
    office.take(
        ticket(7, "Noise!", customer=GLOBEX, who=GUS, assignee="Dee Doe", access=own, revision="2"),
        AccessChanged("ticket/3", own),
    )
    with office.assistant.database.writer() as connection:
        source = sources.get(connection, "desk")
        assert sync.commit_accesses(
            connection, source, [AccessChanged("ticket/8", own)], office.assistant.fingerprint
        )
    assert office.ids() == sorted([*(u.document.external_id for u in EVERYTHING), "ticket/7", "ticket/8"])
    for text in ("dee doe", "dee@desk", "user:dee", '"dee"'):
        assert office.holding(text) == [], text


def test_a_file_that_is_moved_does_not_come_back_under_its_new_name(office: Office) -> None:
    office.erase(CUSTOMER, "acme", mentions=True)
    office.take(Renamed("visits.txt", "old/visits.txt", "visits", ""))
    office.take(file("old/visits.txt", "In May we went to see Acme Corp."), file("other.txt", "Other."))
    assert office.ids() == ["manual.txt", "other.txt", "ticket/3"]


def until(condition: Callable[[], object]) -> None:
    for _ in range(600):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen within 30 s")


def test_a_batch_that_is_on_its_way_brings_nothing_back(office: Office) -> None:
    done: list[Report] = []
    with office.assistant.database.writer() as connection:
        source = sources.get(connection, "desk")
        run = sources.request(connection, source)
        batch = Batch((ticket(12, "Turin, at the last moment."),), {"at": 2})
        sync.commit_batch(connection, source, run, batch, office.assistant.fingerprint)
        thread = threading.Thread(target=lambda: done.append(office.erase(CUSTOMER, "acme")))
        thread.start()
        until(lambda: connection.execute("select from pg_locks where not granted").fetchall())
        assert not done, "it waits for the batch"
    thread.join(60)
    assert done[0].left == {}
    assert "ticket/12" in [row["external_id"] for row in done[0].documents]
    assert office.holding("turin") == []


def test_an_ingest_worker_at_work_and_a_sync_that_waits_bring_nothing_back(office: Office) -> None:
    """The worker has the text in its hands when the erasure begins; a batch comes while it waits for the worker."""
    pipeline, working, go_on = office.assistant.pipeline, threading.Event(), threading.Event()
    embedder = office.assistant.embedder

    class Slow:
        """The real embedder, once it is told to go on."""

        def of(self, _space: Space) -> Slow:
            return self

        def encode(self, texts: Sequence[str]) -> Any:
            working.set()
            assert go_on.wait(60)
            return embedder.encode(texts)

    office.commit(ticket(13, "Turin is being indexed."), ticket(14, "Globex hums.", customer=GLOBEX, who=GUS))
    pipeline.embedders = Slow()
    done: list[object] = []
    worker = threading.Thread(target=lambda: done.append(pipeline.run_batch()))
    eraser = threading.Thread(target=lambda: done.append(office.erase(CUSTOMER, "acme")))
    batch = threading.Thread(target=lambda: done.append(office.commit(ticket(15, "Turin, afterwards."))))
    worker.start()
    assert working.wait(60)
    with office.assistant.database.connect("deskhand_owner") as watch:
        for count, thread in ((1, eraser), (2, batch)):
            thread.start()
            until(
                lambda n=count: len(watch.execute("select from pg_locks where not granted").fetchall()) >= n
            )
    assert not done
    go_on.set()
    for thread in (worker, eraser, batch):
        thread.join(60)
    report = next(one for one in done if isinstance(one, Report))
    assert len(done) == 3
    assert report.left == {}
    assert "ticket/14" in office.ids()
    office.index()
    assert office.holding("turin") == []


def test_a_lost_key_lets_nothing_pass_in_silence(office: Office) -> None:
    report = office.erase(CUSTOMER, "acme")
    other = Fingerprint(Settings(key=SecretStr(Fernet.generate_key().decode())))
    with office.assistant.database.writer() as connection:
        source = sources.get(connection, "desk")
        run = sources.request(connection, source)
        for wrong in (other, None):
            with pytest.raises(ConfigError, match="Restore the key"):
                sync.commit_batch(connection, source, run, Batch((EVERYTHING[0],), {}), wrong)
    with pytest.raises(ConfigError, match="Restore the key"):
        erasure.erase(office.assistant.database, other, CUSTOMER, "globex", actor="cli")
    erasure.lift(office.assistant.database, report.id or 0, actor="cli")
    assert erasure.erase(office.assistant.database, other, CUSTOMER, "globex", actor="cli").left == {}


def test_names_leave_the_planners_statistics_and_the_counts_of_words(office: Office) -> None:
    with office.assistant.database.connect("deskhand_owner") as connection:
        connection.execute("analyze")
        held = (
            "select from pg_stats where schemaname = 'deskhand'"
            " and concat(most_common_vals, histogram_bounds, most_common_elems) ~* 'acme|ana rossi'"
        )
        assert connection.execute(held).fetchall()
        office.erase(CUSTOMER, "acme", mentions=True)
        assert connection.execute(held).fetchall() == []
        words = (
            "select count(*) as n from term_stat where term <> all (array(select unnest(terms) from chunk))"
        )
        assert connection.execute(words).fetchone() == {"n": 0}


def test_the_search_finds_what_it_should(office: Office) -> None:
    """With nothing erased it finds every name wherever it was put: the proof is no empty one."""
    office.asked("What did Acme Corp want?", cite="ticket/1")
    office.commit(ticket(20, "Acme Corp, not indexed yet."))
    values = {
        "sources": [1],
        "names": ["ticket/1"],
        "chunks": [],
        "ids": [],
        "customers": [],
        "talks": [],
        "people": [],
    }
    with office.assistant.database.owner() as connection:
        left = personal.search(
            connection, personal.words(["Acme Corp", "Ana Rossi"]), mentions=[], values=values
        )
    assert {
        "customer.name",
        "chunk.text",
        "message.content",
        "ticket.requester",
        "principal.name",
        "pending.body",
        "message.searched",
        "document.external_id",
        "ticket.links",
    } <= set(left)


def test_every_column_is_classified(office: Office) -> None:
    with office.assistant.database.owner() as connection:
        there = {f"{table}.{column}" for table, column, _ in personal.columns(connection)}
        assert there - set(personal.COLUMNS) == set(), "say in personal.py what an erasure does about them"
        assert set(personal.COLUMNS) - there == set(), "these are gone"
        connection.execute("alter table customer add nickname text")
        new = {f"{table}.{column}" for table, column, _ in personal.columns(connection)} - there
        assert new == {"customer.nickname"}, "a new column is seen"
        connection.rollback()


def test_a_worker_can_block_but_neither_lift_nor_forget(office: Office) -> None:
    office.erase(CUSTOMER, "acme")
    for statement in (
        "delete from blocked",
        "update erasure set lifted_at = now()",
        "delete from erasure",
        "select from conversation",
    ):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            office.assistant.database.writer() as connection,
        ):
            connection.execute(statement.encode())
    for table in ("blocked", "erasure"):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            office.assistant.database.reader(AGENT, Audience.INTERNAL) as connection,
        ):
            connection.execute(f"select from {table}".encode())


def test_the_command_shows_asks_erases_lists_and_lifts(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.surfaces.terminal.settings", lambda: office.assistant.settings)

    def deskhand(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(cli_erase.erase, arguments, input=stdin)

    planned = deskhand("customer", "acme", "--json")
    assert json.loads(planned.stdout)["removed"]["ticket"] == 2
    refused = deskhand("customer", "acme", stdin="n\n")
    assert "Would be erased" in refused.stdout
    assert "ticket/1" in refused.stdout
    assert refused.exit_code == 1
    assert len(office.ids()) == len(EVERYTHING)
    assert isinstance(deskhand("customer", "nobody", "--yes").exception, ConfigError)
    done = deskhand("customer", "acme", "--yes", "--json")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert (report["left"], report["erasure"]) == ({}, 1)
    assert [m["external_id"] for m in report["mentions"]] == ["visits.txt"]
    listed = deskhand("list", "--json")
    assert [row["id"] for row in json.loads(listed.stdout)] == [1]
    assert "acme" not in listed.stdout.lower()
    asked = deskhand("customer", "globex", stdin="y\n")
    assert "nothing is left" in asked.stdout
    assert asked.exit_code == 0
    assert "Read anew from the start: desk" in deskhand("lift", "1").stdout
    trail = office.rows("select action, actor, object from audit_log order by id")
    assert [tuple(row.values()) for row in trail] == [
        ("erase.customer", "cli", "1"),
        ("erase.customer", "cli", "2"),
        ("erase.lift", "cli", "1"),
    ]
