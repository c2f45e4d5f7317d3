"""A training that a worker does in the background, whatever is killed while it does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from assistant.config import Settings
from assistant.store import versions
from assistant.store.versions import Kind, Version
from assistant.tune.recipe import recipe
from tests import tiny
from tests.installation import installation, wait
from tests.tuning import examples, store

pytest.importorskip("trl", reason="needs the extra [tune]")
RECIPE = {
    "rank": 4,
    "accumulation": 2,
    "evaluate_every": 10,
    "steps": 150,
    "learning_rate": 5e-3,
    "patience": 50,
}


def trainers(folder: Path) -> list[psutil.Process]:
    """Processes that train something in this models folder."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if "assistant.tune.train" in process.cmdline() and process.environ()["DESKHAND_MODELS"] == str(
                folder
            ):
                found.append(process)
        except (psutil.Error, KeyError):
            continue
    return found


@pytest.mark.timeout(600)
def test_a_training_survives_the_death_of_all_who_have_a_part_in_it(folder: Path, embedded: Settings) -> None:
    models = folder / "tune-models"
    models.mkdir()
    for there in embedded.models_folder.iterdir():
        (models / there.name).symlink_to(there)
    base = tiny.write_gguf(models / "tiny.gguf")
    with installation(folder / "tune", models) as desk, desk.assistant() as assistant:
        data = store(assistant.database, examples(), examples(10, 5))
        with assistant.database.writer() as connection:
            asked = versions.request(
                connection,
                Kind.GENERATOR,
                base=str(base),
                dataset_hash=data,
                recipe=recipe(**RECIPE).model_dump(),
                by="",
            )

        def now() -> Version:
            with assistant.database.writer() as connection:
                return versions.get(connection, asked.name)

        def step() -> int:
            return int(now().progress.get("step", 0))

        blows: list[tuple[str, Callable[[], object]]] = [
            ("the process that trains", lambda: trainers(models)[0].kill()),
            ("the worker", lambda: desk.kill("tune")),
            ("the worker's child", lambda: desk.kill_children("tune")),
            ("the broker", lambda: desk.kill("valkey")),
        ]
        for name, blow in blows:
            reached = step()
            wait(
                lambda n=reached: step() > n + 10 and bool(trainers(models)),
                what=f"training before {name} dies",
            )
            assert now().state == "training", "it was too quick for the test"
            blow()
        wait(lambda: now().state != "training", what="the end of the training")
        done = now()
        assert done.state == "candidate", done.reason
        wait(lambda: not trainers(models), what="the end of the process")
    history = json.loads((models / done.folder / "history.json").read_text())
    steps = [entry["step"] for entry in history if "loss" in entry]
    assert steps == list(range(1, 151)), "every step was done, and counts once"


def test_without_the_extra_there_is_no_worker_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from assistant.runtime import up

    assert "tune" in {process.name for process in up.standard_processes(Settings())}
    monkeypatch.setattr(up, "TUNING", ("torch", "no_such_package"))
    assert "tune" not in {process.name for process in up.standard_processes(Settings())}
