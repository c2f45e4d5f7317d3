"""What an admin does with a source and its accounts, each with its line in the trail.

The command line and the web do the same; `by` is who does it. All raise `ConfigError` for a
source that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence

from assistant.store import conversations, failures, principals, schedule, sources
from assistant.store.db import Conn
from assistant.store.schedule import Job, Times


def sync(connection: Conn, name: str, *, by: str, prune_all: bool = False) -> list[int]:
    """Read what changed, who may read it and what is gone, also of a paused source; ids of the runs.

    `prune_all`: what is missing is really gone, however much it is.
    """
    source = sources.get(connection, name)
    sources.resume(connection, source.id)
    action = "source.prune" if prune_all else "source.sync"
    conversations.audit(connection, actor=by, action=action, object=name)
    return sources.request_all(connection, source, prune_all=prune_all)


def permissions(connection: Conn, name: str, *, by: str) -> int:
    """Read who is who and who may read what; id of the run. A paused source stays paused."""
    run = sources.request(connection, sources.get(connection, name), job=Job.PERMISSIONS)
    conversations.audit(connection, actor=by, action="source.permissions", object=name)
    return run


def pause(connection: Conn, name: str, *, by: str) -> None:
    sources.pause(connection, sources.get(connection, name).id, "Paused by an admin.")
    conversations.audit(connection, actor=by, action="source.pause", object=name)


def resume(connection: Conn, name: str, *, by: str) -> list[int]:
    """Go on from where it was; ids of the runs."""
    source = sources.get(connection, name)
    sources.resume(connection, source.id)
    conversations.audit(connection, actor=by, action="source.resume", object=name)
    return sources.request_all(connection, source)


def every(connection: Conn, name: str, interval: str, *, by: str) -> None:
    """Sync it so often: an interval as `schedule.parse_every` takes it, or `never`."""
    source = sources.get(connection, name)
    seconds = schedule.parse_every(interval)
    if seconds is None:
        schedule.drop(connection, source.id, Job.SYNC)
    else:
        schedule.put(connection, source.id, Job.SYNC, Times(every=seconds))
    conversations.audit(connection, actor=by, action="source.schedule", object=f"{name} {Job.SYNC.value}")


def retry(connection: Conn, name: str, ids: Sequence[int] = (), *, by: str) -> int:
    """Try failed documents of a source again, all of them without `ids`; how many were queued."""
    source = sources.get(connection, name)
    there = [row["id"] for row in failures.listing(connection, source=name)]
    count = failures.retry(connection, [i for i in there if not ids or i in ids])
    conversations.audit(
        connection, actor=by, action="source.retry", object=source.name, detail={"queued": count}
    )
    return count


def take_for(connection: Conn, source: str, account: str, person: str | None, *, by: str) -> None:
    """Say whose account it is; None: believe the source again. Raises `ConfigError` when there is none such."""
    if person is None:
        principals.unfix(connection, source=source, account=account)
    else:
        principals.fix(connection, source=source, account=account, email=person)
    action = "people.unmap" if person is None else "people.map"
    conversations.audit(connection, actor=by, action=action, object=f"{source} {account}")
