"""Roles, schema and migrations. Runs as the login user of the URL, who owns the database."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from assistant.errors import ConfigError, NotRunning
from assistant.store.db import explain
from assistant.store.spaces import Space, hnsw

ROLES = ("deskhand_owner", "deskhand_writer", "deskhand_reader")
MINIMUM_PGVECTOR = (0, 8)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """The newest revision this version of Deskhand knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(url: str) -> str:
    """The revision the database is at; empty before the first migration."""
    with psycopg.connect(url, connect_timeout=10) as connection:
        exists = connection.execute("select to_regclass('deskhand.alembic_version')").fetchone()
        if exists is None or exists[0] is None:
            return ""
        row = connection.execute("select version_num from deskhand.alembic_version").fetchone()
        return str(row[0]) if row else ""


def _prepare(connection: psycopg.Connection) -> None:
    """Roles belong to the server and outlive a database, so they are made only where missing."""
    for role in ROLES:
        name = sql.Identifier(role)
        if not connection.execute("select 1 from pg_roles where rolname = %s", (role,)).fetchone():
            connection.execute(sql.SQL("create role {} nologin").format(name))
        connection.execute(sql.SQL("grant {} to current_user with set true").format(name))
    connection.execute("create extension if not exists vector schema public")
    connection.execute("create extension if not exists pg_trgm schema public")
    row = connection.execute("select extversion from pg_extension where extname = 'vector'").fetchone()
    version = str(row[0]) if row else "0"
    if tuple(int(n) for n in version.split(".")[:2]) < MINIMUM_PGVECTOR:
        raise ConfigError(
            f"pgvector {version} is too old: Deskhand needs 0.8 or newer. Update the extension on the "
            "server (`alter extension vector update`) and run `deskhand migrate` again."
        )
    connection.execute("create schema if not exists deskhand authorization deskhand_owner")
    connection.execute("grant usage on schema deskhand to deskhand_writer, deskhand_reader")


def _alembic(url: str, revision: str, *, down: bool) -> None:
    def connect() -> psycopg.Connection:
        return psycopg.connect(
            url, options="-c role=deskhand_owner -c search_path=deskhand,public", connect_timeout=10
        )

    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    config = _config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)


def migrate(url: str, revision: str = "head") -> None:
    """Bring the database to `revision`; safe to run twice and by two processes at once.

    Raises `NotRunning` when the server is away, `ConfigError` when it is unsuitable.
    """
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            connection.execute("select pg_advisory_xact_lock(hashtext('deskhand.migrate'))")
            _prepare(connection)
            connection.commit()
            connection.execute("select pg_advisory_lock(hashtext('deskhand.migrate'))")
            _alembic(url, revision, down=False)
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigError(
            f"The database user may not prepare the database ({error.diag.message_primary}). Nothing was "
            "changed. Give it CREATEROLE and ownership of the database, and let an administrator run "
            "`create extension vector` and `create extension pg_trgm` in it once."
        ) from error
    except psycopg.errors.FeatureNotSupported as error:
        raise ConfigError(
            f"The database's server lacks an extension ({error.diag.message_primary}). Nothing was changed. Install "
            "pgvector, or PostgreSQL's own contrib package for pg_trgm, there and run `deskhand migrate` again."
        ) from error
    except psycopg.OperationalError as error:
        raise NotRunning(explain(error)) from error


def downgrade(url: str, revision: str = "base") -> None:
    _alembic(url, revision, down=True)


def ensure_space(url: str, *, name: str, revision: str, dimension: int) -> int:
    """Id of the embedding space, made live, with its index, if none is. Idempotent."""
    with psycopg.connect(
        url, options="-c role=deskhand_owner -c search_path=deskhand,public", connect_timeout=10
    ) as connection:
        connection.execute("select pg_advisory_xact_lock(hashtext('deskhand.space'))")
        connection.execute(
            "insert into embedding_space (name, revision, dimension, live, slot) select %(name)s, %(revision)s,"
            " %(dimension)s, n.first, case when n.first then 1 end"
            " from (select not exists (select from embedding_space where live) as first) n on conflict do nothing",
            {"name": name, "revision": revision, "dimension": dimension},
        )
        row = connection.execute(
            "select id, slot from embedding_space where (name, revision) = (%s, %s)", (name, revision)
        ).fetchone()
        if row is None:
            raise ConfigError(f"The embedding space {name} could not be registered.")
        space, slot = row
        if slot is not None:
            connection.execute(hnsw(Space(space, name, revision, dimension, slot)))
        return int(space)
