"""A version that goes on from another with judged answers, as it really runs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ConfigError, ModelUnavailable
from assistant.generate import adapter, live
from assistant.store import versions
from assistant.store.db import Database
from assistant.store.versions import Kind, Version
from assistant.surfaces import cli_tune
from assistant.tune import card, job
from assistant.tune.base import Base
from assistant.tune.examples import encode
from assistant.tune.recipe import continued
from assistant.tune.train import begun
from tests import tiny
from tests import tuned as versioned
from tests.servers.test_tune import wait_for_checkpoint
from tests.tuning import examples, judged, store

pytest.importorskip("trl", reason="needs the extra [tune]")
QUICK = {"learning_rate": 2e-3, "steps": 12, "evaluate_every": 6, "accumulation": 2, "patience": 50}


@pytest.fixture
def tuned(settings: Settings, tmp_path: Path) -> Settings:
    """Settings whose models folder is this test's own, with a tiny model in it."""
    (tmp_path / "models").mkdir()
    base = tiny.write_gguf(tmp_path / "models" / "tiny.gguf")
    return settings.model_copy(update={"models": tmp_path / "models", "local_model": str(base), "threads": 1})


def started(database: Database, tuned: Settings, **recipe: Any) -> Version:
    """A version to go on from, trained on the documents 1 and 2."""
    store(database, examples(), examples(10, 5), name="50f7" * 16)
    own = {"rank": versioned.RANK, "alpha": 2 * versioned.RANK} | recipe
    start = versioned.version(database, tuned, dataset="50f7" * 16, recipe=own)
    with database.writer() as connection:
        versions.remember(connection, start, [1, 2])
    return start


def asked_for(database: Database, start: Version, **values: Any) -> Version:
    how = continued(start.name, start.recipe, **(QUICK | values))
    with database.writer() as connection:
        return versions.request(
            connection,
            Kind.GENERATOR,
            base=start.base,
            dataset_hash=store(database, judged(24, 24), judged(6, 6)),
            recipe=how.model_dump(),
            by="ada@acme.example",
        )


def gone_on(database: Database, tuned: Settings, start: Version, **values: Any) -> Version:
    version = asked_for(database, start, **values)
    folder = tuned.models_folder / version.folder
    job.start(tuned, version).wait(500)
    with database.writer() as connection:
        version = versions.get(connection, version.name)
    assert version.state != "training", (folder / job.LOG).read_text()[-3000:]
    return version


def likelihoods(tuned: Settings, version: Version) -> list[float]:
    """Of each judged answer of the development part, its log-probability by a version's published adapter."""
    import torch
    from peft import PeftModel

    base = Base(tuned.local_model, Path(tuned.local_model))
    model = PeftModel.from_pretrained(base.model().float(), tuned.models_folder / version.folder).eval()
    told: list[float] = []
    for example in judged(6, 6):
        row = encode(base.tokenizer(), example.prompt, example.completion)
        with torch.no_grad():
            logits = model(torch.tensor([row.input_ids])).logits[0, row.read - 1 : -1]
        written = torch.tensor(row.input_ids[row.read :])
        told.append(float(logits.log_softmax(-1).gather(1, written[:, None]).sum()))
    return told


def moved(tuned: Settings, start: Version, version: Version) -> tuple[float, float]:
    """How much likelier the good and the bad answers have become, on average, since the start."""
    change = [b - a for a, b in zip(likelihoods(tuned, start), likelihoods(tuned, version), strict=True)]
    return sum(change[:6]) / 6, sum(change[6:]) / 6


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dora", [False, True])
def test_what_people_liked_becomes_likelier_than_what_they_did_not(
    database: Database, tuned: Settings, dora: bool
) -> None:
    start = started(database, tuned)
    if dora:
        add_lengths(tuned, start)
        with database.writer() as connection:
            connection.execute(b"update version set recipe = recipe || '{\"dora\": true}'")
            start = versions.get(connection, start.name)
    version = gone_on(database, tuned, start)
    assert (version.state, version.reason) == ("candidate", "")
    good, bad = moved(tuned, start, version)
    assert good > bad + 1, (good, bad)
    assert version.metrics["dev_loss"] < version.metrics["dev_loss_untrained"] - 0.02
    assert version.metrics["dev_loss_untrained"] == pytest.approx(0.5, abs=0.02), "it began as its start"
    assert version.metrics["examples"] == {"train good": 24, "train bad": 24, "dev good": 6, "dev bad": 6}
    folder = tuned.models_folder / version.folder
    ours, theirs = adapter.read(folder), adapter.read(tuned.models_folder / start.folder)
    assert ours.base == tuned.local_model
    shapes = [{name: u.shape for name, u in one.updates.items()} for one in (ours, theirs)]
    assert shapes[0] == shapes[1], "one adapter of the same base"
    assert {place.name for place in folder.iterdir()} >= {"model.gguf", card.CARD, card.HISTORY}
    told = (folder / card.CARD).read_text()
    assert f"--from {start.name} --set method=kto" in told
    assert "KTO's loss" in told
    with database.writer() as connection:
        both = [start.name, version.name]
        assert versions.trained_on(connection, [2]) == both, "what its start was trained on is in it as well"
        assert versions.trained_on(connection, [2001]) == [version.name]
        assert versions.measured_with(connection, version) == start.dataset_hash
        assert live.files_of(connection, version, tuned).name == version.name


def add_lengths(tuned: Settings, start: Version) -> None:
    """Make a LoRA adapter one of DoRA, whose rows have the lengths that they have anyhow."""
    import json

    import numpy as np
    from safetensors.numpy import load_file, save_file

    folder = tuned.models_folder / start.folder
    config = json.loads((folder / adapter.CONFIG).read_text())
    tensors = load_file(folder / adapter.WEIGHTS)
    base = Base(tuned.local_model, Path(tuned.local_model)).model().float().state_dict()
    for name in [name for name in tensors if name.endswith("lora_A.weight")]:
        module = name.removesuffix(".lora_A.weight")
        weights = base[module.removeprefix(adapter.PREFIX) + ".weight"].numpy()
        merged = weights + 2 * tensors[f"{module}.lora_B.weight"] @ tensors[name]
        tensors[f"{module}.lora_magnitude_vector"] = np.linalg.norm(merged, axis=1).astype(np.float32)
    (folder / adapter.CONFIG).write_text(json.dumps(config | {"use_dora": True}))
    save_file(tensors, folder / adapter.WEIGHTS)


@pytest.mark.timeout(600)
def test_a_loss_that_is_no_number_is_a_failure_with_its_reason(database: Database, tuned: Settings) -> None:
    version = gone_on(database, tuned, started(database, tuned), learning_rate=1e30)
    assert version.state == "failed"
    assert "no number any more" in version.reason
    assert not (tuned.models_folder / version.folder / adapter.WEIGHTS).exists()


def test_what_can_not_be_gone_on_from_is_refused_before_anything_starts(
    database: Database, tuned: Settings
) -> None:
    start = started(database, tuned)
    with database.writer() as connection:
        assert begun(connection, start.name, start.base, tuned) == start
        with pytest.raises(ConfigError, match=r"can't have other\.gguf as its base") as refused:
            begun(connection, start.name, "other.gguf", tuned)
        assert "Nothing was started" in str(refused.value)
        untrained = versions.request(
            connection, Kind.GENERATOR, base=start.base, dataset_hash=None, recipe={}, by="t"
        )
        with pytest.raises(ConfigError, match="is no trained generator"):
            begun(connection, untrained.name, start.base, tuned)
    assistant = Assistant(tuned)
    try:
        store(database, judged(30, 12), judged(6, 6))
        with pytest.raises(ConfigError, match="36 good and 18 bad"):
            cli_tune._requested(assistant, "c0ffee", "", start.name, {})
        with pytest.raises(ConfigError, match="0 good and 0 bad"):
            cli_tune._requested(assistant, "50f7", "", start.name, {})
        with pytest.raises(ConfigError, match="its rank can't be changed"):
            cli_tune._requested(assistant, "c0ffee", "", start.name, {"rank": 64})
        store(database, judged(), judged(6, 6), name="beef" * 16)
        asked = cli_tune._requested(assistant, "beef", "", start.name, {"beta": "0.3"})
    finally:
        assistant.close()
    assert (asked.base, asked.recipe["start"], asked.recipe["beta"]) == (start.base, start.name, 0.3)
    assert f"--from {start.name} --set method=kto --set beta=0.3" in card.command(asked)
    with database.writer() as connection:
        assert len(versions.everything(connection)) == 3, "what was refused left no version"
        (tuned.models_folder / start.folder / adapter.WEIGHTS).unlink()
        with pytest.raises(ModelUnavailable, match=r"there is no adapter_model\.safetensors"):
            begun(connection, start.name, start.base, tuned)


@pytest.mark.timeout(600)
def test_after_a_kill_it_comes_to_the_very_same(database: Database, tuned: Settings) -> None:
    start = started(database, tuned)
    calm = gone_on(database, tuned, start, evaluate_every=3)
    stormy = asked_for(database, start, evaluate_every=3)
    process = job.start(tuned, stormy)
    wait_for_checkpoint(process, tuned.models_folder / stormy.folder, 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with database.writer() as connection:
        assert versions.get(connection, stormy.name).state == "training"
    assert job.start(tuned, stormy).wait(500) == 0
    ours, theirs = (adapter.read(tuned.models_folder / v.folder).updates for v in (stormy, calm))
    assert all((ours[n].a == theirs[n].a).all() and (ours[n].b == theirs[n].b).all() for n in theirs)
