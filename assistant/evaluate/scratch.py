"""A corpus that is measured gets a database of its own, filled by the real sync and ingest.

The database is named for the corpus, the embedding space and the schema, and
kept: a second run finds everything indexed. Where only the code that makes
chunks has changed, documents are indexed again and only new texts embedded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from pydantic import SecretStr

import migrations.versions
from assistant import ingest, servers
from assistant.app import Assistant
from assistant.errors import ConfigError
from assistant.evaluate import beir
from assistant.ingest.embed import Embedder
from assistant.model import Access, Batch, Kind, Part, SourceDocument, Upsert
from assistant.store import documents, sources
from assistant.store.db import Conn, Database
from assistant.store.schedule import Job
from assistant.store.sources import Source
from assistant.store.sync import commit_batch
from connectors.base import BATCH_SIZE

MARK = "_eval_"
SOURCE = "corpus"

Progress = Callable[[str, int, int], None]
"""(step, done, total)"""


@contextmanager
def indexed(
    assistant: Assistant,
    folder: Path,
    *,
    embedder: Embedder | None = None,
    fresh: bool = False,
    progress: Progress,
) -> Generator[Assistant]:
    """An assistant whose only source is the corpus of `folder`, all of it indexed, by default with the live embedder.

    Stopping it on the way loses nothing: the next run goes on. `fresh` begins
    again. Raises `ConfigError` when the server grants no new database.
    """
    url = servers.database_url(assistant.settings)
    content = beir.fingerprint(folder)
    embedder = embedder or assistant.embedder
    name = _name(url, content, embedder)
    if fresh:
        drop(url, [name])
    _create(url, name)
    at = urlsplit(url)._replace(path=f"/{name}").geturl()
    scratch = Assistant(assistant.settings.model_copy(update={"database_url": SecretStr(at)}))
    scratch.embedders = assistant.embedders
    try:
        scratch.migrate(embedder)
        _fill(scratch, folder, f"{content}/{_code(ingest)}", progress)
        yield scratch
    finally:
        scratch.close()


def existing(url: str) -> list[str]:
    """Names of the scratch databases of the installation at `url`."""
    with psycopg.connect(url, connect_timeout=10) as connection:
        rows = connection.execute(
            "select datname from pg_database where starts_with(datname, %s) order by 1", (_prefix(url),)
        ).fetchall()
    return [str(row[0]) for row in rows]


def drop(url: str, names: Iterable[str]) -> None:
    """Drop these databases where they exist. Raises `ConfigError` when one is in use."""
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        for name in names:
            try:
                connection.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(name)))
            except psycopg.errors.ObjectInUse as error:
                raise ConfigError(
                    f"The database {name} is in use by another evaluation. It was kept; try again later."
                ) from error


def _prefix(url: str) -> str:
    return f"{urlsplit(url).path.strip('/')[:40]}{MARK}"


def _name(url: str, content: str, embedder: Embedder) -> str:
    # Not the schema's revision: while a migration is worked on, that stays.
    key = "/".join((content, embedder.name, embedder.revision, _code(migrations.versions)))
    return _prefix(url) + hashlib.sha256(key.encode()).hexdigest()[:16]


def _code(package: ModuleType) -> str:
    """A fingerprint of the source code of a package."""
    digest = hashlib.sha256()
    for file in sorted(Path(package.__path__[0]).glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _create(url: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        if connection.execute("select from pg_database where datname = %s", (name,)).fetchone():
            return
        try:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        except psycopg.errors.DuplicateDatabase:
            return
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigError(
                "The database user may not create the scratch database that an evaluation needs. Nothing was "
                "changed; give it CREATEDB, or evaluate a synced source with --corpus-source."
            ) from error


def _fill(scratch: Assistant, folder: Path, state: str, progress: Progress) -> None:
    with scratch.database.writer() as connection:
        source = _source(connection)
        run = sources.request(connection, source)
    if (source.checkpoint or {}).get("state") != state:
        _sync(scratch.database, source, run, folder, state, progress)
    _index(scratch, progress)
    with scratch.database.writer() as connection:
        sources.finish(connection, {"id": run, "source_id": source.id, "job": Job.SYNC})


def _source(connection: Conn) -> Source:
    if SOURCE not in {s.name for s in sources.everything(connection)}:
        # No connector reads it and no beat watches this database: batches come from here.
        sources.add(
            connection,
            name=SOURCE,
            connector="directory",
            realm=SOURCE,
            settings={},
            secrets=None,
            every_seconds=None,
        )
    return sources.get(connection, SOURCE)


def _sync(database: Database, source: Source, run: int, folder: Path, state: str, progress: Progress) -> None:
    total = sum(1 for _ in beir.corpus(folder))
    done = 0
    records = beir.corpus(folder)
    # Only the last batch says that all of it is there.
    while group := list(islice(records, BATCH_SIZE * 8)):
        done += len(group)
        checkpoint = {"state": state} if done == total else {}
        with database.writer() as connection:
            commit_batch(connection, source, run, Batch(tuple(_upserts(group, state)), checkpoint, total))
        progress("Sync", done, total)


def _upserts(records: Iterable[beir.Record], state: str) -> Iterator[Upsert]:
    for record in records:
        yield Upsert(
            SourceDocument(
                external_id=record.id,
                kind=Kind.DOCUMENT,
                title=record.title,
                body=(Part(record.text),),
                revision=state,
                access=Access.public(),
                created_at=beir.moment(record.metadata.get("created")),
                metadata=record.metadata,
            )
        )


def _index(scratch: Assistant, progress: Progress) -> None:
    with scratch.database.writer() as connection:
        waiting = documents.ready(connection)
    done = 0
    while waiting and (report := scratch.pipeline.run_batch()) is not None:
        done += report.documents + report.failed
        progress("Index", done, max(waiting, done))
    if waiting:
        with scratch.database.writer() as connection:
            documents.refresh_statistics(connection)
        with scratch.database.connect("deskhand_owner") as connection:
            connection.execute("analyze chunk, document")
