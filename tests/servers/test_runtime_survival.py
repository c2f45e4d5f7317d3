"""What a crash, a kill or a Ctrl-C leaves: all the data, and a next start that goes on with them."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from assistant import servers
from assistant.config import Settings
from assistant.runtime.supervisor import ProcessStatus, read_status

PROJECT = Path(__file__).parents[2]
_numbers = itertools.count(1)
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class Installation:
    """A state folder and, while it runs, the process that runs it."""

    def __init__(self, state: Path) -> None:
        self.settings = Settings(state=state)
        self.popen: subprocess.Popen[str] | None = None

    def up(self, *extra: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.child", str(self.settings.state), *extra],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.popen.stdout is not None
        assert "ready\n" in iter(self.popen.stdout.readline, ""), "it did not start"

    def end(self, signum: signal.Signals) -> float:
        """Seconds until the process was gone."""
        assert self.popen is not None
        assert self.popen.stdout is not None
        began = time.monotonic()
        self.popen.send_signal(signum)
        self.popen.wait(timeout=30)
        self.popen.stdout.close()
        return time.monotonic() - began

    def process(self, name: str) -> ProcessStatus:
        status = read_status(self.settings.state)
        assert status is not None
        return next(entry for entry in status.processes if entry.name == name)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(servers.database_url(self.settings), autocommit=True)

    def fill(self) -> None:
        with self.connect() as connection:
            connection.execute("create table kept as select generate_series(1, 1000) as n")
        with redis.Redis.from_url(servers.redis_url(self.settings)) as client:
            client.set("kept", 1000)
        time.sleep(1.1)  # the broker flushes every second

    def contents(self) -> tuple[int, bytes | None]:
        with self.connect() as connection, redis.Redis.from_url(servers.redis_url(self.settings)) as client:
            row = connection.execute("select count(*) from kept").fetchone()
            assert row is not None
            return row[0], client.get("kept")


@pytest.fixture
def installation(folder: Path) -> Iterator[Installation]:
    made = Installation(folder / f"installation-{next(_numbers)}")
    yield made
    assert made.popen is not None
    if made.popen.poll() is None:
        made.end(signal.SIGTERM)
    shutil.rmtree(made.settings.state)


def eventually(check: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


@pytest.mark.parametrize("name", [servers.DATABASE, servers.BROKER])
def test_a_killed_server_is_started_again_with_its_data(installation: Installation, name: str) -> None:
    installation.up()
    installation.fill()
    before = installation.process(name)
    os.kill(before.pid, signal.SIGKILL)
    eventually(lambda: installation.process(name).restarts == 1)
    eventually(lambda: installation.process(name).state == "running")
    assert installation.process(name).pid != before.pid
    assert installation.contents() == (1000, b"1000")


def test_a_session_that_outlives_a_killed_postmaster_does_not_keep_a_new_one_from_starting(
    installation: Installation,
) -> None:
    installation.up()
    installation.fill()
    busy = installation.connect()
    busy.execute("create function spin() returns void language plpgsql as 'begin loop end loop; end'")
    backend = psutil.Process(busy.info.backend_pid)
    busy.pgconn.send_query(b"select spin()")
    time.sleep(0.3)
    os.kill(installation.process(servers.DATABASE).pid, signal.SIGKILL)
    eventually(lambda: installation.process(servers.DATABASE).restarts >= 1)
    eventually(lambda: installation.process(servers.DATABASE).state == "running")
    assert not backend.is_running()
    assert installation.contents() == (1000, b"1000")
    busy.close()


def test_after_a_killed_supervisor_the_next_start_ends_what_is_left_and_keeps_the_data(
    installation: Installation,
) -> None:
    installation.up(sys.executable, "-c", STUBBORN)
    installation.fill()
    names = (servers.DATABASE, servers.BROKER, "extra")
    left = [psutil.Process(installation.process(name).pid) for name in names]
    installation.end(signal.SIGKILL)
    status = read_status(installation.settings.state)
    assert status is not None
    assert not status.alive
    assert all(process.is_running() for process in left)
    installation.up()
    assert not any(process.is_running() and process.status() != "zombie" for process in left)
    assert installation.contents() == (1000, b"1000")


def test_after_everything_was_killed_at_once_the_next_start_has_the_data(installation: Installation) -> None:
    installation.up()
    installation.fill()
    assert installation.popen is not None
    doomed = psutil.Process(installation.popen.pid).children(recursive=True)
    installation.end(signal.SIGKILL)
    for process in doomed:
        process.kill()
    installation.up()
    assert installation.contents() == (1000, b"1000")


def test_a_pid_file_whose_number_now_belongs_to_another_process_is_no_obstacle(
    installation: Installation,
) -> None:
    installation.up()
    installation.fill()
    installation.end(signal.SIGTERM)
    with subprocess.Popen(["sleep", "60"]) as another:
        pid_file = installation.settings.state / "postgres/data/postmaster.pid"
        data = pid_file.parent
        pid_file.write_text(f"{another.pid}\n{data}\n1\n5432\n\n\n  1 1\nready   \n")
        installation.up()
        assert another.poll() is None
        another.kill()
    assert installation.contents() == (1000, b"1000")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_within_ten_seconds(
    installation: Installation, signum: signal.Signals
) -> None:
    installation.up(sys.executable, "-c", STUBBORN)
    assert installation.popen is not None
    family = psutil.Process(installation.popen.pid).children(recursive=True)
    assert len(family) > 3
    assert installation.end(signum) < 10
    assert not any(process.is_running() for process in family)
    log = (installation.settings.state / "logs/postgres.log").read_text()
    assert "database system is shut down" in log


def test_a_second_signal_stops_at_once(installation: Installation) -> None:
    installation.up(sys.executable, "-c", STUBBORN)
    assert installation.popen is not None
    family = psutil.Process(installation.popen.pid).children(recursive=True)
    installation.popen.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert installation.end(signal.SIGINT) < 3
    eventually(lambda: not any(process.is_running() for process in family), seconds=5)


def test_two_state_folders_side_by_side_never_meet(folder: Path, installation: Installation) -> None:
    other = Installation(folder / "neighbour")
    installation.up()
    other.up()
    try:
        installation.fill()
        with other.connect() as connection:
            assert connection.execute("select to_regclass('kept')").fetchone() == (None,)
        with redis.Redis.from_url(servers.redis_url(other.settings)) as client:
            assert client.get("kept") is None
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(
                servers.database_url(installation.settings).replace(
                    (installation.settings.state / "postgres.password").read_text(),
                    (other.settings.state / "postgres.password").read_text(),
                )
            )
    finally:
        other.end(signal.SIGTERM)
    assert installation.contents() == (1000, b"1000")
