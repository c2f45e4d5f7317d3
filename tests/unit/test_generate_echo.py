"""The registry, the echo generator, and what LlamaIndex sees of either."""

from __future__ import annotations

import subprocess
import sys

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from pydantic import SecretStr

from assistant.config import Settings
from assistant.errors import ConfigError, ModelUnavailable
from assistant.generate import base
from assistant.generate.echo import EchoChat
from assistant.generate.registry import generator

SOURCES = '<source number="1">\n[1] Folders\nCompacting frees space. It is safe.\n</source>\n\nQuestion: why compact?'


def test_echo_cites_the_first_sentence_of_the_first_source():
    model = generator(Settings(generator="echo"))
    assert model.invoke(SOURCES).text == "Compacting frees space. [1]"
    assert "".join(chunk.text for chunk in model.stream(SOURCES)) == "Compacting frees space. [1]"


def test_llamaindex_streams_through_the_adapter():
    llm = base.DeskLLM(EchoChat())
    deltas = [part.delta for part in llm.stream_chat([ChatMessage(role=MessageRole.USER, content=SOURCES)])]
    assert len(deltas) > 2
    assert "".join(piece or "" for piece in deltas) == "Compacting frees space. [1]"
    assert llm.chat([ChatMessage(role=MessageRole.USER, content=SOURCES)]).message.content.endswith("[1]")
    assert llm.metadata.is_chat_model
    assert llm.metadata.context_window == base.limits(EchoChat()).prompt + base.limits(EchoChat()).answer


def test_an_unknown_generator_is_named_with_what_there_is():
    with pytest.raises(ConfigError, match=r"'locl'.*local, transformers, echo.*provider"):
        generator(Settings(generator="locl"))


def test_a_missing_provider_package_is_named():
    with pytest.raises(ConfigError, match="pip install langchain-mistralai"):
        generator(Settings(generator="mistralai:mistral-small"))


def test_an_unknown_provider_is_a_config_error():
    with pytest.raises(ConfigError, match="no-such-provider"):
        generator(Settings(generator="no-such-provider:x", generator_api_key=SecretStr("s3cret")))


def test_missing_weights_say_how_to_get_them(tmp_path):
    with pytest.raises(ModelUnavailable, match="deskhand models pull smollm2-135m-instruct"):
        generator(Settings(generator="local", models=tmp_path))
    with pytest.raises(ModelUnavailable, match="DESKHAND_LOCAL_MODEL"):
        generator(Settings(generator="local", local_model=str(tmp_path / "tuned.gguf")))


def test_tokens_of_a_model_without_tokenizer_are_estimated_from_above():
    from langchain_core.language_models import FakeListChatModel

    foreign = FakeListChatModel(responses=["x"])
    assert base.count_tokens(foreign, "Nine words are fewer than this many tokens here.") >= 10
    assert base.limits(foreign).prompt <= base.UNKNOWN_CONTEXT
    assert not base.quotes(foreign)


def test_serving_imports_neither_torch_nor_langchain_community():
    code = (
        "import sys, assistant.answer.engine, assistant.generate.local, assistant.generate.chat_model as c;"
        "bad = {'torch', 'transformers', 'langchain_community', 'langchain_classic'} & set(sys.modules);"
        "print(sorted(bad)); sys.exit(bool(bad))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
