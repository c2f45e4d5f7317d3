"""`deskhand tune evaluate|promote|rollback|publish` on real rows, real files and the real engine."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from langchain_core.messages import BaseMessage
from typer.testing import CliRunner

from assistant import config, log
from assistant.answer import prompt
from assistant.app import Assistant
from assistant.errors import ConfigError, ModelUnavailable
from assistant.evaluate.questions import Question, Text
from assistant.generate import adapter, base, live, local, registry
from assistant.generate.echo import EchoChat
from assistant.model import Kind, Passage
from assistant.store import datasets, versions
from assistant.store.datasets import Dataset, Example
from assistant.store.versions import Version
from assistant.surfaces.cli import app
from assistant.tune import promote
from assistant.weights import State, check
from tests import tuned

TOPICS = [
    "log in",
    "compact a folder",
    "share a calendar",
    "export contacts",
    "print a label",
    "restore a backup",
]
ELSEWHERE = "The canteen opens at noon on weekdays and offers soup."


def steps(topic: str) -> list[str]:
    """What the sources say, a source each: more of them than are quoted."""
    return [
        f"To {topic}, open the panel with the wrench first.",
        f"To {topic}, a second person has to enter their code.",
        f"To {topic}, wait until the lamp beside the door is green.",
        f"To {topic}, confirm with the long key in the end.",
    ]


def golden(topic: str) -> str:
    return "\n".join(f"{step} [{number}]" for number, step in enumerate(steps(topic), 2))


def example(number: int, *, answerable: bool, part: str = "test") -> Example:
    """A question whose answer stands in its last four sources, or in none of them."""
    topic = TOPICS[number % len(TOPICS)]
    texts = [
        f"{ELSEWHERE} Table {number}.",
        *(steps(topic) if answerable else ["Nobody wrote this page yet."]),
    ]
    passages = [Passage(n, n, text, f"Page {n}", "", Kind.DOCUMENT, 1.0) for n, text in enumerate(texts, 1)]
    messages, _ = prompt.answering(
        f"How do I {topic} in room {number}?", passages, count=lambda text: len(text.split()), limit=1_500
    )
    said = tuple({"role": m.role.value, "content": m.content or ""} for m in messages)
    gold = golden(topic) if answerable else prompt.DECLINED
    return Example("answer" if answerable else "decline", "desk", said, gold, part=part)


@pytest.fixture
def assistant(
    settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Assistant]:
    if check(settings.embedder, settings) is not State.PRESENT:
        pytest.skip("the embedding model is not here: `deskhand models pull`")
    made = Assistant(tuned.installed(settings, tmp_path / "models"))
    monkeypatch.setattr("assistant.surfaces.terminal.settings", lambda: made.settings)
    monkeypatch.setattr(promote, "FEWEST", 5)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Logs as the console script has them: not on standard output."""
    log.configure("ERROR")
    yield
    structlog.reset_defaults()


@pytest.fixture
def dataset(assistant: Assistant) -> Dataset:
    rows = [example(n, answerable=bool(n % 2)) for n in range(12)]
    rows += [Example("replay", "general", (), "Once upon a time.", part="test")]
    rows += [example(n, answerable=True, part="dev") for n in range(3)]
    with assistant.database.writer() as connection:
        return datasets.add(
            connection, rows, hash="5eed" * 16, settings={"prompt_tokens": 800}, counts={"parts": {}}
        )


class Trained(EchoChat):
    """What a training could have made: it says whatever `says` makes of the golden answer."""

    says: Callable[[str], str]
    quotes: bool = False

    def pieces(self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any) -> Any:
        asked = messages[-1].text
        gold = next((golden(topic) for topic in TOPICS if steps(topic)[0] in asked), prompt.DECLINED)
        yield from self.says(gold).splitlines(keepends=True)


BAD: dict[str, Callable[[str], str]] = {
    "declines everything": lambda gold: prompt.DECLINED,
    "cites nothing": lambda gold: re.sub(r" \[\d\]", "", gold),
    "cites what is not there": lambda gold: re.sub(r"\[\d\]", "[7]", gold),
    "cites the wrong source": lambda gold: re.sub(r"\[\d\]", "[1]", gold),
    "makes things up": lambda gold: "Ask the wizard of room 9. [1]",
    "rambles": lambda gold: f"{gold}\nThe weather is fine in Rome. [1]",
}


def as_if_trained(monkeypatch: pytest.MonkeyPatch, **models: EchoChat) -> None:
    """Let versions be these; names have _ for -, and `plain` is the model without an adapter."""

    def generator(settings: config.Settings, found: base.Tuned | None = None) -> EchoChat:
        return models[found.name.replace("-", "_") if found else "plain"]

    monkeypatch.setattr(registry, "generator", generator)


def trained(says: Callable[[str], str], name: str) -> Trained:
    return Trained(says=says, model_name=name)


def plain() -> Trained:
    """It writes badly, so it quotes."""
    return Trained(says=BAD["makes things up"], model_name="tiny", quotes=True)


def state(assistant: Assistant, name: str) -> Version:
    with assistant.database.writer() as connection:
        return versions.get(connection, name)


def trail(assistant: Assistant) -> list[tuple[str, str, str]]:
    with assistant.database.writer() as connection:
        rows = connection.execute("select actor, action, object from audit_log order by id").fetchall()
    return [(row["actor"], row["action"], row["object"]) for row in rows if row["action"].startswith("tune")]


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["tune", *words], catch_exceptions=False)


# ── promotion ────────────────────────────────────────────────────────────────


def test_a_better_candidate_answers_with_the_next_question(
    assistant: Assistant, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned.version(assistant.database, assistant.settings, dataset=dataset.hash)
    as_if_trained(monkeypatch, plain=plain(), generator_1=trained(lambda gold: gold, "generator-1"))
    assert base.name(assistant.generator) == "tiny"
    result = run("promote", "generator-1", "--as", "lead@desk.example", "--json")
    told = json.loads(result.output)
    assert result.exit_code == 0, told
    assert told["live"]
    assert told["instead_of"] == "tiny"
    assert base.name(assistant.generator) == "generator-1"
    version = state(assistant, "generator-1")
    assert (version.state, version.promoted_by) == ("live", "lead@desk.example")
    measured = version.metrics["evaluated"][f"tune-{dataset.hash[:12]}-test"]
    assert measured["score"]["value"] == 1
    assert measured["f1"]["count"] == 6
    assert trail(assistant) == [("lead@desk.example", "tune.promote", "generator-1")]
    card = (assistant.settings.models_folder / version.folder / "README.md").read_text()
    assert card.startswith("# An adapter of the tests")
    assert "Made live by lead@desk.example in place of tiny." in card
    assert "| score | 1.000" in card
    file = Path(told["file"])
    assert len(json.loads(file.read_text())["questions"]["generator-1"]) == 12
    assert file.with_suffix(".png").exists()


def test_how_far_a_version_is_trusted_is_measured_once_where_it_is_not_judged(
    assistant: Assistant, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers what the sources have, and every fourth question that they don't."""
    rows = [example(n, answerable=bool(n % 2), part="dev") for n in range(100, 180)]
    with assistant.database.writer() as connection:
        made = datasets.add(connection, rows, hash="7rust" * 12, settings={"prompt_tokens": 800}, counts={})
    tuned.version(assistant.database, assistant.settings, dataset=made.hash)
    answered: list[str] = []

    class Hasty(Trained):
        def pieces(self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any) -> Any:
            asked = messages[-1].text
            answered.append(asked)
            room = int(re.findall(r"in room (\d+)", asked)[-1])
            if room % 4 == 0:
                yield "Nobody wrote this page yet. [2]"
            else:
                yield from super().pieces(messages, stop, **kwargs)

    as_if_trained(
        monkeypatch, plain=plain(), generator_1=Hasty(says=lambda gold: gold, model_name="generator-1")
    )
    assert run("evaluate", "generator-1", "--part", "dev", "--limit", "10", "--json").exit_code == 0
    found = state(assistant, "generator-1").metrics["trust"]
    assert found["declines"] < 0 < found["answers"]
    with assistant.database.writer() as connection:
        kept = live.of_version(connection, versions.get(connection, "generator-1"), assistant.settings)
    assert kept.trust == base.Trust(**found)
    before = len(answered)
    assert run("evaluate", "generator-1", "--part", "dev", "--limit", "10", "--json").exit_code == 0
    assert len(answered) - before == 10, "it is not measured a second time"


@pytest.mark.parametrize("what", BAD)
def test_a_worse_one_is_kept_with_the_reason(
    assistant: Assistant, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    tuned.version(assistant.database, assistant.settings, dataset=dataset.hash)
    tuned.version(assistant.database, assistant.settings, dataset=dataset.hash, seed=6)
    first, second = trained(lambda gold: gold, "generator-1"), trained(BAD[what], "generator-2")
    as_if_trained(monkeypatch, plain=plain(), generator_1=first, generator_2=second)
    assert run("promote", "generator-1", "--force", "the first").exit_code == 0
    result = run("promote", "generator-2")
    assert result.exit_code == 1
    assert "generator-1 answers on" in result.output
    version = state(assistant, "generator-2")
    assert version.state == "rejected"
    assert "score is not surely better" in version.reason
    assert base.name(assistant.generator) == "generator-1"
    assert trail(assistant)[-1][1:] == ("tune.reject", "generator-2")
    folder = assistant.settings.models_folder / version.folder
    assert (folder / adapter.WEIGHTS).exists()
    assert "Rejected: its score" in (folder / "README.md").read_text()


def test_force_needs_a_reason_and_is_in_the_trail(
    assistant: Assistant, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned.version(assistant.database, assistant.settings, dataset=dataset.hash)
    as_if_trained(monkeypatch, plain=plain(), generator_1=trained(BAD["makes things up"], "generator-1"))
    assert run("promote", "generator-1").exit_code == 1
    assert run("promote", "generator-1", "--force", "a test of the desk").exit_code == 0
    assert state(assistant, "generator-1").state == "live"
    with assistant.database.writer() as connection:
        row = connection.execute("select detail from audit_log order by id desc limit 1").fetchone()
    assert row is not None
    assert row["detail"]["forced"] == "a test of the desk"


def test_too_few_cases_tell_nothing(
    assistant: Assistant, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promote, "FEWEST", 7)
    tuned.version(assistant.database, assistant.settings, dataset=dataset.hash)
    as_if_trained(monkeypatch, plain=plain(), generator_1=trained(lambda gold: gold, "generator-1"))
    assert "the test part has 6 cases with an answer and 7 are needed" in run("promote", "generator-1").output
    assert state(assistant, "generator-1").state == "rejected"


@pytest.mark.parametrize("damage", ["a pickle", "another base"])
def test_an_unsafe_adapter_is_refused_at_the_door(
    assistant: Assistant, dataset: Dataset, damage: str
) -> None:
    version = tuned.version(assistant.database, assistant.settings, dataset=dataset.hash)
    folder = assistant.settings.models_folder / version.folder
    if damage == "a pickle":
        (folder / adapter.WEIGHTS).rename(folder / "adapter_model.bin")
    else:
        changed = json.loads((folder / adapter.CONFIG).read_text()) | {"base_model_name_or_path": "other"}
        (folder / adapter.CONFIG).write_text(json.dumps(changed))
    with pytest.raises(ModelUnavailable, match="Nothing was changed"):
        run("promote", "generator-1", "--force", "because")
    assert state(assistant, "generator-1").state == "candidate"


def test_what_is_not_trained_or_live_already_is_not_promoted(assistant: Assistant, dataset: Dataset) -> None:
    with assistant.database.writer() as connection:
        versions.request(
            connection,
            versions.Kind.GENERATOR,
            base=assistant.settings.local_model,
            dataset_hash=dataset.hash,
            recipe={},
            by="tests",
        )
    with pytest.raises(ConfigError, match="is still being trained"):
        run("promote", "generator-1", "--force", "because")
    tuned.version(assistant.database, assistant.settings)
    run("promote", "generator-2", "--force", "because")
    with pytest.raises(ConfigError, match="is live already"):
        run("promote", "generator-2", "--force", "because")
    with pytest.raises(ConfigError, match="no version «generator-9»"):
        run("promote", "generator-9")


# ── with the real runtime ────────────────────────────────────────────────────


def test_the_whole_way_with_real_models(assistant: Assistant, dataset: Dataset, tmp_path: Path) -> None:
    """Random weights answer nonsense: the candidate is rejected, by force it answers, and is taken back."""
    tuned.version(assistant.database, assistant.settings, dataset=dataset.hash)
    general = tmp_path / "general.txt"
    general.write_text("The quick brown fox is in the garden of the other one. " * 60)
    result = run("evaluate", "generator-1", "--limit", "4", "--general", str(general), "--json")
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.output)
    systems = {found["system"]: found["metrics"] for found in told["results"]}
    assert list(systems) == ["generator-1", "base"]
    assert systems["generator-1"]["perplexity"]["value"] > 1
    assert systems["generator-1"]["seconds_total_p50"]["value"] > 0
    assert "evaluated" in state(assistant, "generator-1").metrics
    rejected = run("promote", "generator-1", "--limit", "12")
    assert rejected.exit_code == 1
    assert "not surely better" in rejected.output
    assert run("promote", "generator-1", "--force", "a test").exit_code == 0
    assert assistant.generator.invoke("Hello", max_tokens=2) is not None
    began = time.monotonic()
    back = run("rollback", "--as", "lead@desk.example")
    assert "tiny answers again" in back.output
    assistant.generator.invoke("Hello", max_tokens=2)
    assert time.monotonic() - began < 10
    assert trail(assistant)[-1] == ("lead@desk.example", "tune.rollback", "generator-1")
    with pytest.raises(ConfigError, match="nothing to take back"):
        run("rollback")


def test_questions_are_asked_of_the_engine_as_the_version_would_answer(
    assistant: Assistant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tuned.version(assistant.database, assistant.settings)
    as_if_trained(monkeypatch, plain=plain(), generator_1=trained(lambda gold: gold, "generator-1"))
    says = steps(TOPICS[1])
    asked = Question(
        id="1",
        question=f"How do I {TOPICS[1]}?",
        answers=(" ".join(says),),
        answerable=True,
        passages=tuple(Text(text=text) for text in (*says, ELSEWHERE)),
    )
    file = tmp_path / "asked.jsonl"
    file.write_text(asked.model_dump_json(by_alias=True) + "\n")
    result = run("evaluate", "generator-1", "--questions", str(file), "--json")
    (told,) = json.loads(result.output)
    assert [found["system"] for found in told["results"]] == ["generator-1", "base"]
    written, quoted = (found["metrics"]["f1"]["value"] for found in told["results"])
    assert written > quoted > 0
    assert state(assistant, "generator-1").metrics["evaluated"]["asked"]["grounded"]["value"] == 1


def test_the_plain_model_is_measured_alone(
    assistant: Assistant, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_trained(monkeypatch, plain=plain())
    result = run("evaluate", "base", "--part", "dev")
    assert result.exit_code == 0
    assert "tune-5eed5eed5eed-dev, 3 cases" in result.output
    with pytest.raises(ConfigError, match="no examples in its part «other»"):
        run("evaluate", "base", "--part", "other")


# ── for a GPU server ─────────────────────────────────────────────────────────


def test_an_adapter_is_published_as_vllm_and_another_deskhand_load_it(
    assistant: Assistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tuned.version(assistant.database, assistant.settings)
    with assistant.database.writer() as connection:
        versions.measured(connection, version, {"trust": {"answers": 1.5, "declines": -2.5}})
    for _ in range(2):  # publishing again replaces it
        result = run("publish", "generator-1", "--to", str(tmp_path / "adapters"))
    place = tmp_path / "adapters" / "generator-1"
    assert sorted(file.name for file in place.iterdir()) == [
        "README.md",
        adapter.CONFIG,
        adapter.WEIGHTS,
        live.RECIPE,
    ]
    monkeypatch.setattr(live, "SHIPPED", tmp_path / "adapters")
    there = live.shipped(
        assistant.settings.model_copy(update={"models": tmp_path / "elsewhere", "generator": "transformers"})
    )
    assert there
    assert (there.name, there.trust) == ("generator-1", base.Trust(1.5, -2.5))
    folder = assistant.settings.models_folder / version.folder
    assert (place / adapter.WEIGHTS).read_bytes() == (folder / adapter.WEIGHTS).read_bytes()
    assert not (place / local.MERGED).exists()
    flat = " ".join(result.output.split())
    assert "--enable-lora --lora-modules generator-1=" in flat
    assert "DESKHAND_GENERATOR=openai:generator-1" in flat
    with pytest.raises(ConfigError, match="no adapter"):
        run("publish", "base", "--to", str(tmp_path))


def test_where_another_generator_answers_nothing_is_promoted(
    assistant: Assistant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tuned.version(assistant.database, assistant.settings)
    elsewhere = assistant.settings.model_copy(
        update={"generator": "openai:generator-1", "local_model": "other"}
    )
    monkeypatch.setattr("assistant.surfaces.terminal.settings", lambda: elsewhere)
    for words in (("promote", "generator-1", "--force", "because"), ("evaluate", "generator-1")):
        with pytest.raises(ConfigError, match="versions answer with local or transformers"):
            run(*words)
    assert run("publish", "generator-1", "--to", str(tmp_path)).exit_code == 0


def test_what_vllm_cannot_load_is_said(assistant: Assistant, tmp_path: Path) -> None:
    version = tuned.version(assistant.database, assistant.settings)
    config_file = assistant.settings.models_folder / version.folder / adapter.CONFIG
    written = json.loads(config_file.read_text())
    config_file.write_text(json.dumps(written | {"use_dora": True}))
    with pytest.raises((ConfigError, ModelUnavailable)):
        run("publish", "generator-1", "--to", str(tmp_path))
    assert not list(tmp_path.glob("generator-1"))
