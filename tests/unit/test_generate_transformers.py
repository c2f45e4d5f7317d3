"""The generator on transformers, with adapters switched while it runs; skipped without the extra [tune]."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from assistant.config import Settings
from assistant.errors import ConfigError, ModelUnavailable, QuestionRejected
from assistant.generate import adapter, registry, transformers_peft
from assistant.generate.base import Tuned
from assistant.generate.local import LocalChat
from assistant.generate.transformers_peft import TransformersChat
from tests import tiny, tuned

HELLO = [HumanMessage("Hello there.")]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    for package in transformers_peft.PACKAGES:
        pytest.importorskip(package, reason="the extra [tune] is not installed")
    folder = tmp_path_factory.mktemp("models")
    base = tiny.write_gguf(folder / "tiny.gguf")
    return Settings(models=folder, generator="transformers", local_model=str(base))


def version(settings: Settings, seed: int) -> Tuned:
    name = f"generator-{seed}"
    folder = settings.models_folder / name
    return Tuned(name, tuned.write_adapter(folder, settings, seed=seed, size=0.3))


def text(settings: Settings, found: Tuned | None) -> str:
    return registry.generator(settings, found).invoke(HELLO, max_tokens=24).text


def test_adapters_are_switched_on_one_base(settings: Settings) -> None:
    first, second = version(settings, 1), version(settings, 2)
    plain = text(settings, None)
    one, two = text(settings, first), text(settings, second)
    assert len({plain, one, two}) == 3
    assert [text(settings, found) for found in (first, None, second)] == [one, plain, two]
    models = [registry.generator(settings, found) for found in (None, first)]
    assert all(isinstance(model, TransformersChat) for model in models)
    assert models[0].runtime() is models[1].runtime()


def test_it_says_what_the_merged_model_says(settings: Settings) -> None:
    found = version(settings, 3)
    merged = found.folder / "model.gguf"
    adapter.merge(Path(settings.local_model), adapter.read(found.folder), merged)
    local = LocalChat(gguf=merged).invoke(HELLO, max_tokens=24).text
    assert text(settings, found)[0] == local[0]  # random weights: they round differently and part soon


def test_it_streams_what_it_answers_and_stops_when_closed(settings: Settings) -> None:
    model = registry.generator(settings, version(settings, 4))
    assert "".join(chunk.text for chunk in model.stream(HELLO, max_tokens=24)) == text(
        settings, version(settings, 4)
    )
    stream = model.stream(HELLO, max_tokens=2000)
    next(stream)
    stream.close()
    assert text(settings, None)  # the next in line is served


def test_stop_strings_end_the_answer(settings: Settings) -> None:
    model = registry.generator(settings)
    whole = model.invoke(HELLO, max_tokens=24).text
    stop = whole[6:9]
    assert model.invoke(HELLO, max_tokens=24, stop=[stop]).text == whole[: whole.find(stop)]


def test_what_cannot_be_read_whole_is_refused(settings: Settings) -> None:
    with pytest.raises(QuestionRejected, match="fewer words"):
        registry.generator(settings).invoke("word " * 9_000)


def test_a_model_that_is_not_there_is_named(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"local_model": str(tmp_path / "none")})
    with pytest.raises(ModelUnavailable, match="would not load"):
        registry.generator(other).invoke(HELLO)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_peft, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"deskhand\[tune\]"):
        registry.generator(Settings(generator="transformers"))


def test_nothing_heavy_is_imported_before_it_is_asked() -> None:
    code = (
        "import sys; from assistant.generate import live, transformers_peft; "
        "print([n for n in ('torch', 'transformers', 'peft') if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("pieces", "stop", "said"),
    [
        (["one ", "two ", "three"], [], "one two three"),
        (["one t", "wo three"], ["two"], "one "),
        (["one", "two"], ["x", "neve"], "onetwo"),
        (["ab", "c"], ["abc"], ""),
        (["a b", " c d"], ["d", "c"], "a b "),
    ],
)
def test_not_even_the_beginning_of_a_stop_string_is_let_out(pieces, stop, said) -> None:
    assert "".join(transformers_peft._until(iter(pieces), stop)) == said
