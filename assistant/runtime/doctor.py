"""`deskhand doctor`: what an installation needs, checked one by one, each failure with its remedy."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from celery import Celery

from assistant import servers, weights
from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import DeskhandError
from assistant.runtime.supervisor import Phase, read_status
from assistant.runtime.up import BEAT, check_broker, check_database
from assistant.store import schema
from assistant.store.secrets import KEY_FILE

OLDEST_PYTHON = (3, 11)
FREE_BYTES = 2 * 1024**3
"""below this an embedding run or an index build may not find room"""
PING_SECONDS = 3.0
Subject = TypeVar("Subject")
UP = "Start it with `deskhand up`."


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. `remedy` is empty when all is well."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def diagnose(assistant: Assistant) -> Iterator[Check]:
    """The checks, each yielded as soon as it is done; they change nothing, and load no model a second time."""
    settings = assistant.settings
    checks: tuple[Callable[[Settings], Check], ...] = (
        _settings,
        _python,
        _state_folder,
        _key,
        _database,
        _pgvector,
        _schema,
        _broker,
        _processes,
        _workers,
        _models,
    )
    down: set[str] = set()
    for check in checks:
        yield _done(check, settings, down)
    for check in (_embedder, _generator):
        yield _done(check, assistant, down)


def _done(check: Callable[[Subject], Check], subject: Subject, down: set[str]) -> Check:
    """What a check says, or what hindered it; `down`: what was said to hinder others."""
    name = check.__name__.removeprefix("_").replace("_", " ")
    try:
        return check(subject)
    except DeskhandError as error:
        told = str(error) in down
        down.add(str(error))
        detail = "can't be looked at, for a reason given above" if told else str(error)
        return Check(name, False, detail, "Mend that, then run `deskhand doctor` again.")
    except Exception as error:  # a check that breaks must not hide the others
        detail = f"{type(error).__name__}: {error}"
        return Check(name, False, detail, "This is unexpected: see the logs in the state folder.")


def _settings(settings: Settings) -> Check:
    named = ", ".join(sorted(settings.model_fields_set))
    return Check("settings", True, f"understood; not at their defaults: {named or 'none'}")


def _python(_: Settings) -> Check:
    have = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, OLDEST_PYTHON))
    remedy = f"Install Python {wanted} or newer and make the environment again."
    return _check("python", sys.version_info >= OLDEST_PYTHON, have, remedy)


def _state_folder(settings: Settings) -> Check:
    folder = settings.state
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        remedy = "Mend its permissions, or name another folder with DESKHAND_STATE."
        return Check("state folder", False, f"{folder}: {error.strerror}", remedy)
    free = shutil.disk_usage(existing).free
    detail = f"{folder}, {free / 1024**3:.1f} GB free"
    return _check("state folder", free > FREE_BYTES, detail, "Free some space: 2 GB should be left.")


def _key(settings: Settings) -> Check:
    if settings.key:
        return Check("key", True, "set in the configuration")
    path = settings.state / KEY_FILE
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return Check("key", True, "none yet; made with the first source that has a secret")
    ok = not mode & 0o077 and os.access(path, os.R_OK)
    return _check("key", ok, f"{path}, mode {mode:04o}", f"Run `chmod 600 {path}` as its owner.")


def _database(settings: Settings) -> Check:
    version = check_database(servers.database_url(settings))
    where = "DESKHAND_DATABASE_URL" if settings.database_url else "embedded"
    return Check("database", True, f"PostgreSQL {version}, {where}")


def _pgvector(settings: Settings) -> Check:
    with psycopg.connect(servers.database_url(settings), connect_timeout=5) as connection:
        row = connection.execute(
            "select coalesce(max(installed_version), max(default_version)) from pg_available_extensions "
            "where name = 'vector'"
        ).fetchone()
    version = str(row[0]) if row and row[0] else ""
    wanted = ".".join(map(str, schema.MINIMUM_PGVECTOR))
    ok = bool(version) and tuple(int(n) for n in version.split(".")[:2]) >= schema.MINIMUM_PGVECTOR
    remedy = f"Install pgvector {wanted} or newer on the database's server."
    return _check("pgvector", ok, version or "not installed", remedy)


def _schema(settings: Settings) -> Check:
    have, wanted = schema.current(servers.database_url(settings)), schema.head()
    return _check("schema", have == wanted, have or "not there", "Run `deskhand migrate`.")


def _broker(settings: Settings) -> Check:
    version = check_broker(servers.redis_url(settings))
    where = "DESKHAND_REDIS_URL" if settings.redis_url else "embedded"
    return Check("broker", True, f"Redis protocol {version}, {where}")


def _processes(settings: Settings) -> Check:
    status = read_status(settings.state)
    if status is None or not status.alive:
        return Check("processes", False, "no `deskhand up` runs on this state folder", UP)
    down = [entry for entry in status.processes if entry.state != Phase.RUNNING]
    detail = ", ".join(f"{entry.name} {entry.state}" for entry in status.processes)
    if BEAT not in {entry.name for entry in status.processes}:
        return Check("processes", False, f"{detail}; no {BEAT}: nothing is synchronised by itself", UP)
    names = ", ".join(str(settings.state / "logs" / f"{entry.name}.log") for entry in down)
    return _check("processes", not down, detail, f"Read {names}.")


def _workers(settings: Settings) -> Check:
    with Celery(broker=servers.broker_url(settings)) as app:
        answers = app.control.ping(timeout=PING_SECONDS) or []
    names = sorted(name for answer in answers for name in answer)
    return _check("workers", bool(names), ", ".join(names) or "none answers", UP)


def _models(settings: Settings) -> Check:
    states = {name: weights.check(name, settings) for name in weights.needed(settings)}
    bad = " ".join(name for name, state in states.items() if state is not weights.State.PRESENT)
    detail = ", ".join(f"{name} {state.value}" for name, state in states.items())
    return _check("models", not bad, detail, f"Run `deskhand models pull {bad}`.")


def _embedder(assistant: Assistant) -> Check:
    return Check("embedder", True, f"{assistant.embedder.name} loads")


def _generator(assistant: Assistant) -> Check:
    from assistant.generate import base

    name = base.name(assistant.generator)
    return Check("generator", True, f"{assistant.settings.generator} loads: {name} answers")


def _check(name: str, ok: bool, detail: str, remedy: str) -> Check:
    return Check(name, ok, detail, "" if ok else remedy)
