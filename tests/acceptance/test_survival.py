"""Kill what runs in the middle of a first sync: the end state equals an undisturbed run's."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from assistant import servers
from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import NotRunning
from assistant.runtime.supervisor import read_status
from assistant.runtime.up import running, standard_processes
from assistant.store import documents, sources

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "assistant" / "sample"
NOTES = 260
LIMIT = 150.0
"""seconds for a sync of the corpus, kills and restarts included"""


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


class Installation:
    """A whole Deskhand in a folder of its own, as `deskhand up` runs it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def pid(self, name: str) -> int:
        status = read_status(self.settings.state)
        assert status is not None
        return next(p.pid for p in status.processes if p.name == name and p.pid)

    def kill(self, name: str) -> None:
        """kill -9 of the process alone, as the kernel's out-of-memory killer does it."""
        psutil.Process(self.pid(name)).kill()

    def kill_children(self, name: str) -> None:
        for child in psutil.Process(self.pid(name)).children():
            child.kill()

    @contextmanager
    def assistant(self) -> Generator[Assistant]:
        made = Assistant(self.settings)
        try:
            yield made
        finally:
            made.close()

    def indexed(self) -> int:
        try:
            with self.assistant() as assistant, assistant.database.writer() as connection:
                row = connection.execute("select count(*) as n from document where revision is not null")
                return int((row.fetchone() or {"n": 0})["n"])
        except NotRunning:
            return -1

    def add(self, corpus: Path) -> None:
        with self.assistant() as assistant, assistant.database.writer() as connection:
            for name, connector, settings in (
                ("files", "directory", {"path": str(corpus / "files"), "access": ["group:support"]}),
                (
                    "tickets",
                    "ticket-export",
                    {"path": str(SAMPLE / "tickets.jsonl"), "preset": "deskhand", "access": ["everyone"]},
                ),
            ):
                sources.add(
                    connection,
                    name=name,
                    connector=connector,
                    realm="acme",
                    settings=settings,
                    secrets=None,
                    every_seconds=3600,
                )

    def finished(self) -> bool:
        try:
            with self.assistant() as assistant, assistant.database.writer() as connection:
                rows = sources.overview(connection)
                return (
                    all(row["run_state"] == "done" for row in rows)
                    and documents.ready(connection) == 0
                    and all(row["pending"] == 0 for row in rows)
                )
        except NotRunning:
            return False

    def state(self) -> dict[object, dict[str, object]]:
        """Everything that a sync leaves, without what depends on when it ran, by document and chunk."""
        with self.assistant() as assistant, assistant.database.writer() as connection:
            rows = connection.execute(
                "select s.name, d.external_id, d.revision, d.title, d.acl, k.ordinal, k.text, k.audience, "
                "k.hash, k.embedding::text as embedding, k.weights::text as weights, t.status, c.external_id as cu "
                "from document d join source s on s.id = d.source_id left join chunk k on k.document_id = d.id "
                "left join ticket t on t.document_id = d.id left join customer c on c.id = d.customer_id"
            ).fetchall()
            failed = connection.execute("select external_id, stage, reason from failure").fetchall()
        state: dict[object, dict[str, object]] = {
            (row["name"], row["external_id"], row["ordinal"]): row for row in rows
        }
        assert len(state) == len(rows), "no chunk twice"
        return state | {("failure", row["external_id"]): row for row in failed}


def differences(
    one: dict[object, dict[str, object]], two: dict[object, dict[str, object]]
) -> list[tuple[object, list[str]]]:
    """What stands in only one of two states, or the columns that differ."""
    found: list[tuple[object, list[str]]] = [(key, ["absent"]) for key in one.keys() ^ two.keys()]
    for key in one.keys() & two.keys():
        columns = [name for name, value in one[key].items() if two[key][name] != value]
        if columns:
            found.append((key, columns))
    return found


@contextmanager
def installation(folder: Path, models: Path) -> Generator[Installation]:
    settings = Settings(state=folder, models=models, generator="echo")
    made = Installation(settings)

    def migrate(_url: str) -> None:
        with made.assistant() as assistant:
            assistant.migrate()

    with running(settings, migrate=migrate, processes=standard_processes(settings)):
        yield made


def wait(condition: Callable[[], bool], *, what: str, seconds: float = LIMIT) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen within {seconds} s"
        time.sleep(0.2)


@pytest.mark.timeout(420)
def test_kills_in_the_middle_change_nothing(corpus: Path, folder: Path, embedded: Settings) -> None:
    models = embedded.models_folder
    with installation(folder / "calm", models) as calm:
        calm.add(corpus)
        wait(calm.finished, what="the undisturbed sync")
        expected = calm.state()
    with installation(folder / "stormy", models) as stormy:
        stormy.add(corpus)
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
