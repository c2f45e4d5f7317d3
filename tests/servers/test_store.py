"""The store against a real PostgreSQL: batches, the queue, chunk swaps."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from pgvector import SparseVector

from assistant.errors import ItemError, SourceBusy
from assistant.model import (
    Access,
    AccessChanged,
    Audience,
    Batch,
    Chunk,
    Customer,
    Delete,
    Failed,
    Part,
    Principal,
    Renamed,
    SourceDocument,
    Ticket,
    Upsert,
)
from assistant.store import (
    documents,
    failures,
    sources,
    sync,
)
from tests.servers.desk import NOW, Desk, document


def test_a_batch_and_its_checkpoint_are_one(desk: Desk) -> None:
    counts = desk.batch(
        Upsert(document("a")), Upsert(document("b")), Failed("c", "unreadable"), checkpoint={"at": 3}
    )
    assert (counts.added, counts.failed) == (2, 1)
    with desk.database.writer() as connection:
        source = sources.get(connection, "files")
        assert source.checkpoint == {"at": 3}
        run = sources.run(connection, desk.run)
        assert run is not None
        assert (run["added"], run["failed"], run["pending"]) == (2, 1, 2)
        assert [f["reason"] for f in failures.listing(connection)] == ["unreadable"]
    with pytest.raises(RuntimeError), desk.database.writer() as connection:
        sync.commit_batch(connection, desk.source, desk.run, Batch((Upsert(document("d")),), {"at": 4}))
        raise RuntimeError("the worker dies before the commit")
    with desk.database.writer() as connection:
        assert sources.get(connection, "files").checkpoint == {"at": 3}
    assert len(desk.rows("select from document")) == 2


def test_an_unchanged_document_is_not_queued_again(desk: Desk) -> None:
    desk.batch(Upsert(document("a")))
    assert desk.index() == 1
    counts = desk.batch(Upsert(document("a")))
    assert counts.unchanged == 1
    assert desk.rows("select from pending") == []
    assert desk.batch(Upsert(document("a", revision="2"))).changed == 1
    assert desk.index() == 0, "the text is the same, so nothing was embedded"
    assert [r["revision"] for r in desk.rows("select revision from document")] == ["2"]


def test_a_changed_document_keeps_the_chunks_that_did_not_change(desk: Desk) -> None:
    desk.batch(Upsert(document("a")))
    desk.index(texts={"a": [Chunk(0, "one"), Chunk(1, "two"), Chunk(2, "three")]})
    before = {r["text"]: r["id"] for r in desk.rows("select id, text from chunk")}
    desk.batch(Upsert(document("a", revision="2")))
    assert desk.index(texts={"a": [Chunk(0, "zero"), Chunk(1, "two"), Chunk(2, "one")]}) == 1
    after = {r["text"]: (r["id"], r["ordinal"]) for r in desk.rows("select id, text, ordinal from chunk")}
    assert set(after) == {"zero", "one", "two"}
    assert after["one"] == (before["one"], 2)
    assert after["two"] == (before["two"], 1)


def test_a_removed_document_is_gone_at_once(desk: Desk) -> None:
    desk.batch(Upsert(document("a")), Upsert(document("b")))
    desk.index()
    assert desk.batch(Delete("a")).deleted == 1
    assert [r["text"] for r in desk.rows("select text from chunk")] == ["text of b"]


def test_a_moved_document_is_not_embedded_again(desk: Desk) -> None:
    desk.batch(Upsert(document("old")))
    desk.index()
    chunk = desk.rows("select id from chunk")
    desk.batch(Renamed("old", "new", "New", "file:///new"))
    assert [(r["external_id"], r["title"]) for r in desk.rows("select * from document")] == [("new", "New")]
    assert desk.rows("select id from chunk") == chunk
    assert desk.rows("select from pending") == []


def test_a_move_of_what_an_inventory_deleted_meanwhile_calls_for_reading_anew(desk: Desk) -> None:
    desk.batch(Upsert(document("old")))
    moved = Renamed("old", "new", "New", "")
    desk.batch(moved)
    desk.batch(moved)  # once more changes nothing
    assert [row["external_id"] for row in desk.rows("select external_id from document")] == ["new"]
    desk.batch(Delete("new"))
    with pytest.raises(sync.Stale):
        desk.batch(moved)
    with desk.database.writer() as connection:
        sources.reread(connection, desk.source.id)
        assert sources.get(connection, "files").checkpoint is None


def test_narrowed_access_holds_before_the_new_text_is_indexed(desk: Desk) -> None:
    desk.batch(Upsert(document("a")))
    desk.index()
    desk.batch(Upsert(document("a", revision="2", access=Access.of(groups=("security",)))))
    assert [r["acl"] for r in desk.rows("select acl from chunk")] == [["acme/group:security"]]
    desk.batch(AccessChanged("a", Access.nobody()))
    assert [r["acl"] for r in desk.rows("select acl from chunk union all select acl from document")] == [
        [],
        [],
    ]


def test_customers_and_tickets_are_kept_with_the_document(desk: Desk) -> None:
    ticket = Ticket(status="solved", requester="Ada", tags=("vpn",), solved_at=NOW)
    customer = Customer("c1", "Acme", ("acme.example",), {"plan": "Team"})
    desk.batch(Upsert(document("t1", ticket=ticket, customer=customer, body=(Part("hello"),))))
    desk.index()
    rows = desk.rows(
        "select c.name, c.domains, c.attributes, t.status, t.tags, k.customer_id = c.id as linked "
        "from customer c join document d on d.customer_id = c.id join ticket t on t.document_id = d.id "
        "join chunk k on k.document_id = d.id"
    )
    assert rows == [
        {
            "name": "Acme",
            "domains": ["acme.example"],
            "attributes": {"plan": "Team"},
            "status": "solved",
            "tags": ["vpn"],
            "linked": True,
        }
    ]


def test_parts_survive_the_queue(desk: Desk) -> None:
    parts = (
        Part("question \x00 \ud800", author="Ada", role="customer", created_at=NOW),
        Part("note", audience=Audience.INTERNAL, role="agent"),
        Part("fix", is_solution=True),
    )
    desk.batch(Upsert(document("t", body=parts)))
    with desk.database.writer() as connection:
        row = documents.take(connection, documents.claim(connection, limit=1))[0]
        back = sync.unpack(row["form"], bytes(row["body"]))
    assert isinstance(back, tuple)
    assert back[0].text.startswith("question")
    assert back[0].created_at == NOW
    assert back[1:] == parts[1:]


def test_two_workers_never_take_the_same_document(desk: Desk) -> None:
    desk.batch(*[Upsert(document(f"d{i}")) for i in range(6)])
    with desk.database.writer() as one, desk.database.writer() as two:
        ids = [r["document_id"] for r in one.execute("select document_id from pending").fetchall()]
        assert len(documents.take(one, ids)) == 6
        assert documents.take(two, ids) == []


def test_a_document_that_kills_the_worker_is_isolated(desk: Desk) -> None:
    desk.batch(*[Upsert(document(f"d{i}")) for i in range(4)])
    desk.rows(
        "update pending set attempts = 5 where document_id = (select min(document_id) from pending) returning 1"
    )
    with desk.database.writer() as connection:
        first = documents.claim(connection, limit=32)
        assert len(first) == 3, "the others go ahead without it"
        documents_left = connection.execute(
            "select document_id, attempts from pending where document_id <> all (%s)", (first,)
        ).fetchall()
        assert [r["attempts"] for r in documents_left] == [5]
        connection.execute("delete from pending where document_id = any (%s)", (first,))
    with desk.database.writer() as connection:
        assert len(documents.claim(connection, limit=32)) == 1


def test_failures_can_be_retried(desk: Desk) -> None:
    desk.batch(Upsert(document("a")))
    with desk.database.writer() as connection:
        ids = documents.claim(connection, limit=5)
        row = documents.take(connection, ids)[0]
        documents.park(connection, row["document_id"])
        sync.fail(connection, row["source_id"], "a", "parse", "encrypted", 1)
    assert desk.index() == 0, "a parked document waits for a person"
    with desk.database.writer() as connection:
        failed = failures.listing(connection, source="files")
        assert failures.retry(connection, [failed[0]["id"]]) == 1
    assert desk.index() == 1
    with desk.database.writer() as connection:
        assert failures.listing(connection) == []


def failed(desk: Desk) -> list[str]:
    with desk.database.writer() as connection:
        return sorted(row["external_id"] for row in failures.listing(connection))


def test_a_failure_goes_when_its_item_is_read_again_unchanged(desk: Desk) -> None:
    desk.batch(Upsert(document("a")), Upsert(document("b")))
    desk.index(limit=1)
    desk.batch(*(Failed(name, "no right to read it") for name in "abc"))
    desk.batch(*(Upsert(document(name)) for name in "abc"))
    assert failed(desk) == ["b", "c"], "these are still to be indexed"
    desk.index()
    assert failed(desk) == []


def test_a_failure_goes_when_nothing_of_its_name_is_there_any_more(desk: Desk) -> None:
    """As a broken line of an export, which is known by its place until it is mended."""
    desk.batch(Upsert(document("1")), Failed("tickets.jsonl:line 2", "no JSON"), Failed("3", "no date"))
    hour = dt.timedelta(hours=1)
    now = dt.datetime.now(dt.UTC)
    with desk.database.writer() as connection:
        sync.fail(connection, desk.source.id, "1", "parse", "encrypted", 6)
        failures.forget(connection, desk.source.id, there={"1", "2", "3"}, before=now - hour)
    assert failed(desk) == ["1", "3", "tickets.jsonl:line 2"], "it failed since the inventory began"
    with desk.database.writer() as connection:
        failures.forget(connection, desk.source.id, there={"1", "2", "3"}, before=now + hour)
    assert failed(desk) == ["1", "3"]


def test_attachments_go_with_their_ticket(desk: Desk) -> None:
    ticket = document("t1", ticket=Ticket(status="open"))
    attached = dataclasses.replace(document("attachment/1"), parent="t1")
    desk.batch(Upsert(ticket), Upsert(attached), Upsert(document("t2")))
    assert desk.batch(Delete("t1")).deleted == 2
    assert [row["external_id"] for row in desk.rows("select external_id from document")] == ["t2"]


def test_a_body_is_fetched_only_when_its_revision_is_new(desk: Desk) -> None:
    fetched: list[str] = []

    def lazy(name: str, revision: str, content: bytes | None = b"text") -> SourceDocument:
        def fetch() -> bytes:
            fetched.append(name)
            if content is None:
                raise ItemError("It is larger than 1 MB.")
            return content

        return dataclasses.replace(document(name, revision=revision, body=b""), fetch=fetch)

    def sync_once(*documents: SourceDocument) -> None:
        batch = Batch(tuple(Upsert(d) for d in documents), {"at": 1})
        with desk.database.writer() as connection:
            loaded = sync.load(connection, desk.source, batch)
            sync.commit_batch(connection, desk.source, desk.run, loaded)

    sync_once(lazy("a", "1"), lazy("b", "1", None))
    sync_once(lazy("a", "1"))
    sync_once(lazy("a", "2", b"news"))
    assert fetched == ["a", "b", "a"]
    assert bytes(desk.rows("select body from pending")[0]["body"]) == b"news"
    with desk.database.writer() as connection:
        assert [f["external_id"] for f in failures.listing(connection)] == ["b"]


def test_one_file_that_never_comes_holds_up_the_rest_only_for_a_while(desk: Desk) -> None:
    def fetch() -> bytes:
        raise SourceBusy("HTTP 500")

    stuck = dataclasses.replace(document("stuck", body=b""), fetch=fetch)
    batch = Batch((Upsert(stuck), Upsert(document("next"))), {"at": 1})
    with desk.database.connect() as own:
        for _ in range(sync.FETCH_TRIES - 1):
            with pytest.raises(SourceBusy):
                sync.load(own, desk.source, batch)
        loaded = sync.load(own, desk.source, batch)
    with desk.database.writer() as connection:
        counts = sync.commit_batch(connection, desk.source, desk.run, loaded)
        assert (counts.added, counts.failed) == (1, 1)
        assert [f["external_id"] for f in failures.listing(connection)] == ["stuck"]


def test_a_permission_sync_changes_what_differs_and_its_texts_with_it(desk: Desk) -> None:
    desk.batch(Upsert(document("a")), Upsert(document("b")))
    desk.index()
    now = [
        AccessChanged("a", Access.of(groups=("board",))),
        AccessChanged("b", Access.of(groups=("support",))),
        AccessChanged("unknown", Access.public()),
    ]
    with desk.database.writer() as connection:
        assert sync.commit_accesses(connection, desk.source, now) == 1
    assert [row["acl"] for row in desk.rows("select acl from chunk order by document_id")] == [
        ["acme/group:board"],
        ["acme/group:support"],
    ]


def test_a_note_that_few_may_read_needs_both_rights(desk: Desk) -> None:
    desk.batch(Upsert(document("a")))
    comment = Chunk(1, "a comment", tokens=2, access=Access.of(groups=("comments",)))
    desk.index(texts={"a": [Chunk(0, "the ticket", tokens=2), comment]})
    for tokens, expected in (
        ({"acme/group:support"}, {"the ticket"}),
        ({"acme/group:comments"}, set[str]()),
        ({"acme/group:support", "acme/group:comments"}, {"the ticket", "a comment"}),
    ):
        person = Principal("ada", frozenset(tokens))
        with desk.database.reader(person, Audience.INTERNAL) as connection:
            assert {row["text"] for row in connection.execute("select text from chunk")} == expected
            weights = SparseVector({6: 1.0}, documents.MAX_TERM)
            found = connection.execute(
                "select l.id from lexical(%s, null, %s::smallint, 10, null, null, null, null, null) l",
                (weights, desk.space.id),
            ).fetchall()
            assert len(found) == len(expected), "the function that goes round the policies says the same"
