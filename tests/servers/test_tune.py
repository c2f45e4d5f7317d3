"""A training as it really runs: a process of its own, its row, its lock, and what kills it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.generate import adapter
from assistant.store import datasets, versions
from assistant.store.db import Database
from assistant.store.versions import Kind, Version
from assistant.tune import job
from assistant.tune.recipe import recipe
from tests import tiny
from tests.tuning import examples, store

pytest.importorskip("trl", reason="needs the extra [tune]")
QUICK = {
    "rank": 4,
    "accumulation": 2,
    "evaluate_every": 5,
    "steps": 20,
    "learning_rate": 5e-3,
    "patience": 50,
}


@pytest.fixture
def tuned(settings: Settings, tmp_path: Path) -> Settings:
    """Settings whose models folder is this test's own, with a tiny model in it."""
    (tmp_path / "models").mkdir()
    base = tiny.write_gguf(tmp_path / "models" / "tiny.gguf")
    return settings.model_copy(update={"models": tmp_path / "models", "local_model": str(base), "threads": 1})


@pytest.fixture
def data(database: Database) -> str:
    return store(database, examples(), examples(10, 5))


def ask(database: Database, tuned: Settings, data: str, **values: Any) -> Version:
    how = recipe(**(QUICK | values)).model_dump()
    with database.writer() as connection:
        return versions.request(
            connection,
            Kind.GENERATOR,
            base=tuned.local_model,
            dataset_hash=data,
            recipe=how,
            by="ada@acme.example",
        )


def row(database: Database, version: Version) -> Version:
    with database.writer() as connection:
        return versions.get(connection, version.name)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes to be ended with the test."""
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for process in found:
        process.kill()
        process.wait()


def run(tuned: Settings, version: Version, *, expect: int = 0) -> None:
    folder = tuned.models_folder / version.folder
    assert job.start(tuned, version).wait(170) == expect, (folder / job.LOG).read_text()[-3000:]


def test_a_version_is_trained_published_and_told(
    database: Database, tuned: Settings, data: str, tmp_path: Path
) -> None:
    version = ask(database, tuned, data)
    run(tuned, version)
    done = row(database, version)
    assert (done.state, done.reason) == ("candidate", "")
    assert done.metrics["dev_loss"] < done.metrics["dev_loss_untrained"] - 0.2
    assert done.metrics["examples"]["train decline"] == 20
    folder = tuned.models_folder / version.folder
    names = {place.name for place in folder.iterdir()}
    assert names >= {
        "adapter_model.safetensors",
        "adapter_config.json",
        "model.gguf",
        "README.md",
        "history.json",
    }
    assert "work" not in names
    config = json.loads((folder / adapter.CONFIG).read_text())
    assert config["target_modules"] == sorted(name.rpartition(".")[-1] for name, *_ in tiny.MODULES.values())
    assert len(adapter.read(folder).updates) == tiny.LAYERS * len(tiny.MODULES)
    card = (folder / "README.md").read_text()
    assert data in card
    assert f"deskhand tune train --dataset {data[:12]} --base {tuned.local_model} --set rank=4" in card
    with database.writer() as connection:
        assert versions.trained_on(connection, [1001]) == [version.name]
        assert versions.trained_on(connection, [1]) == [version.name]
        assert versions.trained_on(connection, [4711]) == []
    run(tuned, version)
    assert row(database, version).metrics == done.metrics, "once more there is nothing to do"


def adapters(folder: Path) -> dict[str, Any]:
    return {name: (update.a, update.b) for name, update in adapter.read(folder).updates.items()}


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(place.parent.name.split("-")[1]) for place in folder.glob("work/checkpoint-*/whole"))


def wait_for_checkpoint(process: subprocess.Popen[bytes], folder: Path, step: int) -> None:
    until = time.monotonic() + 170
    while not any(found >= step for found in checkpoints(folder)):
        assert process.poll() is None, (folder / job.LOG).read_text()[-3000:]
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.timeout(600)
def test_after_kills_it_goes_on_and_comes_to_the_very_same(
    database: Database, tuned: Settings, data: str, started: list[subprocess.Popen[bytes]]
) -> None:
    more = {"steps": 30, "accumulation": 4}  # one epoch and a half
    calm = ask(database, tuned, data, **more)
    run(tuned, calm)
    stormy = ask(database, tuned, data, **more)
    folder = tuned.models_folder / stormy.folder
    for step in (5, 25):
        process = job.start(tuned, stormy)
        started.append(process)
        wait_for_checkpoint(process, folder, step)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert row(database, stormy).state == "training"
    # The one that dies while it writes a checkpoint leaves half of one.
    half = folder / "work" / f"checkpoint-{checkpoints(folder)[-1] + 1}"
    half.mkdir()
    (half / "trainer_state.json").write_text("{")
    run(tuned, stormy)
    assert row(database, stormy).state == "candidate"
    ours, theirs = (adapters(tuned.models_folder / version.folder) for version in (stormy, calm))
    assert all((ours[name][part] == theirs[name][part]).all() for name in theirs for part in (0, 1))
    history = [
        json.loads((tuned.models_folder / v.folder / "history.json").read_text()) for v in (stormy, calm)
    ]
    losses = [{e["step"]: e["loss"] for e in entries if "loss" in e} for entries in history]
    assert losses[0] == losses[1]


def test_two_never_train_the_same(database: Database, tuned: Settings, data: str) -> None:
    version = ask(database, tuned, data)
    with database.connect() as other:
        assert versions.claim(other, version)
        run(tuned, version, expect=job.BUSY)
    assert row(database, version).progress == {}


def test_one_that_keeps_dying_is_given_up(database: Database, tuned: Settings, data: str) -> None:
    version = ask(database, tuned, data)
    with database.writer() as connection:
        versions.progress(connection, version, {"step": 7, "starts": job.STARTS})
    run(tuned, version, expect=1)
    failed = row(database, version)
    assert failed.state == "failed"
    assert "without getting any further than step 7" in failed.reason
    with database.writer() as connection:
        assert versions.waiting(connection, Kind.GENERATOR) is None
        assert versions.resume(connection, version.name).state == "training"
    run(tuned, version)
    assert row(database, version).state == "candidate"


@pytest.mark.parametrize(
    ("norm", "rate", "step"), [(float("nan"), 5e-3, "step 0"), (1.0, 1e30, r"step \d, learning rate")]
)
def test_a_loss_that_is_no_number_is_a_failure_with_its_reason(
    database: Database, tuned: Settings, data: str, norm: float, rate: float, step: str
) -> None:
    base = tiny.write_gguf(tuned.models_folder / "base.gguf", norm=norm)
    version = ask(database, tuned.model_copy(update={"local_model": str(base)}), data, learning_rate=rate)
    run(tuned, version, expect=1)
    failed = row(database, version)
    assert failed.state == "failed"
    assert re.search(rf"no number any more \({step}", failed.reason)
    assert "lower learning rate" in failed.reason
    assert not (tuned.models_folder / version.folder / adapter.WEIGHTS).exists()


def test_one_that_only_gets_worse_is_a_failure(database: Database, tuned: Settings) -> None:
    strange = [dataclasses.replace(example, completion="ЖЩЮЯ" * 8) for example in examples(10, 5)]
    version = ask(database, tuned, store(database, examples(), strange), patience=1)
    run(tuned, version, expect=1)
    assert "No step was better" in row(database, version).reason


def test_somebody_stops_it_and_it_goes_on(
    database: Database, tuned: Settings, data: str, started: list[subprocess.Popen[bytes]]
) -> None:
    version = ask(database, tuned, data, steps=4_000)
    process = job.start(tuned, version)
    started.append(process)
    folder = tuned.models_folder / version.folder
    wait_for_checkpoint(process, folder, 5)
    with database.writer() as connection:
        versions.fail(connection, version, "stopped by hand")
    assert process.wait(60) == 0
    stopped = row(database, version)
    assert (stopped.state, stopped.reason) == ("failed", "stopped by hand")
    assert stopped.progress["step"] >= 5
    assert checkpoints(folder)


@pytest.mark.parametrize(
    ("values", "reason"),
    [({"base": "/no/such/model.gguf"}, "There is no model file"), ({"base": "tiny.bin"}, "load")],
)
def test_a_base_that_is_not_there_is_a_failure(
    database: Database, tuned: Settings, data: str, values: dict[str, Any], reason: str
) -> None:
    version = ask(database, tuned.model_copy(update={"local_model": values["base"]}), data)
    run(tuned, version, expect=1)
    assert reason in row(database, version).reason


def test_a_full_disk_is_waited_for_and_nothing_is_lost(
    database: Database, tuned: Settings, data: str, tmp_path: Path
) -> None:
    """On a file system of its own, as full as it has to be."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=320m", "none", str(disk)]).returncode
    ):
        pytest.skip("mounting a file system takes root")
    try:
        base = tiny.write_gguf(disk / "tiny.gguf")
        there = tuned.model_copy(update={"models": disk, "local_model": str(base)})
        (disk / "ballast").write_bytes(bytes(60_000_000))
        version = ask(database, there, data)
        run(there, version, expect=1)
        full = row(database, version)
        assert full.state == "training"
        assert "The disk is full" in full.progress["trouble"]
        with database.writer() as connection:
            assert versions.waiting(connection, Kind.GENERATOR) is None, "not before ten minutes have passed"
        (disk / "ballast").unlink()
        run(there, version)
        assert row(database, version).state == "candidate"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_datasets_are_found_by_the_beginning_of_their_hash(database: Database, data: str) -> None:
    other = store(database, examples(), [], name="c0ffed" * 10)
    with database.writer() as connection:
        assert datasets.get(connection, "latest").hash == other
        assert datasets.get(connection, "c0ffee").hash == data
        for name in ("c0ff", "beef"):
            with pytest.raises(ConfigError, match=name):
                datasets.get(connection, name)
        found = datasets.get(connection, data)
        assert [e.kind for e in datasets.examples(connection, found.id, "dev")].count("decline") == 5
        assert datasets.documents(connection, found.id)[0] == 1
