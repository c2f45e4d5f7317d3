"""Which generator answers, in one process and in several, before and after a promotion and a rollback."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from assistant.answer.engine import Strategy
from assistant.app import Assistant
from assistant.config import Settings
from assistant.generate import adapter, base, live, local
from assistant.generate.local import LocalChat
from assistant.model import Principal
from assistant.retrieve.scope import Scope
from assistant.runtime.up import environment
from assistant.store import versions
from assistant.store.versions import Kind, Version
from tests import tuned
from tests.paths import PROJECT

ASKING = """
import sys
from assistant.answer.engine import Strategy
from assistant.app import Assistant
from assistant.config import settings
from assistant.generate import base
assistant = Assistant(settings())
for _ in sys.stdin:
    model = assistant.generator
    text = model.invoke("How?", max_tokens=3).text
    print(base.name(model), flush=True)
"""


@pytest.fixture
def assistant(settings: Settings, tmp_path: Path) -> Iterator[Assistant]:
    made = Assistant(tuned.installed(settings, tmp_path / "models"))
    yield made
    made.close()
    gc.collect()


def promote(assistant: Assistant, version: Version) -> None:
    with assistant.database.writer() as connection:
        versions.promote(connection, version, by="tests")


def rollback(assistant: Assistant) -> None:
    with assistant.database.writer() as connection:
        versions.rollback(connection, Kind.GENERATOR)


def name(assistant: Assistant) -> str:
    return base.name(assistant.generator)


def test_the_promoted_version_answers_and_the_one_before_it_after_a_rollback(assistant: Assistant) -> None:
    plain = name(assistant)
    first = tuned.version(assistant.database, assistant.settings)
    second = tuned.version(assistant.database, assistant.settings, seed=6, recipe={"writes": False})
    assert name(assistant) == plain == "tiny"
    assert base.quotes(assistant.generator)
    promote(assistant, first)
    assert name(assistant) == "generator-1"
    assert not base.quotes(assistant.generator)
    promote(assistant, second)
    assert name(assistant) == "generator-2"
    assert base.quotes(assistant.generator)
    assert assistant.generator is assistant.generator  # one model, not one a question
    rollback(assistant)
    assert name(assistant) == "generator-1"
    rollback(assistant)
    assert name(assistant) == plain


def test_an_answer_names_its_version(assistant: Assistant) -> None:
    promote(assistant, tuned.version(assistant.database, assistant.settings))
    answer = assistant.engine(Scope(Principal("somebody"))).answer("How does it work?")
    assert answer.model == "generator-1"


def test_an_answer_in_flight_is_finished_by_the_version_that_began_it(assistant: Assistant) -> None:
    promote(assistant, tuned.version(assistant.database, assistant.settings))
    whole = assistant.generator.invoke("Tell me.", max_tokens=120).text
    stream = assistant.generator.stream("Tell me.", max_tokens=120)
    said = next(stream).text
    promote(assistant, tuned.version(assistant.database, assistant.settings, seed=6))
    other = assistant.generator.invoke("Tell me.", max_tokens=120).text
    assert said + "".join(chunk.text for chunk in stream) == whole
    assert other != whole


def test_the_old_model_gives_its_memory_back(assistant: Assistant) -> None:
    model = assistant.generator
    assert isinstance(model, LocalChat)
    process = model.load()._process
    del model
    promote(assistant, tuned.version(assistant.database, assistant.settings))
    assistant.generator.invoke("Tell me.", max_tokens=2)
    gc.collect()
    assert process.wait(10) is not None


def test_other_processes_see_it_with_their_next_question(assistant: Assistant) -> None:
    first = tuned.version(assistant.database, assistant.settings)
    second = tuned.version(assistant.database, assistant.settings, seed=6)
    promote(assistant, first)
    env = {**os.environ, **environment(assistant.settings), "PYTHONPATH": str(PROJECT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", ASKING], env=env, **pipes) for _ in range(2)]
    try:
        assert [asked(process) for process in processes] == ["generator-1"] * 2
        promote(assistant, second)
        assert [asked(process) for process in processes] == ["generator-2"] * 2
        began = time.monotonic()
        rollback(assistant)
        assert [asked(process) for process in processes] == ["generator-1"] * 2
        assert time.monotonic() - began < 10
    finally:
        for process in processes:
            process.stdin.close()
            process.wait(20)
            process.stdout.close()


def asked(process: subprocess.Popen[str]) -> str:
    """Ask in another process; the name of the model that answered there."""
    process.stdin.write("\n")
    process.stdin.flush()
    return next(line.strip() for line in process.stdout if " " not in line.strip())


def test_one_query_a_question(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(assistant, tuned.version(assistant.database, assistant.settings))
    name(assistant)
    executed: list[object] = []
    original = psycopg.Connection.execute

    def counted(self, query, *rest, **options):
        executed.append(query)
        return original(self, query, *rest, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", counted)
    for _ in range(3):
        name(assistant)
    assert len([query for query in executed if query]) == 3  # an empty one tells the pool that it is alive


@pytest.mark.parametrize("damage", ["no model", "a pickle", "another base", "not a number"])
def test_a_version_that_cannot_be_used_leaves_the_plain_model(assistant: Assistant, damage: str) -> None:
    version = tuned.version(assistant.database, assistant.settings)
    folder = assistant.settings.models_folder / version.folder
    if damage == "no model":
        (folder / local.MERGED).unlink()
    elif damage == "a pickle":
        (folder / adapter.WEIGHTS).rename(folder / "adapter_model.bin")
    elif damage == "another base":
        config = json.loads((folder / adapter.CONFIG).read_text())
        (folder / adapter.CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": "other"}))
    else:
        tuned.write_adapter(folder, assistant.settings, size=float("nan"))
    promote(assistant, version)
    assert name(assistant) == "tiny"


def test_a_version_of_another_model_than_the_configured_one_does_not_answer(assistant: Assistant) -> None:
    promote(assistant, tuned.version(assistant.database, assistant.settings))
    other = assistant.settings.models_folder / "other.gguf"
    other.write_bytes(Path(assistant.settings.local_model).read_bytes())
    changed = Assistant(assistant.settings.model_copy(update={"local_model": str(other)}))
    assert name(changed) == "other"
    changed.close()


# ── the adapter that comes with Deskhand ─────────────────────────────────────


@pytest.fixture
def shipped(assistant: Assistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(live, "SHIPPED", tmp_path / "adapters")
    folder = tuned.write_adapter(tmp_path / "adapters" / "desk-skill", assistant.settings)
    (folder / "recipe.json").write_text(json.dumps({"prompt_tokens": 800}))
    return folder


def test_it_answers_until_a_version_is_promoted(assistant: Assistant, shipped: Path) -> None:
    model = assistant.generator
    assert isinstance(model, LocalChat)
    assert (model.model_name, model.quotes, model.prompt_tokens) == ("desk-skill", False, 800)
    assert model.invoke("Tell me.", max_tokens=2).text
    promote(assistant, tuned.version(assistant.database, assistant.settings))
    assert name(assistant) == "generator-1"
    rollback(assistant)
    assert name(assistant) == "desk-skill"


def test_it_is_merged_once_and_again_when_another_one_comes(
    assistant: Assistant, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged: list[Path] = []
    original = adapter.merge
    monkeypatch.setattr(adapter, "merge", lambda *a, **k: (merged.append(a[2]), original(*a, **k)))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: live.shipped(assistant.settings), range(3)))
    assert len(merged) == 1
    assert len({one.folder for one in found if one}) == 1
    tuned.write_adapter(shipped, assistant.settings, seed=9)
    live.shipped(assistant.settings)
    live.shipped(assistant.settings)
    assert len(merged) == 2


def test_one_of_another_model_is_not_used(assistant: Assistant, shipped: Path) -> None:
    config = json.loads((shipped / adapter.CONFIG).read_text())
    (shipped / adapter.CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": "other"}))
    assert name(assistant) == "tiny"


def test_one_that_stands_by_answers_when_it_is_told_to_write(assistant: Assistant, shipped: Path) -> None:
    (shipped / "recipe.json").write_text(json.dumps({"prompt_tokens": 800, "writes": False}))
    assert name(assistant) == "tiny"
    writing = Assistant(assistant.settings.model_copy(update={"answers": "write"}))
    assert name(writing) == "desk-skill"
    assert writing.engine(Scope(Principal("nobody"))).strategy is Strategy.WRITE
    assert assistant.engine(Scope(Principal("nobody"))).strategy is Strategy.QUOTE
    writing.close()


def test_threads_that_ask_at_once_share_one_model(assistant: Assistant, shipped: Path) -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(assistant.generator)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(model) for model in found}) == 1
