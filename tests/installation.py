"""A whole Deskhand in a folder of its own, as `deskhand up` runs it, to be used and abused by tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import NotRunning
from assistant.runtime.supervisor import read_status
from assistant.runtime.up import running, standard_processes
from assistant.store import documents, sources

LIMIT = 150.0
"""seconds to wait for something by default"""

REALM = "acme"

State = dict[object, dict[str, object]]


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

    def add(self, name: str, connector: str, settings: Mapping[str, Any], *, every: int = 86_400) -> None:
        with self.assistant() as assistant, assistant.database.writer() as connection:
            sources.add(
                connection,
                name=name,
                connector=connector,
                realm=REALM,
                settings=settings,
                secrets=None,
                every_seconds=every,
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

    def state(self) -> State:
        """Everything that a sync leaves, without what depends on when it ran, by document and chunk."""
        with self.assistant() as assistant, assistant.database.writer() as connection:
            rows = connection.execute(
                "select s.name, d.external_id, d.revision, d.title, d.acl, k.ordinal, k.text, k.audience, "
                "k.hash, md5(k.embedding_1::text) as embedding, md5(k.weights::text) as weights, "
                "t.status, c.external_id as customer "
                "from document d join source s on s.id = d.source_id left join chunk k on k.document_id = d.id "
                "left join ticket t on t.document_id = d.id left join customer c on c.id = d.customer_id"
            ).fetchall()
            failed = connection.execute("select external_id, stage, reason from failure").fetchall()
        state: State = {(row["name"], row["external_id"], row["ordinal"]): row for row in rows}
        assert len(state) == len(rows), "no chunk twice"
        return state | {("failure", row["external_id"]): row for row in failed}


def differences(one: State, two: State) -> list[tuple[object, list[str]]]:
    """What stands in only one of two states, or the columns that differ."""
    found: list[tuple[object, list[str]]] = [(key, ["absent"]) for key in one.keys() ^ two.keys()]
    for key in one.keys() & two.keys():
        columns = [name for name, value in one[key].items() if two[key][name] != value]
        if columns:
            found.append((key, columns))
    return found


@contextmanager
def installation(folder: Path, models: Path, *, working: bool = True) -> Generator[Installation]:
    """The installation in `folder`, made where there is none; without `working` only its servers run."""
    settings = Settings(state=folder, models=models, generator="echo")
    made = Installation(settings)

    def migrate(_url: str) -> None:
        with made.assistant() as assistant:
            assistant.migrate()

    with running(settings, migrate=migrate, processes=standard_processes(settings) if working else ()):
        yield made


def wait(condition: Callable[[], bool], *, what: str, seconds: float = LIMIT) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen within {seconds} s"
        time.sleep(0.2)
