"""A source whose documents a test hands over itself, indexed as the workers do it."""

from __future__ import annotations

from collections.abc import Iterable

from assistant.app import Assistant
from assistant.model import Batch, Change
from assistant.store import sources, sync


def add_source(assistant: Assistant, name: str = "desk") -> None:
    with assistant.database.writer() as connection:
        sources.add(
            connection,
            name=name,
            connector="ticket-export",
            realm=name,
            settings={},
            secrets=None,
            every_seconds=None,
        )


def commit(assistant: Assistant, changes: Iterable[Change], *, source: str = "desk") -> None:
    """One batch, as a sync commits it."""
    with assistant.database.writer() as connection:
        origin = sources.get(connection, source)
        run = sources.request(connection, origin)
        batch = sync.load(connection, origin, Batch(tuple(changes), {"at": 1}), assistant.fingerprint)
        sync.commit_batch(connection, origin, run, batch, assistant.fingerprint)


def index(assistant: Assistant) -> None:
    """All that waits."""
    while assistant.pipeline.run_batch():
        pass
