"""Where the database and the message broker are: what the settings name, else the embedded ones.

The embedded servers write here where they listen; everybody else reads it
here. That keeps the store and the workers free of the code that runs servers.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from assistant.config import Settings
from assistant.errors import NotRunning

DATABASE = "postgres"
BROKER = "valkey"
PROBE_SECONDS = 2.0
TEXTS = ("deskhand:answer:*", "deskhand:file:*")
"""keys of the broker under which people's texts are: answers in the making, files beside a question"""
REWRITE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Embedded:
    """One embedded server: its URL, with its password, and the Unix socket it listens on."""

    url: str
    socket: str


def database_url(settings: Settings) -> str:
    """A libpq URL. Raises `NotRunning` when the embedded PostgreSQL is meant and is down."""
    if settings.database_url:
        return settings.database_url.get_secret_value()
    return _embedded(settings, DATABASE, "database").url


def redis_url(settings: Settings) -> str:
    """A URL for redis-py. Raises `NotRunning` when the embedded Valkey is meant and is down."""
    if settings.redis_url:
        return settings.redis_url.get_secret_value()
    return _embedded(settings, BROKER, "message broker").url


def broker_url(settings: Settings) -> str:
    """The same server for Celery, whose name for a Unix socket's URL is another. Raises `NotRunning`."""
    url = redis_url(settings)
    if not url.startswith("unix://"):
        return url
    parts = urlsplit(url)
    return f"redis+socket://{parts.netloc}{parts.path}?{urlencode({'virtual_host': 0})}"


def forget_texts(settings: Settings) -> str:
    """Take people's texts out of the broker, and out of the file that it keeps; empty, or why that was not possible."""
    import redis

    try:
        with redis.Redis.from_url(redis_url(settings), socket_timeout=5) as broker:
            for pattern in TEXTS:
                for key in broker.scan_iter(pattern, count=1000):
                    broker.delete(key)
            # Its file is only ever appended to: what was deleted stays there until it is written anew.
            broker.bgrewriteaof()
            for _ in range(10 * REWRITE_SECONDS):
                state = broker.info("persistence")
                if not state["aof_rewrite_in_progress"] and not state.get("aof_rewrite_scheduled"):  # type: ignore[index] - a dict
                    return ""
                time.sleep(0.1)
            problem = "it still writes its file anew"
    except (redis.RedisError, NotRunning) as error:
        problem = str(error)
    return (
        f"The message broker could not be made to forget at once ({problem}). It does within the hour; its "
        "append-only file does with its next rewrite (BGREWRITEAOF)."
    )


def record(state: Path, name: str, server: Embedded) -> None:
    """Tell the other processes where an embedded server listens. Only the runtime calls this."""
    write_small(_file(state, name), json.dumps(asdict(server)))


def write_small(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace a small file in one step: a reader, or a crash, sees the old text or the new one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(handle, mode)
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _file(state: Path, name: str) -> Path:
    return state / f"{name}.json"


def _embedded(settings: Settings, name: str, what: str) -> Embedded:
    file = _file(settings.state, name)
    try:
        server = Embedded(**json.loads(file.read_text(encoding="utf-8")))
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(PROBE_SECONDS)
            probe.connect(server.socket)
    except PermissionError:
        raise NotRunning(
            f"Deskhand's {what} belongs to another user ({file}). Run this command as the user who "
            "runs `deskhand up`."
        ) from None
    except (OSError, ValueError, TypeError):
        raise NotRunning(
            f"Deskhand's {what} is not running (state folder {settings.state}). Nothing was lost; "
            "start it with `deskhand up`."
        ) from None
    return server
