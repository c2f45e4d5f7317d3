"""A published adapter on a server that speaks as vLLM does, asked for by its name through the LangChain layer."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.answer.engine import DeskQueryEngine, Strategy
from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ModelUnavailable
from assistant.generate import adapter, base, live, registry
from assistant.tune.cases import Given, case, scored
from assistant.tune.publish import publish
from tests import tuned, vllm
from tests.servers.test_tune_versions import example

pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")


@pytest.fixture
def assistant(settings: Settings, tmp_path: Path) -> Iterator[Assistant]:
    made = Assistant(tuned.installed(settings, tmp_path / "models"))
    yield made
    made.close()


def published(assistant: Assistant, to: Path) -> tuple[str, list[str], int]:
    """What the command that is printed would serve: base, modules, rank."""
    version = tuned.version(assistant.database, assistant.settings)
    with assistant.database.writer() as connection:
        found = live.named(connection, version.name, assistant.settings, here=False)
    words = shlex.split(publish(found, to, assistant.settings)[1])
    assert words[:2] == ["vllm", "serve"]
    assert words[3:5] == ["--enable-lora", "--lora-modules"]
    return words[2], [words[5]], int(words[7]) if "--max-lora-rank" in words else 16


def generator(assistant: Assistant, name: str, url: str):
    changed = {"generator": f"openai:{name}", "generator_base_url": url}
    return registry.generator(assistant.settings.model_copy(update=changed))


def test_the_adapter_answers_by_its_name(assistant: Assistant, tmp_path: Path) -> None:
    found = case(example(1, answerable=True))
    place, modules, rank = published(assistant, tmp_path / "out")
    with vllm.serving(place, modules, lambda request: found.gold, max_lora_rank=rank) as server:
        model = generator(assistant, "generator-1", server.url)
        assert not base.quotes(model)
        engine = DeskQueryEngine(Given(scored(found, assistant.embedder)), model, threshold=0)
        assert engine.strategy is Strategy.WRITE
        answer = engine.answer(found.question)
    (asked,) = server.asked
    assert (asked["model"], asked["temperature"], asked["stream"]) == ("generator-1", 0, True)
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert asked["messages"] == [{"role": role, "content": content} for role, content in found.messages]
    assert answer.text == found.gold
    assert answer.model == "generator-1"
    assert [citation.marker for citation in answer.citations] == [2, 3, 4, 5]


def test_a_name_the_server_does_not_know_leaves_the_quotes(assistant: Assistant, tmp_path: Path) -> None:
    found = case(example(1, answerable=True))
    place, modules, _ = published(assistant, tmp_path / "out")
    with vllm.serving(place, modules, lambda request: found.gold) as server:
        model = generator(assistant, "generator-9", server.url)
        passages = scored(found, assistant.embedder)
        engine = DeskQueryEngine(Given(passages), model, encode=assistant.embedder.encode, threshold=0)
        answer = engine.answer(found.question)
    assert server.asked
    assert not answer.refusal
    assert "[2]" in answer.text


def test_a_larger_rank_is_told_to_the_server(assistant: Assistant, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tuned, "RANK", 24)
    place, modules, rank = published(assistant, tmp_path / "out")
    assert rank == 32
    with pytest.raises(ValueError, match="max_lora_rank"), vllm.serving(place, modules, str):
        pass
    with vllm.serving(place, modules, str, max_lora_rank=rank) as server:
        assert "generator-1" in server.adapters


def test_a_full_disk_is_said(assistant: Assistant, tmp_path: Path, monkeypatch) -> None:
    version = tuned.version(assistant.database, assistant.settings)
    with assistant.database.writer() as connection:
        found = live.named(connection, version.name, assistant.settings, here=False)
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.raises(ModelUnavailable, match="could not be written"):
        publish(found, blocked, assistant.settings)
    assert (assistant.settings.models_folder / version.folder / adapter.WEIGHTS).exists()
