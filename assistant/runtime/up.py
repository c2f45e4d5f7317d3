"""Everything running: the embedded servers, the schema, and the processes that use them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from importlib.util import find_spec

import psycopg
import redis
from pydantic import SecretStr

from assistant import servers
from assistant.config import PREFIX, Settings
from assistant.errors import NotRunning
from assistant.runtime.postgres import Postgres
from assistant.runtime.process import Process
from assistant.runtime.state import State
from assistant.runtime.supervisor import Supervisor, stopping_on_signals
from assistant.runtime.valkey import Valkey

CONNECT_SECONDS = 5
SYNC, UPKEEP, INGEST, TICK, TUNE = "sync", "upkeep", "ingest", "tick", "tune"
"""the workers, named for the queues they work on"""
BEAT, WATCH = "beat", "watch"
SYNCS_AT_ONCE, UPKEEPS_AT_ONCE = 4, 2
CELERY = (sys.executable, "-m", "celery", "--app=workers.app")
TUNING = ("torch", "transformers", "peft", "trl")
"""packages of the extra `[tune]`"""


@contextmanager
def running(
    settings: Settings,
    *,
    migrate: Callable[[str], object] | None = None,
    processes: Iterable[Process] = (),
    fast: bool = False,
) -> Generator[Supervisor]:
    """Run the servers, then `migrate(database_url)`, then `processes`, while the body runs.

    A server that the settings name is used instead of the embedded one, and must
    answer. SIGINT and SIGTERM end the body with `KeyboardInterrupt`; all is
    stopped within 10 s, at once on a second signal. `fast` gives up what protects
    the embedded servers from a power cut: for tests only. Raises `ConfigError` and `NotRunning`.
    """
    state = State(settings.state)
    with state.locked():
        supervisor = Supervisor(state)
        with stopping_on_signals(supervisor):
            try:
                supervisor.clean()
                _start_servers(settings, state, supervisor, fast=fast)
                if migrate is not None:
                    migrate(servers.database_url(settings))
                for process in processes:
                    supervisor.start(process)
                yield supervisor
            finally:
                supervisor.stop()


def can_tune() -> bool:
    """Whether the extra `[tune]` is installed; imports nothing of it."""
    return all(find_spec(name) for name in TUNING)


def standard_processes(settings: Settings, *, tuning: bool | None = None) -> list[Process]:
    """What every installation runs; a surface adds its own.

    Reading sources waits for the network and indexing for the processor: with a
    worker each, neither holds the other up. Permissions and inventories have their own,
    so that a long import delays no revocation, and so has the tick that wakes them all.
    `tuning`: with one that trains models; by default where that is installed.
    """
    indexers = settings.worker_processes or min(os.cpu_count() or 1, 4)
    trainers = [_worker(TUNE, settings)] if (can_tune() if tuning is None else tuning) else []
    return [
        *trainers,
        _worker(SYNC, settings, concurrency=SYNCS_AT_ONCE),
        _worker(UPKEEP, settings, concurrency=UPKEEPS_AT_ONCE),
        _worker(INGEST, settings, concurrency=indexers),
        _worker(TICK, settings, pool="solo"),
        Process(name=WATCH, command=(sys.executable, "-m", "workers.watch"), env=environment(settings)),
        Process(name=BEAT, command=(*CELERY, "beat", "--pidfile="), env=environment(settings)),
    ]


def _worker(queue: str, settings: Settings, *, concurrency: int = 1, pool: str = "prefork") -> Process:
    options = (
        f"--queues={queue}",
        f"--hostname={queue}@%h",
        f"--concurrency={concurrency}",
        f"--pool={pool}",
    )
    return Process(
        name=queue,
        command=(*CELERY, "worker", *options, "--without-gossip", "--without-mingle"),
        env=environment(settings),
        # SIGTERM lets running tasks end, SIGQUIT leaves them for the next start
        stop_signals=(signal.SIGTERM, signal.SIGQUIT),
        stop_grace=3.0,
    )


def environment(settings: Settings) -> dict[str, str]:
    """An environment in which another process reads these very settings."""
    values = {name: getattr(settings, name) for name in settings.model_fields_set}
    plain = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in values.items()
        if value is not None
    }
    return dict(os.environ) | {PREFIX + name.upper(): str(value) for name, value in plain.items()}


def _start_servers(settings: Settings, state: State, supervisor: Supervisor, *, fast: bool) -> None:
    if settings.database_url:
        check_database(settings.database_url.get_secret_value())
    if settings.redis_url:
        check_broker(settings.redis_url.get_secret_value())
    if not settings.database_url:
        supervisor.start(Postgres(state, fast=fast).process())
    if not settings.redis_url:
        supervisor.start(Valkey(state, fast=fast).process())


def check_database(url: str) -> str:
    """Connect once; returns the server's version. Raises `NotRunning` saying what libpq said."""
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
            row = connection.execute("select current_setting('server_version')").fetchone()
            return str(row[0]) if row else ""
    except psycopg.Error as error:
        # what libpq says of a URL it cannot parse may quote a password
        reason = str(error) if isinstance(error, psycopg.OperationalError) else "its URL is not one"
        raise NotRunning(_unreachable("database", reason, "DESKHAND_DATABASE_URL")) from None


def check_broker(url: str) -> str:
    """Connect once; returns the server's version. Raises `NotRunning` with the reason."""
    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS
        ) as client:
            client.ping()
            return str(client.info("server").get("redis_version", ""))
    except (redis.RedisError, ValueError, OSError) as error:
        reason = str(error) if isinstance(error, redis.RedisError) else "its URL is not one"
        raise NotRunning(_unreachable("message broker", reason, "DESKHAND_REDIS_URL")) from None


def _unreachable(what: str, reason: str, variable: str) -> str:
    return (
        f"The {what} cannot be used: {' '.join(reason.split()).rstrip('.')}. Nothing was lost. "
        f"Check that it runs and that {variable} is right, or leave that unset to use the embedded one."
    )
