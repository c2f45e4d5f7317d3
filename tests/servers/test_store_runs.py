"""Runs, schedules and the breaker of deletions, against a real PostgreSQL."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable

from assistant.model import (
    Delete,
    Upsert,
)
from assistant.store import (
    breaker,
    schedule,
    sources,
    sync,
)
from assistant.store.schedule import Job, Times
from tests.servers.desk import Desk, document


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


def test_a_source_starts_over_only_when_nobody_is_in_the_middle_of_it(desk: Desk) -> None:
    """A slice that began before would write its own checkpoint over the new beginning."""
    with desk.database.connect() as worker, desk.database.connect() as own:
        assert sources.carry(worker, desk.run) is not None
        thread = threading.Thread(target=sources.start_over, args=(own, desk.source))
        thread.start()
        for _ in range(600):
            if worker.execute("select from pg_locks where locktype = 'advisory' and not granted").fetchall():
                break
            threading.Event().wait(0.05)
        desk.batch(Upsert(document("a")), checkpoint={"at": 7})
        assert thread.is_alive()
        worker.execute("select pg_advisory_unlock_all()")
        thread.join(60)
    with desk.database.writer() as connection:
        assert sources.get(connection, "files").checkpoint is None
        assert sources.active(connection, desk.source.id) == [desk.run], "the same run reads it all"
