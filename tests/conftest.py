"""Real servers for every test that needs them: one PostgreSQL and one Valkey a run, one database a test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from assistant import config, servers, weights
from assistant.config import Settings
from assistant.ingest.embed import EMBEDDERS, Embedder
from assistant.runtime.up import running
from assistant.store.db import Database
from assistant.weights import KNOWN
from tests.conformance.results import pytest_runtest_logreport as pytest_runtest_logreport
from tests.conformance.results import pytest_sessionfinish as pytest_sessionfinish

PROJECT = Path(__file__).parents[1]
collect_ignore = [] if find_spec("playwright") else ["browser", "slack"]
"""without the extra [browser], which `make test-browser` installs"""
TEMPLATE = "template_deskhand"
_numbers = itertools.count(1)


def _at(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A short path that the database's service user can pass through, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="deskhand-test-")).resolve()
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def loaded_once() -> Iterator[None]:
    """Hundreds of tests ask with the built-in embedder; to load it takes long, and nothing changes it."""
    name = Settings().embedder
    load, loaded = EMBEDDERS[name], dict[tuple[Path, int], Embedder]()

    def loaded_before(settings: Settings, threads: int) -> Embedder:
        key = weights.path(name, settings).resolve(), threads
        if key not in loaded:
            loaded[key] = load(settings, threads)
        return loaded[key]

    EMBEDDERS[name] = loaded_before
    yield
    EMBEDDERS[name] = load


@pytest.fixture(scope="session")
def embedded(folder: Path) -> Iterator[Settings]:
    """Settings of a state folder whose embedded servers run, without durability, to the end of the run."""
    models = os.environ.get("DESKHAND_MODELS")
    settings = Settings(
        state=folder / "state", models=Path(models) if models else PROJECT / ".deskhand/models"
    )
    with running(settings, fast=True):
        yield settings


@pytest.fixture(scope="session")
def template(embedded: Settings) -> str:
    """Name of a database with the schema, to be cloned: migrating once a run is enough."""
    from assistant.store import schema

    url = servers.database_url(embedded)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create database {TEMPLATE}")
    schema.migrate(_at(url, TEMPLATE))
    weights = KNOWN[embedded.embedder]
    schema.ensure_space(
        _at(url, TEMPLATE), name=weights.name, revision=weights.files[0].sha256, dimension=384
    )
    return TEMPLATE


@pytest.fixture
def empty_database_url(embedded: Settings) -> Iterator[str]:
    """URL of a database of this test's own, without the schema."""
    with cloned(embedded, "template0") as url:
        yield url


@pytest.fixture
def database_url(embedded: Settings, template: str) -> Iterator[str]:
    """URL of a database of this test's own, with the schema."""
    with cloned(embedded, template) as url:
        yield url


@contextmanager
def cloned(embedded: Settings, template: str) -> Generator[str]:
    """URL of a new database made of another, for as long as the context lasts."""
    url = servers.database_url(embedded)
    name = f"test_{next(_numbers)}"
    with psycopg.connect(url, autocommit=True) as connection:
        # Copied as files and not through the write-ahead log: 0.06 s of CPU and not 0.4.
        connection.execute(f"create database {name} template {template} strategy file_copy")
        yield _at(url, name)
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The same for the store's functions."""
    made = Database(database_url)
    yield made
    made.close()


@pytest.fixture
def redis_url(embedded: Settings) -> str:
    """URL, for redis-py, of an empty broker; `servers.broker_url(settings)` is Celery's."""
    url = servers.redis_url(embedded)
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def settings(embedded: Settings, database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings as a running installation has them, on this test's own database and folder."""
    return config.Settings(
        state=tmp_path / "state",
        models=embedded.models,
        database_url=database_url,
        redis_url=redis_url,
        generator="echo",
    )
