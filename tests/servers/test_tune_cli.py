"""`deskhand tune …` as people use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.runtime.up import can_tune, environment
from assistant.store import versions
from assistant.store.db import Database
from assistant.store.versions import Kind
from assistant.tune import job
from tests import tiny
from tests.paths import PROJECT
from tests.tuning import examples, store

needs_tune = pytest.mark.skipif(not can_tune(), reason="needs the extra [tune]")
QUICK = ["--rank", "4", "--set", "accumulation=2", "--set", "evaluate_every=5", "--set", "learning_rate=5e-3"]


@pytest.fixture
def desk(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "models").mkdir()
    base = tiny.write_gguf(tmp_path / "models" / "tiny.gguf")
    return settings.model_copy(update={"models": tmp_path / "models", "local_model": str(base), "threads": 1})


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "assistant.surfaces.cli", "tune", *arguments]


def deskhand(desk: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = environment(desk) | {"COLUMNS": "200", "DESKHAND_LOCAL_MODEL": desk.local_model}
    return subprocess.run(
        command(arguments), env=env, cwd=PROJECT, capture_output=True, text=True, timeout=170, check=False
    )


def from_json(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@needs_tune
def test_what_would_come_to_nothing_is_refused_before_there_is_a_version(
    desk: Settings, database: Database
) -> None:
    def refused(*arguments: str) -> str:
        result = deskhand(desk, "train", *arguments)
        assert result.returncode == 1
        return " ".join(result.stderr.split())

    assert "There is no dataset yet" in refused()
    store(database, examples(60, 0), examples(10, 5))
    assert "no example in it declines" in refused()
    assert "There is no dataset «beef»" in refused("--dataset", "beef")
    assert "NAME=VALUE" in refused("--set", "rank")
    assert "colour: Extra inputs are not permitted" in refused("--set", "colour=1")
    assert from_json(deskhand(desk, "list", "--json")) == []


@needs_tune
def test_train_list_and_show(desk: Settings, database: Database) -> None:
    store(database, examples(), examples(10, 5))
    trained = from_json(deskhand(desk, "train", *QUICK, "--set", "steps=10", "--json"))
    assert trained["state"] == "candidate"
    assert trained["recipe"]["rank"] == 4
    listed = from_json(deskhand(desk, "list", "--json"))
    assert [version["name"] for version in listed] == ["generator-1"]
    shown = deskhand(desk, "show", "generator-1")
    assert shown.returncode == 0, shown.stderr
    assert "generator-1 candidate" in shown.stdout
    assert "recipe: rank" in shown.stdout
    folder = desk.models_folder / "tuned" / "generator-1"
    assert str(folder / "README.md") in shown.stdout
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "There is no version «generator-9»" in deskhand(desk, "show", "generator-9").stderr
    again = deskhand(desk, "train", "--resume", "generator-1")
    assert "generator-1 is trained already" in " ".join(again.stderr.split())


@needs_tune
def test_ctrl_c_stops_it_and_resume_goes_on(desk: Settings, database: Database) -> None:
    store(database, examples(), examples(10, 5))
    env = environment(desk) | {"DESKHAND_LOCAL_MODEL": desk.local_model}
    popen = subprocess.Popen(
        command(["train", *QUICK, "--set", "steps=60"]),
        env=env,
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 120
    while not step(database):
        assert popen.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(popen.pid, signal.SIGINT)
    assert popen.wait(30) == 130
    assert popen.stderr is not None
    popen.stderr.close()
    with database.writer() as connection:
        stopped = versions.get(connection, "generator-1")
    assert stopped.state == "failed"
    assert "It was stopped by hand at step" in stopped.reason
    assert from_json(deskhand(desk, "train", "--resume", "generator-1", "--json"))["state"] == "candidate"


def step(database: Database) -> int:
    with database.writer() as connection:
        found = versions.everything(connection)
    return int(found[0].progress.get("step", 0)) if found else 0


@needs_tune
def test_in_the_background_it_only_asks_and_can_be_stopped(desk: Settings, database: Database) -> None:
    store(database, examples(), examples(10, 5))
    asked = deskhand(desk, "train", "--background")
    assert "generator-1 is asked for" in asked.stdout
    with database.writer() as connection:
        waiting = versions.waiting(connection, Kind.GENERATOR)
        assert waiting is not None
        assert waiting.name == "generator-1"
    assert "not begun" in deskhand(desk, "list").stdout
    assert "generator-1 ends" in deskhand(desk, "stop", "generator-1").stdout
    assert "is not being trained (failed)" in deskhand(desk, "stop", "generator-1").stderr
    with database.writer() as connection:
        assert versions.waiting(connection, Kind.GENERATOR) is None


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.runtime.up.TUNING", ("no_such_package",))
    with pytest.raises(ConfigError, match=r"pip install 'deskhand\[tune\]'"):
        job.check_installed()
