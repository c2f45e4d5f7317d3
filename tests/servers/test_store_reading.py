"""Who is who, and what each may find, against a real PostgreSQL."""

from __future__ import annotations

import datetime as dt
import hashlib

import pytest

from assistant.errors import ConfigError
from assistant.model import (
    Access,
    Audience,
    Chunk,
    Customer,
    Failed,
    Kind,
    Member,
    Principal,
    Ticket,
    Upsert,
)
from assistant.store import (
    conversations,
    documents,
    feedback,
    principals,
    search,
    sources,
    sync,
)
from assistant.store.db import Conn
from assistant.store.search import Filters
from tests.servers.desk import NOW, Desk, document, vector


def test_people_get_the_tokens_of_all_their_identities(desk: Desk) -> None:
    other = Desk(desk.database, "wiki", realm="acme")
    third = Desk(desk.database, "rt", realm="rt")
    with desk.database.writer() as connection:
        sync.commit_memberships(
            connection, desk.source, [Member("ada", "Ada@Acme.example", "Ada", frozenset({"support"}))]
        )
        sync.commit_memberships(connection, other.source, [Member("ada", groups=frozenset({"wiki"}))])
        sync.commit_memberships(
            connection, third.source, [Member("alovelace", "ada@acme.example", groups=frozenset({"q"}))]
        )
        ada = principals.load(connection, "ADA@acme.example")
    assert ada.tokens == {
        "everyone", "acme/user:ada", "acme/group:support", "acme/group:wiki", "rt/user:alovelace", "rt/group:q",
    }  # fmt: skip
    with desk.database.writer() as connection:
        sync.commit_memberships(connection, desk.source, [Member("ada", "ada@acme.example")])
        assert "acme/group:support" not in principals.load(connection, "ada@acme.example").tokens
        with pytest.raises(ConfigError, match="No source knows"):
            principals.load(connection, "eve@acme.example")


def test_an_admins_word_about_who_somebody_is_outlasts_the_source(desk: Desk) -> None:
    def token_holder(email: str) -> bool:
        with desk.database.writer() as connection:
            try:
                return "acme/user:ada" in principals.load(connection, email).tokens
            except ConfigError:
                return False

    def source_says(email: str) -> None:
        with desk.database.writer() as connection:
            sync.commit_memberships(connection, desk.source, [Member("ada", email)])

    source_says("ada@old.example")
    source_says("ada@new.example")
    assert token_holder("ada@new.example")
    assert not token_holder("ada@old.example"), "an address that changed at the source is another person's"
    with desk.database.writer() as connection:
        principals.fix(connection, source="files", account="ada", email="countess@acme.example")
    source_says("ada@new.example")
    assert token_holder("countess@acme.example")
    assert not token_holder("ada@new.example")
    with desk.database.writer() as connection:
        principals.unfix(connection, source="files", account="ada")
    source_says("ada@new.example")
    assert token_holder("ada@new.example")


def found(connection: Conn, desk: Desk, text: str, filters: Filters | None = None) -> list[int]:
    digest = hashlib.sha256(text.encode()).digest()
    got = search.candidates(
        connection,
        space=desk.space,
        vector=vector(int.from_bytes(digest[:4])),
        weights=search.idf(connection, [7]),
        filters=filters or Filters(),
        reader=(text, filters),
        depth=10,
    )
    return sorted(c.document_id for c in got)


def test_search_sees_only_what_the_reader_may(desk: Desk) -> None:
    desk.batch(
        Upsert(document("open", access=Access.public())),
        Upsert(document("support")),
        Upsert(document("secret", access=Access.of(groups=("security",)))),
        Upsert(document("nobody", access=Access.nobody())),
    )
    desk.index()
    ids = {r["external_id"]: r["id"] for r in desk.rows("select id, external_id from document")}
    with desk.database.writer() as connection:
        connection.execute("update corpus_stat set counted_at = '-infinity'")
        connection.execute(b"insert into term_stat values (7, 4)")
    readers = {
        Principal("a"): {"open"},
        Principal("s", frozenset({"acme/group:support"})): {"open", "support"},
        Principal("x", frozenset({"acme/group:security"})): {"open", "secret"},
        Principal("o", frozenset({"other/group:support"})): {"open"},
    }
    for reader, names in readers.items():
        with desk.database.reader(reader, Audience.INTERNAL) as connection:
            assert found(connection, desk, f"q{reader.id}") == sorted(ids[n] for n in names)
            for table in ("document", "chunk"):
                rows = connection.execute(f"select count(*) as n from {table}".encode()).fetchone()
                assert rows == {"n": len(names)}


def test_internal_notes_are_invisible_to_a_public_audience(desk: Desk) -> None:
    ticket = Ticket(status="open")
    desk.batch(Upsert(document("t", ticket=ticket, access=Access.public())))
    desk.index(texts={"t": [Chunk(0, "asked"), Chunk(1, "goodwill credit", audience=Audience.INTERNAL)]})
    for audience, count in ((Audience.PUBLIC, 1), (Audience.INTERNAL, 2)):
        with desk.database.reader(Principal("a"), audience) as connection:
            assert len(connection.execute("select from chunk").fetchall()) == count


def test_the_reader_cannot_reach_what_it_was_not_given(desk: Desk) -> None:
    from psycopg import errors

    for statement in (
        "select * from pending",
        "select secrets from source",
        "select * from failure",
        "update chunk set acl = '{everyone}'",
        "delete from document",
        "select * from audit_log",
        "insert into membership values (1, 'acme', 'eve', 'support')",
        "alter table chunk disable row level security",
    ):
        with (
            pytest.raises(errors.InsufficientPrivilege),
            desk.database.reader(Principal("a"), Audience.INTERNAL) as connection,
        ):
            connection.execute(statement.encode())


def test_without_a_principal_nothing_is_visible(desk: Desk) -> None:
    desk.batch(Upsert(document("open", access=Access.public())))
    desk.index()
    bare = desk.database.connect("deskhand_reader")
    try:
        assert bare.execute("select from chunk").fetchall() == []
        assert bare.execute("select from document").fetchall() == []
    finally:
        bare.close()
    # nor is anything left over from the reader before on a pooled connection
    with desk.database.reader(Principal("a"), Audience.INTERNAL) as connection:
        assert len(connection.execute("select from chunk").fetchall()) == 1
        connection.commit()
        assert connection.execute("select from chunk").fetchall() == []


def test_filters_narrow(desk: Desk) -> None:
    c1, c2 = Customer("c1", "One"), Customer("c2", "Two")
    ticket = Ticket(status="open")
    desk.batch(
        Upsert(document("doc", access=Access.public())),
        Upsert(document("t1", ticket=ticket, customer=c1, access=Access.public())),
        Upsert(document("t2", ticket=ticket, customer=c2, access=Access.public())),
    )
    desk.index()
    ids = {r["external_id"]: r["id"] for r in desk.rows("select id, external_id from document")}
    customer = desk.rows("select id from customer where external_id = 'c1'")[0]["id"]
    assert isinstance(customer, int)
    cases = {
        Filters(kinds=(Kind.DOCUMENT,)): {"doc"},
        Filters(customers=(customer,)): {"doc", "t1"},
        Filters(customers=(customer,), kinds=(Kind.TICKET,)): {"t1"},
        Filters(sources=(desk.source.id + 99,)): set[str](),
        Filters(before=NOW - dt.timedelta(days=1)): set[str](),
        Filters(before=NOW): {"doc", "t1", "t2"},
        Filters(languages=("de",)): set[str](),
    }
    for filters, names in cases.items():
        with desk.database.reader(Principal("a"), Audience.INTERNAL) as connection:
            assert found(connection, desk, "x", filters) == sorted(ids[n] for n in names)


def test_a_tickets_replies_are_read_as_the_asking_person(desk: Desk) -> None:
    ticket = Ticket(status="solved")
    later = NOW + dt.timedelta(days=1)
    desk.batch(
        Upsert(document("mine", ticket=ticket)),
        Upsert(document("theirs", ticket=ticket, access=Access.of(groups=("others",)))),
    )
    thread = [
        Chunk(0, "what to do?", tokens=20, role="customer"),
        Chunk(1, "do this first", tokens=20, role="agent", created_at=NOW),
        Chunk(2, "ok", tokens=1, role="agent", created_at=NOW),
        Chunk(3, "they were told of the discount", tokens=20, role="agent", audience=Audience.INTERNAL),
        Chunk(4, "this solved it", tokens=20, role="agent", is_solution=True, created_at=later),
    ]
    desk.index(texts={"mine": thread, "theirs": [Chunk(0, "not yours", tokens=20, role="agent")]})
    scores = {int(str(r["id"])): 0.5 for r in desk.rows("select id from document")}
    reader = Principal("s", frozenset({"acme/group:support"}))

    def texts(audience: Audience, each: int = 3, before: dt.datetime | None = None) -> set[str]:
        with desk.database.reader(reader, audience) as connection:
            got = search.replies(
                connection,
                scores,
                space=desk.space,
                vector=vector(1),
                filters=Filters(before=before),
                known=[],
                each=each,
                tokens=5,
            )
        return {passage.text for passage in got}

    assert texts(Audience.PUBLIC) == {"do this first", "this solved it"}
    assert texts(Audience.INTERNAL) == {"do this first", "this solved it", "they were told of the discount"}
    assert texts(Audience.PUBLIC, each=1) == {"this solved it"}
    assert texts(Audience.PUBLIC, before=NOW) == {"do this first"}


def test_conversations_belong_to_their_person(desk: Desk) -> None:
    from assistant.model import Answer, Citation, Passage

    desk.batch(Upsert(document("open", access=Access.public())))
    desk.index()
    chunk = desk.rows("select id, document_id from chunk")[0]
    passage = Passage(
        int(str(chunk["id"])), int(str(chunk["document_id"])), "text", "Open", "", Kind.DOCUMENT, 1.0
    )
    answer = Answer("It is so [1].", (Citation(1, passage, "text", (0, 13)),), 0.9)
    with desk.database.reader(Principal("ada"), Audience.INTERNAL) as connection:
        talk = conversations.start(connection, title="Hm", surface="cli")
        message = conversations.record(connection, talk, "Is it so?", answer)
        feedback.add(connection, message, feedback.Verdict.UP)
        conversations.audit(connection, actor="ada", action="ask", object=str(talk))
    with desk.database.reader(Principal("ada"), Audience.INTERNAL) as connection:
        assert [t.content for t in conversations.turns(connection, talk)] == ["Is it so?", "It is so [1]."]
        assert conversations.page(connection)[0]["id"] == talk
        assert len(conversations.messages(connection, talk)) == 2
        assert len(connection.execute("select from citation").fetchall()) == 1
    with desk.database.reader(Principal("eve"), Audience.INTERNAL) as connection:
        assert conversations.turns(connection, talk) == []
        assert conversations.page(connection) == []
        assert conversations.messages(connection, talk) == []
        assert connection.execute("select from citation").fetchall() == []


def test_statistics_follow_the_corpus(desk: Desk) -> None:
    desk.batch(*[Upsert(document(f"d{i}")) for i in range(60)])
    while desk.index():
        pass
    with desk.database.writer() as connection:
        assert documents.refresh_statistics(connection)
        assert not documents.refresh_statistics(connection), "nothing new since"
    with desk.database.writer() as connection:
        weights = search.idf(connection, [7])
        assert weights[7][1] == 60
        assert weights[7][0] < 0.01, "a word that is everywhere tells nothing"


def test_removing_a_source_removes_everything_of_it(desk: Desk) -> None:
    desk.batch(Upsert(document("a")), Failed("b", "no"))
    desk.index()
    with desk.database.writer() as connection:
        sources.remove(connection, desk.source)
    for table in ("document", "chunk", "failure", "sync_run", "pending"):
        assert desk.rows(f"select from {table}") == []
