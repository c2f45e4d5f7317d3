"""The fixtures other tests build on: a database a test, with the schema, and nothing of another test."""

from __future__ import annotations

import time

import psycopg
import pytest
import redis
from celery import Celery

from assistant import servers
from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.runtime.up import running


@pytest.mark.parametrize("run", [1, 2])
def test_each_test_has_its_own_database(database_url: str, run: int) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("create table mine (run int)")
        assert connection.execute("select to_regclass('deskhand.alembic_version')").fetchone() != (None,)


def test_database_is_utf8_with_a_stable_collation_and_pgvector(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("create extension vector")
        row = connection.execute(
            "select lower('ÄÉ'), datlocprovider, pg_encoding_to_char(encoding), "
            "current_setting('data_checksums'), extversion from pg_database, pg_extension "
            "where datname = current_database() and extname = 'vector'"
        ).fetchone()
    assert row is not None
    assert row[:4] == ("äé", "b", "UTF8", "on")
    assert tuple(int(n) for n in row[4].split(".")) >= (0, 8)


def test_statements_and_details_are_not_logged(embedded: Settings, empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("create table people (mail text primary key)")
        connection.execute("insert into people values ('private-person@example.org')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("insert into people values ('private-person@example.org')")
    log = (embedded.state / "logs/postgres.log").read_text()
    assert "duplicate key" in log
    assert "private-person" not in log


def test_redis_and_celery_speak_to_valkey_over_its_socket(settings: Settings) -> None:
    with redis.Redis.from_url(servers.redis_url(settings)) as client:
        client.set("key", "value")
        assert client.get("key") == b"value"
    url = servers.broker_url(settings)
    assert url.startswith("redis+socket://")
    app = Celery(broker=url, backend=url)
    sent = app.send_task("nobody.listens", queue="trial")
    with app.connection_for_read() as connection:
        message = connection.default_channel.basic_get("trial", no_ack=True)
    assert message.headers["id"] == sent.id
    app.backend.store_result(sent.id, {"done": True}, "SUCCESS")
    assert app.AsyncResult(sent.id).get(timeout=5) == {"done": True}
    app.close()


def test_a_second_run_on_the_same_folder_is_refused(embedded: Settings) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match="already runs"), running(embedded):
        pass
    assert time.monotonic() - began < 5
