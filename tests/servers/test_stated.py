"""What a file says of itself, from the share to a question as of a day."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.app import Assistant
from assistant.config import Settings
from assistant.model import Principal
from assistant.retrieve.scope import Scope
from assistant.store import sources
from assistant.store.search import Filters
from assistant.store.sync import commit_batch
from assistant.weights import State, check

COPIED = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
WRITTEN = dt.datetime(2024, 3, 2, tzinfo=dt.UTC)
FILES = {
    "dated.html": "<html><head><title>Port list</title><meta name='date' content='2024-03-02'></head>"
    "<body><h2>Sync</h2><p>The sync port is 7420.</p></body></html>",
    "undated.txt": "The sync port of the old version is 7400.",
}


class Share:
    """A share, its source, and what a worker does with them."""

    def __init__(self, assistant: Assistant, folder: Path) -> None:
        self.assistant = assistant
        self.folder = folder
        self.settings: dict[str, Any] = {"path": str(folder), "access": "everyone"}
        with assistant.database.writer() as connection:
            sources.add(
                connection,
                name="share",
                connector="directory",
                realm="desk",
                settings=self.settings,
                secrets=None,
                every_seconds=None,
            )

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        os.utime(self.folder / name, (COPIED.timestamp(), COPIED.timestamp()))

    def sync(self, *, afresh: bool = False) -> int:
        """Sync and index; returns how many chunks were embedded. `afresh` forgets the checkpoint."""
        with self.assistant.database.writer() as connection:
            source = sources.get(connection, "share")
            run = sources.request(connection, source)
            connector = self.assistant.connector(source)
            for batch in connector.sync(None if afresh else source.checkpoint):
                commit_batch(connection, source, run, batch)
            connector.close()
            connection.execute("update sync_run set state = 'done' where id = %s", (run,))
        embedded = 0
        while report := self.assistant.pipeline.run_batch():
            embedded += report.embedded
        return embedded

    def held(self) -> dict[str, tuple[str, dt.datetime, set[dt.datetime]]]:
        """Title and date of each document, and the dates of its chunks."""
        with self.assistant.database.writer() as connection:
            rows = connection.execute(
                "select d.external_id, d.title, d.created_at, array_agg(c.created_at) as chunks"
                " from document d join chunk c on c.document_id = d.id group by d.id"
            ).fetchall()
        return {r["external_id"]: (r["title"], r["created_at"], set(r["chunks"])) for r in rows}

    def found(self, before: dt.datetime) -> set[str]:
        passages = self.assistant.retriever.passages(
            "Which port does sync use?", Scope(Principal("x"), filters=Filters(before=before))
        )
        return {passage.external_id for passage in passages}


@pytest.fixture
def share(settings: Settings, tmp_path: Path) -> Iterator[Share]:
    if check(settings.embedder, settings) is not State.PRESENT:
        pytest.skip("the embedding model is not here: `deskhand models pull`")
    folder = tmp_path / "share"
    folder.mkdir()
    assistant = Assistant(settings)
    share = Share(assistant, folder)
    for name, text in FILES.items():
        share.write(name, text)
    yield share
    assistant.close()


DATED = ("Port list", WRITTEN, {WRITTEN})
UNDATED = ("undated", COPIED, {COPIED})


def test_a_question_as_of_a_day_sees_what_a_file_says_was_written_by_then(share: Share) -> None:
    assert share.sync() == 2
    assert share.held() == {"dated.html": DATED, "undated.txt": UNDATED}
    assert share.found(WRITTEN - dt.timedelta(days=1)) == set()
    assert share.found(WRITTEN + dt.timedelta(days=1)) == {"dated.html"}, "though it was copied later"
    assert share.found(COPIED) == {"dated.html", "undated.txt"}


def test_nothing_sets_an_unchanged_file_back_or_embeds_it_again(share: Share) -> None:
    share.sync()
    assert share.sync(afresh=True) == 0
    assert share.held()["dated.html"] == DATED
    with share.assistant.database.writer() as connection:
        # Other access under the same revision, as a source that was set up otherwise hands it over.
        connection.execute("update document set acl = '{desk/group:x}'")
    assert share.sync(afresh=True) == 0
    assert share.held() == {"dated.html": DATED, "undated.txt": UNDATED}


def test_a_changed_date_moves_the_chunks_without_embedding_them(share: Share) -> None:
    share.sync()
    later = dt.datetime(2025, 6, 7, tzinfo=dt.UTC)
    share.write("dated.html", FILES["dated.html"].replace("2024-03-02", "2025-06-07"))
    assert share.sync(afresh=True) == 0
    assert share.held()["dated.html"] == ("Port list", later, {later})
    share.write("dated.html", FILES["dated.html"].replace("<meta name='date' content='2024-03-02'>", ""))
    assert share.sync(afresh=True) == 0
    assert share.held()["dated.html"] == ("Port list", COPIED, {COPIED})


def test_another_title_of_its_own_is_embedded(share: Share) -> None:
    share.sync()
    share.write("dated.html", FILES["dated.html"].replace("Port list", "Ports"))
    assert share.sync(afresh=True) == 1
    assert share.held()["dated.html"] == ("Ports", WRITTEN, {WRITTEN})


def test_a_moved_file_keeps_the_title_it_states(share: Share) -> None:
    share.sync()
    for name in FILES:
        (share.folder / name).rename(share.folder / f"moved-{name}")
    assert share.sync() == 0
    assert share.held() == {
        "moved-dated.html": DATED,
        "moved-undated.txt": ("moved-undated", COPIED, {COPIED}),
    }
