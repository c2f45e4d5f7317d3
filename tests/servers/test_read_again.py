"""Reading again what could not be read: what is due when, and the worker that does it, against a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from assistant.errors import ItemError, SourceBusy
from assistant.model import Batch, Change, Delete, Failed, Upsert
from assistant.store import failures, sources, sync
from assistant.store.schedule import Job
from connectors.base import Connector
from tests.servers.desk import Desk, document


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("DESKHAND_REDIS_URL", "redis://127.0.0.1:1/0")  # an address is enough to be imported
    from workers import sync as module

    return module


class Tickets(Connector):
    """Tells of no change, and what comes of the items it is asked for."""

    def __init__(self, settings: Any = None, **found: Change) -> None:
        self.found = found
        self.asked: list[list[str]] = []
        self.synced: list[Any] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def check(self) -> str:
        return ""

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        self.synced.append(checkpoint)
        return iter(())

    def inventory(self) -> Iterator[str]:
        return iter(())

    def read(self, ids: Collection[str]) -> Iterator[Change]:
        self.asked.append(list(ids))
        self.meanwhile()
        yield from (self.found[name] for name in ids if name in self.found)


@pytest.fixture
def carry(
    desk: Desk, worker: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, object]]:
    """Carry one waiting run as a worker does; its row afterwards."""

    def turn(connector: Connector, job: Job = Job.SYNC) -> dict[str, object]:
        here = SimpleNamespace(database=desk.database, fingerprint=None, connector=lambda _source: connector)
        monkeypatch.setattr(worker, "assistant", lambda: here)
        assert worker._turn((job,)), "a run was waiting"
        return desk.rows("select * from sync_run where job = %s order by id desc limit 1", job.value)[0]

    return turn


Carry = Callable[..., dict[str, object]]


def due(desk: Desk) -> list[str]:
    with desk.database.writer() as connection:
        return failures.due(connection, desk.source, limit=100)


def ids(desk: Desk) -> list[int]:
    with desk.database.writer() as connection:
        return [row["id"] for row in failures.listing(connection)]


def ask(desk: Desk) -> int:
    with desk.database.writer() as connection:
        return failures.retry(connection, ids(desk))


def attempts(desk: Desk) -> dict[str, int]:
    rows = desk.rows("select external_id, attempts from failure")
    return {str(row["external_id"]): int(str(row["attempts"])) for row in rows}


# ── what is due ──────────────────────────────────────────────────────────────


def test_who_asks_for_a_retry_has_it_read_by_the_next_sync(desk: Desk, carry: Carry) -> None:
    desk.batch(Failed("a", "HTTP 500"), Failed("b", "HTTP 500"))
    assert carry(Tickets())["state"] == "done"
    assert due(desk) == []
    assert ask(desk) == 2
    assert due(desk) == ["a", "b"]
    assert desk.rows("select job from sync_run where state = 'queued'") == [{"job": "sync"}]


def test_a_scheduled_retry_asks_ever_less_often_and_not_for_ever(desk: Desk, carry: Carry) -> None:
    desk.batch(*(Failed(name, "HTTP 500") for name in ("fresh", "third", "tenth", "hopeless")))
    desk.rows("update failure set attempts = 3 where external_id = 'third' returning 1")
    desk.rows("update failure set attempts = 10 where external_id = 'tenth' returning 1")
    desk.rows("update failure set permanent = true where external_id = 'hopeless' returning 1")
    carry(Tickets())

    def retry(minutes: int) -> list[str]:
        desk.rows(
            "update failure set due = false, last_at = now() - make_interval(mins => %s) returning 1", minutes
        )
        with desk.database.writer() as connection:
            sources.request(connection, desk.source, job=Job.RETRY)
        assert carry(Tickets(), Job.RETRY)["state"] == "done"
        return due(desk)

    assert retry(1) == []
    assert desk.rows("select from sync_run where state = 'queued'") == [], "nothing to sync for"
    assert retry(3) == ["fresh"]
    assert desk.rows("select job from sync_run where state = 'queued'") == [{"job": "sync"}]
    assert retry(9) == ["fresh", "third"]
    assert retry(60 * 24 * 365) == ["fresh", "third"]
    assert ask(desk) == 4, "somebody who asks is not refused"


def test_what_failed_at_indexing_is_not_read_again(desk: Desk) -> None:
    with desk.database.writer() as connection:
        sync.fail(connection, desk.source.id, "attachment/1", "read", "HTTP 500", parent="t1")
    assert ask(desk) == 1
    with desk.database.writer() as connection:
        sync.fail(connection, desk.source.id, "attachment/1", "parse", "encrypted", 6)
    assert due(desk) == []
    assert ask(desk) == 0


def test_what_hangs_on_an_item_is_read_with_it_and_goes_with_it(desk: Desk) -> None:
    desk.batch(
        Failed("attachment/1", "HTTP 500", "t1"),
        Failed("attachment/2", "HTTP 500", "t1"),
        Failed("t1", "HTTP 500"),
        Failed("t2", "HTTP 500"),
    )
    ask(desk)
    assert due(desk) == ["t1", "t2"]
    desk.batch(Delete("t1"))
    assert set(attempts(desk)) == {"t2"}


def test_a_file_that_does_not_come_is_known_by_its_ticket(desk: Desk) -> None:
    def fetch() -> bytes:
        raise SourceBusy("HTTP 500")

    def refuse() -> bytes:
        raise ItemError("HTTP 404")

    stuck = replace(document("attachment/1", body=b""), fetch=fetch, parent="t1")
    refused = replace(document("attachment/2", body=b""), fetch=refuse, parent="t1")
    with desk.database.connect() as own:
        for _ in range(sync.FETCH_TRIES - 1):
            with pytest.raises(SourceBusy):
                sync.load(own, desk.source, Batch((Upsert(stuck),), {"at": 1}))
        assert ask(desk) == 1
        assert due(desk) == ["t1"]
        loaded = sync.load(own, desk.source, Batch((Upsert(stuck), Upsert(refused)), {"at": 1}))
    assert loaded.changes == (
        Failed("attachment/1", "HTTP 500", "t1"),
        Failed("attachment/2", "HTTP 404", "t1"),
    )


# ── the sync that reads it ───────────────────────────────────────────────────


def test_a_sync_reads_what_is_due_and_leaves_the_checkpoint_alone(desk: Desk, carry: Carry) -> None:
    desk.batch(
        *(Failed(name, "HTTP 500") for name in ("back", "gone", "still", "silent")), checkpoint={"at": 7}
    )
    ask(desk)
    tickets = Tickets(back=Upsert(document("back")), gone=Delete("gone"), still=Failed("still", "HTTP 502"))
    run = carry(tickets)
    assert (run["state"], run["added"], run["failed"]) == ("done", 1, 4 + 1)
    assert tickets.asked == [["back", "gone", "silent", "still"]]
    assert tickets.synced == [{"at": 7}]
    assert desk.rows("select checkpoint from source") == [{"checkpoint": {"at": 7}}]
    assert due(desk) == []
    assert attempts(desk) == {"back": 1, "still": 2, "silent": 1}
    desk.index()
    assert set(attempts(desk)) == {"still", "silent"}, "with its document indexed the failure goes"


def test_nothing_is_read_that_is_not_due(desk: Desk, carry: Carry) -> None:
    desk.batch(Failed("a", "HTTP 500"))
    tickets = Tickets()
    carry(tickets)
    assert tickets.asked == []


def test_before_the_first_checkpoint_everything_is_read_anyway(desk: Desk, carry: Carry) -> None:
    with desk.database.writer() as connection:
        sync.fail(connection, desk.source.id, "a", "read", "HTTP 500")
    ask(desk)
    tickets = Tickets()
    assert carry(tickets)["state"] == "done"
    assert (tickets.asked, tickets.synced) == ([], [None])
    assert desk.rows("select checkpoint from source") == [{"checkpoint": None}]


def test_what_is_due_does_not_keep_news_waiting(
    desk: Desk, carry: Carry, worker: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.batch(*(Failed(f"t{number:02}", "HTTP 500") for number in range(worker.AGAIN + 3)))
    ask(desk)
    monkeypatch.setattr(worker, "SLICE_SECONDS", 0.5)
    now = [0.0]
    monkeypatch.setattr(worker.time, "monotonic", lambda: now[0])
    tickets = Tickets()
    tickets.meanwhile = lambda: now.__setitem__(0, now[0] + 0.3)
    run = carry(tickets)
    assert (len(tickets.asked[0]), len(due(desk))) == (worker.AGAIN, 3)
    assert len(tickets.synced) == 1, "news are read in the same slice"
    assert run["state"] == "running", "there is more"
    assert carry(tickets)["state"] == "done"
    assert due(desk) == []


@pytest.mark.parametrize("at", ["while it is read", "after it was committed"])
def test_a_crash_between_loses_nothing(
    desk: Desk, carry: Carry, worker: ModuleType, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    desk.batch(Failed("a", "HTTP 500"), checkpoint={"at": 7})
    ask(desk)

    class Killed(BaseException):
        """As a signal, which nothing catches."""

    def die(*_: object) -> None:
        raise Killed

    tickets = Tickets(a=Upsert(document("a")))
    with monkeypatch.context() as crash, pytest.raises(Killed):
        if at == "while it is read":
            tickets.meanwhile = die
        else:
            crash.setattr(worker.failures, "was_read", die)
        carry(tickets)
    assert due(desk) == ["a"]
    tickets.meanwhile = lambda: None
    assert carry(tickets)["state"] == "done"
    assert due(desk) == []
    assert [row["external_id"] for row in desk.rows("select external_id from document")] == ["a"]
    assert desk.rows("select checkpoint from source") == [{"checkpoint": {"at": 7}}]


def test_a_source_that_is_away_is_asked_again_later(desk: Desk, carry: Carry) -> None:
    desk.batch(Failed("a", "HTTP 500"))
    ask(desk)

    def away() -> None:
        raise SourceBusy("HTTP 503")

    tickets = Tickets()
    tickets.meanwhile = away
    run = carry(tickets)
    assert (run["state"], run["error"]) == ("failed", "HTTP 503")
    assert due(desk) == ["a"]
    assert attempts(desk) == {"a": 1}, "that was no try of the item"
