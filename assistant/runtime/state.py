"""The state folder: everything an installation keeps, in one place that can be backed up.

lock            held by the one `up` that may run on this folder
status.json     what the supervisor runs, for `deskhand status` and for the next `up`
postgres.json   where the embedded database listens, with its password (0600)
valkey.json     the same for the broker (0600)
postgres/       the database; elsewhere when `postgres.place` says so
valkey/         the broker's append-only file
logs/           one file a process, the older half as `.1`
models/         weights
secret.key      encrypts the secrets of sources (0600)
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from assistant.errors import ConfigError
from assistant.servers import write_small

SOCKET_PATH_BYTES = 107
"""longest path of a Unix socket on Linux; 103 on macOS, whose temporary folders are short enough"""


class State:
    """The state folder's paths. Raises `ConfigError` when it cannot be made or written to."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        # Root's database runs as another user, who must be able to pass through to it.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        try:
            self.root.mkdir(mode=mode, parents=True, exist_ok=True)
            (self.root / "logs").mkdir(mode=0o700, exist_ok=True)
            tempfile.TemporaryFile(dir=self.root).close()
        except OSError as error:
            raise ConfigError(
                f"The state folder {self.root} cannot be used by this user: {error.strerror}. Nothing was "
                "started. Mend its permissions, or name another with DESKHAND_STATE."
            ) from error

    @property
    def key(self) -> str:
        """Short, and never the same for two state folders or two users: names things outside of them."""
        return f"{os.geteuid()}-{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]}"

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the folder for this process. Raises `ConfigError` while another one holds it.

        The kernel drops the lock with the process, however that ends.
        """
        with (self.root / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise ConfigError(
                    f"Deskhand already runs on {self.root} (process {lock.read().strip() or 'unknown'}). "
                    "Nothing was changed. Stop that one first, or name another folder with DESKHAND_STATE."
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def secret(self, path: Path) -> str:
        """The random password kept in a file, made at the first call."""
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            write_small(path, secrets.token_urlsafe(24))
            return path.read_text(encoding="utf-8")

    def socket_folder(self, home: Path, socket: str, *, uid: int, reachable: Callable[[Path], bool]) -> Path:
        """A folder of `uid` alone whose path leaves room for `socket`: in `home`, else a temporary one.

        The temporary one is named for this state folder and user. Since anybody
        may create names there, one that is not ours is refused.
        """
        short = f"deskhand-{self.key}-{home.name}"
        temporary = [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108  that is what own_folder checks
        for folder in (home / "socket", *(base / short for base in temporary)):
            if len(os.fsencode(folder / socket)) <= SOCKET_PATH_BYTES and reachable(folder.parent):
                own_folder(folder, uid=uid)
                return folder
        raise ConfigError(
            f"The path {home} is too long for a socket, and so is the temporary folder's. Nothing was "
            "started. Name a shorter temporary folder with TMPDIR, or another state folder."
        )


def own_folder(folder: Path, *, uid: int) -> None:
    """Make a folder that only `uid` may enter, or check that it is one. Raises `ConfigError`."""
    try:
        folder.mkdir(mode=0o700)
        if uid != os.geteuid():
            os.chown(folder, uid, -1)
    except FileExistsError:
        found = folder.lstat()
        if found.st_uid == os.geteuid() != uid and stat.S_ISDIR(found.st_mode):
            os.chown(folder, uid, -1)  # an earlier start got no further than making it
            found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
            raise ConfigError(
                f"{folder} should be a folder that only user {uid} may enter, and is not. Nothing was "
                "started. Find out who made it, and remove it."
            ) from None
