"""A real Redmine (Debian's package) on SQLite and WEBrick, on a free port of loopback, in a folder of its own.

Making the database takes most of a minute, so it is made once per machine and copied.
The database can be set back to a state it had, under the running server.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

INSTALLED = Path("/usr/share/redmine")
RUBY = r"""
Setting.rest_api_enabled = '1'
Setting.issue_group_assignment = '1'
Setting.notified_events = []
Setting.login_required = '0'
Setting.attachment_max_size = '102400'
ActionMailer::Base.perform_deliveries = false
admin = User.find_by_login('admin')
admin.password = admin.password_confirmation = 'admin-password'
admin.must_change_passwd = false
admin.save!
puts "key=#{admin.api_key}"
"""
START_SECONDS, MAKE_SECONDS = 170, 600


def _make(app: Path) -> None:
    """Redmine's code in `app`, with a database that holds its default data."""
    shutil.copytree(INSTALLED, app, symlinks=True)
    for name in ("Gemfile.lock", "instances", "config/database.yml"):
        (app / name).unlink(missing_ok=True)
    for name in ("tmp", "log", "files", "public/plugin_assets", "instances/default/config"):
        (app / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "log", "files"):
        (app / "instances/default" / name).mkdir(parents=True, exist_ok=True)
    (app / "instances/default/config/secret_key.txt").write_text(secrets.token_hex(48))
    (app / "config/additional_environment.rb").write_text("config.log_level = :fatal\n")
    (app / "Gemfile.local").write_text('gem "webrick"\n')
    _place(app)
    log = app.parent / "make.log"
    with log.open("w") as output:
        for command in (("bin/rake", "db:migrate"), ("bin/rake", "redmine:load_default_data")):
            subprocess.run(("ruby", *command), cwd=app, env=_environment(app), check=True,
                           timeout=MAKE_SECONDS, stdout=output, stderr=output)  # fmt: skip
    answer = subprocess.run(
        ("ruby", "bin/rails", "runner", RUBY), cwd=app, env=_environment(app), check=True,
        timeout=MAKE_SECONDS, capture_output=True, text=True,
    )  # fmt: skip
    key = next(line for line in answer.stdout.splitlines() if line.startswith("key="))
    (app / "key.txt").write_text(key.removeprefix("key="))


def _place(app: Path) -> None:
    """Tell the code where it lies, and that its database lies beside it."""
    config = f"production:\n  adapter: sqlite3\n  timeout: 20000\n  database: {app}/redmine.sqlite3\n"
    (app / "config/database.yml").write_text(config)
    (app / "instances/default/config/database.yml").write_text(config)
    gemfile = (INSTALLED / "Gemfile").read_text()
    (app / "Gemfile").write_text(gemfile.replace(str(INSTALLED), str(app)))


def _environment(app: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "TMPDIR")}
    return {**kept, "HOME": str(app), "RAILS_ENV": "production", "REDMINE_LANG": "en", "LANG": "C.UTF-8"}


def _template() -> Path:
    """The folder of a Redmine to copy, made if this machine has none yet."""
    version = hashlib.sha256(RUBY.encode() + (INSTALLED / "lib/redmine/version.rb").read_bytes())
    place = Path(tempfile.gettempdir()) / f"deskhand-redmine-{os.getuid()}-{version.hexdigest()[:12]}"
    place.mkdir(mode=0o700, exist_ok=True)
    if place.stat().st_uid != os.getuid():
        raise RuntimeError(f"{place} belongs to somebody else")
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "app/key.txt").exists():
            shutil.rmtree(place / "app", ignore_errors=True)
            _make(place / "app")
    return place / "app"


class Redmine:
    """A running server and its administrator."""

    def __init__(self, folder: Path) -> None:
        self.app = folder / "redmine"
        shutil.copytree(_template(), self.app, symlinks=True)
        _place(self.app)
        self.key = (self.app / "key.txt").read_text()
        self.database = self.app / "redmine.sqlite3"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = self.app / "server.out"
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                # It dies with its tests, however these end.
                ("setpriv", "--pdeathsig", "KILL", "ruby", "bin/rails", "server", "-u", "webrick",
                 "-b", "127.0.0.1", "-p", str(self.port)),
                cwd=self.app, env=_environment(self.app), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self.client = httpx.Client(
            base_url=self.url, headers={"X-Redmine-API-Key": self.key}, timeout=60, trust_env=False
        )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(httpx.TransportError):
                self.client.get("/users/current.json").raise_for_status()
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.2)
        raise RuntimeError(f"Redmine did not start:\n{self._log.read_text()[-3000:]}")

    def stop(self) -> None:
        self.client.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, user: str = "") -> Any:
        """The answer's JSON; as the person with that login, if given."""
        headers = {"X-Redmine-Switch-User": user} if user else {}
        answer = self.client.request(method, path, json=body, headers=headers)
        if not answer.is_success:
            raise RuntimeError(f"{method} {path}: HTTP {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content.strip() else None

    def status(self, path: str, *, user: str) -> httpx.Response:
        """What the person with that login is answered."""
        return self.client.get(path, headers={"X-Redmine-Switch-User": user})

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """For what Redmine's API can't do."""
        with contextlib.closing(sqlite3.connect(self.database, timeout=20)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def save(self, place: Path) -> None:
        """Copy the database as it is."""
        with (
            contextlib.closing(sqlite3.connect(self.database, timeout=20)) as live,
            contextlib.closing(sqlite3.connect(place)) as copy,
        ):
            live.backup(copy)

    def restore(self, place: Path) -> None:
        """Put a copy in the place of the database, under the running server."""
        with (
            contextlib.closing(sqlite3.connect(place)) as copy,
            contextlib.closing(sqlite3.connect(self.database, timeout=20)) as live,
        ):
            copy.backup(live)


@contextlib.contextmanager
def redmine(folder: Path) -> Iterator[Redmine]:
    server = Redmine(folder)
    try:
        yield server
    finally:
        server.stop()
