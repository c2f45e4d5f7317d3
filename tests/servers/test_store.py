"""The store against a real PostgreSQL: batches, the queue, chunk swaps, people, permissions."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from pgvector import SparseVector

from assistant.errors import ConfigError, ItemError
from assistant.model import (
    Access,
    AccessChanged,
    Audience,
    Batch,
    Change,
    Chunk,
    Customer,
    Delete,
    Failed,
    Kind,
    Member,
    Part,
    Principal,
    Renamed,
    SourceDocument,
    Ticket,
    Upsert,
)
from assistant.store import (
    breaker,
    conversations,
    documents,
    failures,
    principals,
    schedule,
    search,
    sources,
    sync,
)
from assistant.store.db import Conn, Database
from assistant.store.schedule import Job, Times
from assistant.store.search import Filters

NOW = dt.datetime(2026, 5, 1, 12, 0, tzinfo=dt.UTC)


def vector(seed: int) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal(384).astype(np.float32)
    return made / np.linalg.norm(made)


def document(
    name: str,
    *,
    revision: str = "1",
    access: Access | None = None,
    body: bytes | tuple[Part, ...] = b"text",
    customer: Customer | None = None,
    ticket: Ticket | None = None,
) -> SourceDocument:
    return SourceDocument(
        external_id=name,
        kind=Kind.TICKET if ticket else Kind.DOCUMENT,
        title=name.title(),
        body=body,
        revision=revision,
        access=access or Access.of(groups=("support",)),
        created_at=NOW,
        customer=customer,
        ticket=ticket,
    )


class Desk:
    """A source in a fresh database, with shorthands for what a worker does."""

    def __init__(self, database: Database, name: str = "files", realm: str = "acme") -> None:
        self.database = database
        with database.writer() as connection:
            sources.add(
                connection,
                name=name,
                connector="directory",
                realm=realm,
                settings={"path": "/x"},
                secrets=b"sealed",
                every_seconds=None,
            )
            self.source = sources.get(connection, name)
            self.run = sources.request(connection, self.source)
            self.space = search.live_space(connection)

    def batch(self, *changes: Change, checkpoint: dict[str, int] | None = None) -> sync.Counts:
        with self.database.writer() as connection:
            return sync.commit_batch(
                connection, self.source, self.run, Batch(changes, checkpoint or {"at": 1})
            )

    def index(self, *, limit: int = 32, texts: dict[str, Sequence[Chunk]] | None = None) -> int:
        """Index what is queued: by default one chunk a document with a vector by its name."""
        with self.database.writer() as connection:
            ids = documents.claim(connection, limit=limit)
        with self.database.writer() as connection:
            made: list[documents.Indexed] = []
            for row in documents.take(connection, ids):
                chunks = (texts or {}).get(row["external_id"]) or [
                    Chunk(0, f"text of {row['external_id']}", tokens=4)
                ]
                hashes = [hashlib.sha256(c.text.encode()).digest()[:16] for c in chunks]
                made.append(
                    documents.Indexed(
                        row=row,
                        chunks=chunks,
                        hashes=hashes,
                        weights=[{7: 1.0, len(c.text): 2.0} for c in chunks],
                        vectors={h: vector(int.from_bytes(h[:4])) for h in hashes},
                        title_vector=vector(1),
                    )
                )
            return documents.write(connection, self.space.id, made)

    def rows(self, query: str, *values: object) -> list[dict[str, object]]:
        with self.database.writer() as connection:
            return connection.execute(query.encode(), values or None).fetchall()


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


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


def inventory(
    desk: Desk, present: set[str], *, confirmed: bool = False, minutes: int = 60
) -> tuple[int, str]:
    """How many an inventory begun in so many minutes would delete, and what it says."""
    run = {
        "id": desk.run,
        "started_at": dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes),
        "prune_all": confirmed,
    }
    with desk.database.writer() as connection:
        gone, note = breaker.missing(connection, desk.source, run, present)
        counts = sync.Counts()
        sync.delete(connection, desk.source, gone, counts)
        return counts.deleted, note


def documents_named(count: int) -> list[str]:
    return [f"d{i:03}" for i in range(count)]


def test_what_an_inventory_misses_is_deleted_and_leaves_a_tombstone(desk: Desk) -> None:
    desk.batch(*[Upsert(document(name)) for name in documents_named(30)])
    assert inventory(desk, set(documents_named(30)), minutes=-60) == (0, "")
    assert inventory(desk, set(documents_named(25))) == (5, "")
    assert len(desk.rows("select from document")) == 25
    stones = desk.rows("select * from tombstone order by external_id")
    assert [stone["external_id"] for stone in stones] == ["d025", "d026", "d027", "d028", "d029"]
    assert "text of" not in str(stones)


def test_a_document_synced_while_the_inventory_was_read_stays(desk: Desk) -> None:
    desk.batch(Upsert(document("new")))
    assert inventory(desk, set(), minutes=-60) == (0, "")


def test_an_empty_inventory_deletes_nothing_however_often_it_comes(desk: Desk) -> None:
    desk.batch(*[Upsert(document(name)) for name in documents_named(30)])
    for _ in range(3):
        deleted, note = inventory(desk, set())
        assert deleted == 0
        assert "Nothing of them was deleted" in note
        desk.rows("update held_prune set held_at = now() - interval '1 day' returning 1")
    assert inventory(desk, set(), confirmed=True) == (30, "")
    assert desk.rows("select from held_prune") == []


def test_too_many_missing_are_held_back_until_a_second_inventory_agrees(desk: Desk) -> None:
    desk.batch(*[Upsert(document(name)) for name in documents_named(200)])
    present = set(documents_named(120))  # 80 missing of 200, where 50 may always go
    assert inventory(desk, present)[0] == 0
    assert inventory(desk, present)[0] == 0, "too soon after the first"
    desk.rows("update held_prune set held_at = now() - interval '1 hour' returning 1")
    back = present | {"d150"}
    assert inventory(desk, back) == (79, "")
    assert len(desk.rows("select from document")) == 121
    assert desk.rows("select from held_prune") == []


def test_a_second_inventory_that_misses_others_confirms_nothing(desk: Desk) -> None:
    names = documents_named(400)
    desk.batch(*[Upsert(document(name)) for name in names])
    assert inventory(desk, set(names[:200]))[0] == 0
    desk.rows("update held_prune set held_at = now() - interval '1 hour' returning 1")
    deleted, note = inventory(desk, set(names[200:]))
    assert deleted == 0
    assert note
    with desk.database.writer() as connection:
        (row,) = breaker.held(connection)
    assert (row["source"], row["missing"], row["documents"]) == ("files", 200, 400)
    assert row["examples"][0] == "d000"


def test_deletions_a_sync_reports_pass_the_same_breaker(desk: Desk) -> None:
    names = documents_named(200)
    desk.batch(*[Upsert(document(name)) for name in names])
    for start in range(0, 200, 20):
        desk.batch(*[Delete(name) for name in names[start : start + 20]])
    assert len(desk.rows("select from document")) == 150, "the larger of 50 and a fifth may go"
    desk.rows("update sync_run set prune_all = true returning 1")
    desk.batch(*[Delete(name) for name in names])
    assert desk.rows("select from document") == []


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
    assert bytes(desk.rows("select body from pending")[0]["body"]) == b"news"  # type: ignore[arg-type]
    with desk.database.writer() as connection:
        assert [f["external_id"] for f in failures.listing(connection)] == ["b"]


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


def soon(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def waiting(desk: Desk) -> list[int]:
    with desk.database.writer() as connection:
        return sources.waiting(connection, (Job.SYNC,))


def test_a_run_is_carried_by_one_worker_and_found_again_when_that_dies(desk: Desk) -> None:
    assert waiting(desk) == [desk.run]
    one, two = desk.database.connect(), desk.database.connect()
    try:
        assert sources.carry(one, desk.run) is not None
        assert sources.carry(two, desk.run) is None
        assert waiting(desk) == []
        one.close()
        assert soon(lambda: waiting(desk) == [desk.run]), "the server drops the lock with the session"
        carried = sources.take(two, (Job.SYNC,))
        assert carried is not None
        assert carried["slices"] == 2
        sources.finish(two, carried)
    finally:
        one.close()
        two.close()
    assert waiting(desk) == []
    with desk.database.writer() as connection:
        assert sources.overview(connection)[0]["run_state"] == "done"


def test_the_run_that_waited_longest_is_taken_first(desk: Desk) -> None:
    huge, small = desk, Desk(desk.database, "small")
    with desk.database.connect() as worker:
        first = sources.take(worker, (Job.SYNC,))
        assert first is not None
        assert first["id"] == huge.run
    for expected in (small.run, huge.run, small.run):
        with desk.database.connect() as worker:
            run = sources.take(worker, (Job.SYNC,))
            assert run is not None
            assert run["id"] == expected


def test_a_run_waits_as_long_as_its_source_asked(desk: Desk) -> None:
    with desk.database.writer() as connection:
        sources.wait(connection, desk.run, seconds=60, note="rate limit")
    assert waiting(desk) == []
    with desk.database.connect() as worker:
        assert sources.carry(worker, desk.run) is None
        desk.rows("update sync_run set ready_at = now() returning 1")
        assert sources.carry(worker, desk.run) is not None, "the lock of the vain try was given back"


def test_what_is_due_is_requested_once_by_any_number_of_beats(desk: Desk) -> None:
    with desk.database.writer() as connection:
        sources.finish(connection, {"id": desk.run, "source_id": desk.source.id, "job": "sync"})
        schedule.put(connection, desk.source.id, Job.SYNC, Times(every=3600), now=True)
    with desk.database.writer() as one:
        sources.request_due(one)
        with desk.database.writer() as two:  # a second beat's tick at the same moment
            sources.request_due(two)
    assert len(desk.rows("select from sync_run where state = 'queued'")) == 1
    with desk.database.writer() as connection:
        (row,) = schedule.everything(connection)
        assert 3500 < (row["next_at"] - dt.datetime.now(dt.UTC)).total_seconds() < 3700
        sources.pause(connection, desk.source.id, "401")
        assert sources.overview(connection)[0]["paused"] == "401"
        schedule.put(connection, desk.source.id, Job.SYNC, Times(every=3600), now=True)
        assert schedule.claim_due(connection) == [], "nothing of a paused source is due"
        sources.resume(connection, desk.source.id)
        schedule.pause(connection, desk.source.id, Job.SYNC)
        assert schedule.claim_due(connection) == []
        schedule.pause(connection, desk.source.id, Job.SYNC, paused=False)
        assert schedule.claim_due(connection) == [(desk.source.id, Job.SYNC)]


def test_failures_in_a_row_are_tried_ever_later_and_a_success_ends_that(desk: Desk) -> None:
    run = {"id": desk.run, "source_id": desk.source.id, "job": "sync"}

    def seconds() -> float:
        with desk.database.writer() as connection:
            schedule.put(connection, desk.source.id, Job.PERMISSIONS, Times(every=10))
            (row,) = [r for r in schedule.everything(connection) if r["job"] == "sync"]
            return (row["next_at"] - dt.datetime.now(dt.UTC)).total_seconds()

    with desk.database.writer() as connection:
        schedule.put(connection, desk.source.id, Job.SYNC, Times(every=10))
    waits: list[float] = []
    for _ in range(4):
        with desk.database.writer() as connection:
            sources.finish(connection, run, error="down")
        waits.append(seconds())
    assert waits[3] > 4 * waits[0]
    with desk.database.writer() as connection:
        sources.finish(connection, run)
        assert [r["failures"] for r in schedule.everything(connection) if r["job"] == "sync"] == [0]


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
        conversations.feedback(connection, message, verdict="up")
        conversations.audit(connection, actor="ada", action="ask", object=str(talk))
    with desk.database.reader(Principal("ada"), Audience.INTERNAL) as connection:
        assert [t.content for t in conversations.turns(connection, talk)] == ["Is it so?", "It is so [1]."]
        assert conversations.listing(connection)[0]["messages"] == 2
        assert len(connection.execute("select from citation").fetchall()) == 1
    with desk.database.reader(Principal("eve"), Audience.INTERNAL) as connection:
        assert conversations.turns(connection, talk) == []
        assert conversations.listing(connection) == []
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
