"""Kill what runs in the middle of a first sync: the end state equals an undisturbed run's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from assistant import servers
from assistant.config import Settings
from tests.installation import Installation, differences, installation, wait

SAMPLE = Path(__file__).parents[2] / "assistant" / "sample"
NOTES = 260


@pytest.fixture(scope="module")
def corpus() -> Iterator[Path]:
    """The sample's files and many small notes: enough batches for a kill to fall between them."""
    folder = Path(tempfile.mkdtemp(prefix="deskhand-corpus-"))
    shutil.copytree(SAMPLE / "files", folder / "files")
    (folder / "files" / "notes").mkdir()
    for number in range(NOTES):
        note = f"# Note {number}\n\nShelf {number * 37 % 101} holds cable type C{number}.\n"
        (folder / "files" / "notes" / f"{number:03}.md").write_text(note)
    yield folder
    shutil.rmtree(folder)


def add_sources(desk: Installation, corpus: Path) -> None:
    desk.add("files", "directory", {"path": str(corpus / "files"), "access": ["group:support"]})
    tickets = {"path": str(SAMPLE / "tickets.jsonl"), "preset": "deskhand", "access": ["everyone"]}
    desk.add("tickets", "ticket-export", tickets)


@pytest.mark.timeout(420)
def test_kills_in_the_middle_change_nothing(corpus: Path, folder: Path, embedded: Settings) -> None:
    models = embedded.models_folder
    with installation(folder / "calm", models) as calm:
        add_sources(calm, corpus)
        wait(calm.finished, what="the undisturbed sync")
        expected = calm.state()
    with installation(folder / "stormy", models) as stormy:
        add_sources(stormy, corpus)
        blows: list[tuple[int, Callable[[], None]]] = [
            (20, lambda: stormy.kill_children("ingest")),
            (70, lambda: stormy.kill("ingest")),
            (130, lambda: stormy.kill("valkey")),
            (190, lambda: stormy.kill("postgres")),
            (260, lambda: stormy.kill("sync")),
            (320, lambda: stormy.kill("beat")),
        ]
        for documents_indexed, blow in blows:
            wait(lambda n=documents_indexed: stormy.indexed() >= n, what=f"{documents_indexed} documents")
            blow()
        wait(stormy.finished, what="the sync after six kills")
        assert differences(stormy.state(), expected) == []
        assert len(expected) > 500
        url = servers.database_url(stormy.settings)
    assert not any(url in " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
