"""An embedder is trained from what a desk's agents linked to, killed on the way, compared and put in its place."""

from __future__ import annotations

import datetime as dt
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from assistant import weights
from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.ingest.embed import OnnxEmbedder
from assistant.model import Access, Batch, Customer, Kind, Link, Part, SourceDocument, Ticket, Upsert
from assistant.runtime.up import environment
from assistant.store import sources, sync, versions
from assistant.store.versions import Kind as VersionKind
from assistant.surfaces import cli
from assistant.tune import negatives, pairs, ranking, retriever, retriever_train
from tests import tiny_base, tiny_embedder
from tests.servers.desk import NOW

TOPICS = ("compaction", "profiles", "addons", "calendars", "printing", "encryption", "filters", "proxies")
JARGON = ("zorble", "quindle", "frimp", "wexel", "plonk", "drabbit", "snorf", "twizzle")
"""what this desk's customers call these"""


def quiet(_step: str, _done: int, _total: int) -> None: ...


def days(number: float) -> dt.datetime:
    return NOW + dt.timedelta(days=number)


class Office:
    """Eight articles, and tickets whose agents link to them."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = tiny_base.settings_with(settings, folder)
        tiny_base.known(self.settings.models_folder)
        self.tokenizer = self.settings.models_folder / "tuned" / tiny_base.LIVE / "tokenizer.json"
        self.assistant = Assistant(self.settings, threads=1)
        with self.assistant.database.writer() as connection:
            sources.add(
                connection, name="desk", connector="directory", realm="desk", settings={}, secrets=None,
                every_seconds=None,
            )  # fmt: skip
            self.source = sources.get(connection, "desk")
            self.run = sources.request(connection, self.source)

    def commit(self, *changes: Upsert) -> None:
        with self.assistant.database.writer() as connection:
            sync.commit_batch(
                connection, self.source, self.run, Batch(changes, {}), self.assistant.fingerprint
            )
        while self.assistant.pipeline.run_batch():
            pass

    def fill(self, tickets: int) -> None:
        self.commit(*(article(n) for n in range(len(TOPICS))))
        self.commit(
            *(ticket(n, link=f"https://kb.example/en-us/articles/{4000 + n % 8}#fix") for n in range(tickets))
        )

    def ids(self) -> dict[str, int]:
        with self.assistant.database.writer() as connection:
            rows = connection.execute("select external_id, id from document").fetchall()
        return {row["external_id"]: row["id"] for row in rows}


def article(number: int) -> Upsert:
    return Upsert(
        SourceDocument(
            f"kb/{number}", Kind.DOCUMENT, f"About {TOPICS[number]}",
            (Part(f"How {TOPICS[number]} work, and what to do about {TOPICS[number]} when they fail."),), "1",
            Access.public(), url=f"https://kb.example/articles/{4000 + number}-{TOPICS[number]}", created_at=days(-9),
        )
    )  # fmt: skip


def ticket(
    number: int, *, link: str = "", customer: str = "", links: tuple[Link, ...] = (), at: float = 0.0
) -> Upsert:
    chance = np.random.default_rng(number)
    words = " ".join(
        chance.choice(["my", "screen", "says", "since", "monday", "nothing", "works", "please"], 5)
    )
    asked = f"The {JARGON[number % 8]} {words} {number}"
    name = customer or f"c{number}"
    return Upsert(
        SourceDocument(
            f"ticket/{number}", Kind.TICKET, f"{JARGON[number % 8]} broken",
            (
                Part(asked, role="customer", created_at=days(at or number)),
                Part(f"See [this]({link})." if link else "Restart it.", role="agent", created_at=days(number + 0.1)),
            ),
            "1", Access.of(groups=("support",)), url=f"https://desk.example/t/{number}", created_at=days(at or number),
            customer=Customer(name, name.title()), ticket=Ticket(status="solved", links=links),
        )
    )  # fmt: skip


@pytest.fixture
def office(settings: Settings, tmp_path: Path) -> Iterator[Office]:
    made = Office(settings, tmp_path)
    yield made
    made.assistant.close()
    tiny_base.unknown()


# ── what is learnt ───────────────────────────────────────────────────────────


def test_pairs_are_what_agents_linked_to(office: Office) -> None:
    office.commit(article(0), article(1))
    office.commit(
        ticket(1, link="https://www.kb.example/articles/4000-another-title?from=mail#top"),
        ticket(
            2,
            link="https://desk.example/t/1",
            links=(Link("duplicate", "ticket/1"), Link("blocks", "ticket/1")),
        ),
        ticket(3, link="https://elsewhere.example/articles/4000"),
        ticket(4, link="https://desk.example/t/5"),  # a later one
        ticket(5),
        ticket(6, links=(Link("related", "ticket/5"),)),
    )
    ids = office.ids()
    with office.assistant.database.writer() as connection:
        found = {question.document: question for question in pairs.of_desk(connection)}
    assert {d: set(q.relevant) for d, q in found.items()} == {
        ids["ticket/1"]: {ids["kb/0"]},
        ids["ticket/2"]: {ids["ticket/1"]},
        ids["ticket/6"]: {ids["ticket/5"]},
    }
    one = found[ids["ticket/1"]]
    assert one.text.startswith("quindle broken\nThe quindle ")
    assert "See" not in one.text, "what the agent wrote is no part of the question"
    assert one.at == days(1)


def test_the_latest_measure_and_nobody_is_on_both_sides() -> None:
    asked = [
        pairs.Question(f"question {n}", frozenset({n % 7}), days(n), customer=n % 50, document=n)
        for n in range(200)
    ]
    found = pairs.parts(reversed(asked))
    assert [len(part) for part in (found.held_out, found.stopping)] == [20, 10]
    assert min(q.at or NOW for q in found.held_out) > max(q.at or NOW for q in found.train + found.stopping)
    train, measured = ({q.customer for q in part} for part in (found.train, found.held_out + found.stopping))
    assert not train & measured
    assert len(found.train) > 60
    with pytest.raises(ConfigError, match="Only 59 questions"):
        pairs.parts(asked[:59])


def test_negatives_are_found_for_the_question_and_do_not_answer_it(office: Office) -> None:
    office.fill(12)
    ids = office.ids()
    with office.assistant.database.writer() as connection:
        questions = pairs.of_desk(connection)
    found = negatives.mine(office.assistant, questions, count=2, progress=quiet)
    assert found == negatives.mine(office.assistant, questions, count=2, progress=quiet), "each time the same"
    assert len(found) == 12
    for question, example in zip(questions, found, strict=True):
        assert example.positive.startswith("About ")
        assert example.document in question.relevant
        assert not {*example.others} & {*question.relevant, question.document}
        newer = {ids[f"ticket/{n}"] for n in range(12) if days(n) > (question.at or NOW)}
        assert not newer & {*example.others}, "as of its day"
    assert any(example.others for example in found)


def test_a_pool_has_what_answers_and_ranks_as_search_does(office: Office) -> None:
    office.fill(16)
    with office.assistant.database.writer() as connection:
        questions = pairs.of_desk(connection)
    pool = ranking.pool(office.assistant, questions, progress=quiet)
    assert {d for q in questions for d in q.relevant} <= set(pool.documents)
    scores = ranking.ndcg(office.assistant.embedder, pool)
    assert len(scores) == 16
    assert 0 < sum(scores) / 16 < 1
    told = [pairs.Question(f"About {t}", frozenset({pool.documents[i]})) for i, t in enumerate(TOPICS)]
    pool = ranking.pool(office.assistant, told, progress=quiet)
    assert ranking.ndcg(office.assistant.embedder, pool) == [1.0] * 8


# ── training ─────────────────────────────────────────────────────────────────

HOW = {
    "epochs": 5, "batch": 16, "learning_rate": 1e-2, "strength": 1.0, "frozen": 0, "tokens": 48, "looks": 1,
    "patience": 5,
}  # fmt: skip
"""for a model that knows nothing yet"""


@pytest.fixture
def trained_from(office: Office, monkeypatch: pytest.MonkeyPatch) -> Office:
    """The office with enough tickets, and with a tiny base to train from."""
    for package in ("torch", "sentence_transformers", "datasets", "onnx"):
        pytest.importorskip(package, reason="needs the extra [tune]")
    tiny_base.base(office.settings.models_folder)
    tiny_base.known(office.settings.models_folder)
    monkeypatch.setattr(retriever, "TRAINER", "tests.tiny_base")
    office.fill(96)
    return office


def requested(office: Office, **values: Any) -> versions.Version:
    return retriever.request(office.assistant, retriever.recipe({**HOW, **values}), by="ann")


def stored(office: Office, version: versions.Version) -> versions.Version:
    with office.assistant.database.writer() as connection:
        return versions.get(connection, version.name)


def train(office: Office, version: versions.Version) -> versions.Version:
    """In this process."""
    with office.assistant.database.connect() as connection:
        retriever_train.carry(office.assistant, connection, version)
    return stored(office, version)


def test_it_learns_what_the_desk_calls_things(trained_from: Office) -> None:
    office = trained_from
    made = train(office, requested(office))
    assert made.state == "candidate"
    found = made.metrics["development"]
    assert found["ndcg@10"] > found["before"] + 0.15, "the jargon means nothing to anybody else"
    folder = office.settings.models_folder / made.folder
    assert sorted(place.name for place in folder.iterdir()) == ["README.md", "model.onnx", "tokenizer.json"]
    card = (folder / "README.md").read_text()
    assert f"`{made.dataset_hash}`" in card
    assert "--set epochs=5" in card
    ids = office.ids()
    with office.assistant.database.writer() as connection:
        assert versions.trained_on(connection, [ids["ticket/0"]]) == [made.name]
        assert versions.trained_on(connection, [ids["ticket/95"]]) == [], "that one measures"
    verdict = retriever.decide(office.assistant, made.name, by="ann", progress=quiet)
    assert not verdict.reasons
    assert verdict.gain is not None
    assert verdict.gain.low > 0
    assert verdict.gain.count == 10


def test_the_weights_in_eight_bits_are_the_same_model(trained_from: Office, tmp_path: Path) -> None:
    """On texts of all lengths: a traced graph may hold on to the length that it was traced with."""
    import torch
    from transformers import AutoModel

    from assistant.tune import onnx_file

    base = weights.path(tiny_base.BASE, trained_from.settings).parent
    model = AutoModel.from_pretrained(base, attn_implementation="eager").eval()
    texts = ["a", "two words", " ".join(TOPICS), " ".join(JARGON * 9), " ".join(TOPICS * 40)]
    vectors: dict[str, Any] = {}
    for name in ("whole", "eight"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_bytes(trained_from.tokenizer.read_bytes())
    onnx_file.write(model, tmp_path / "whole/model.onnx")
    onnx_file.eight_bits(tmp_path / "whole/model.onnx", tmp_path / "eight/model.onnx")
    for name in ("whole", "eight"):
        embedder = OnnxEmbedder(tmp_path / name, threads=1)
        vectors[name] = embedder.encode(texts)
    truth: list[Any] = []
    for text in texts:
        ids = torch.tensor([embedder._tokenizer.encode(text).ids])
        with torch.no_grad():
            hidden = (
                model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].mean(0).numpy()
            )
        truth.append(hidden / np.linalg.norm(hidden))
    assert (vectors["whole"] * np.stack(truth)).sum(1).min() > 0.9999
    assert (vectors["eight"] * np.stack(truth)).sum(1).min() > 0.999
    sizes = {name: (tmp_path / name / "model.onnx").stat().st_size for name in vectors}
    assert sizes["eight"] < sizes["whole"] / 3


def test_killed_it_goes_on_where_it_was(trained_from: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office = trained_from
    version = requested(office, epochs=30, patience=30)
    process = retriever.start(office.settings, version)
    end = time.monotonic() + 120
    while stored(office, version).progress.get("step", 0) < 40:
        assert process.poll() is None, (
            office.settings.models_folder / version.folder / "train.log"
        ).read_text()
        assert time.monotonic() < end
        time.sleep(0.1)
    assert retriever.start(office.settings, version).wait(60) == retriever.BUSY, "one at a time"
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    killed = stored(office, version)
    assert killed.state == "training"
    work = office.settings.models_folder / version.folder / "work"
    texts = b"".join(place.read_bytes() for place in work.rglob("*.json"))
    assert not any(word.encode() in texts for word in JARGON), "no text is on the disk"
    looks = json.loads((work / "looks.json").read_text())
    from assistant.tune import retriever_trainer

    told: list[int] = []
    monkeypatch.setattr(
        retriever_trainer.Look,
        "on_step_begin",
        lambda _self, _args, state, *_, **__: told.append(state.global_step),
        raising=False,
    )
    made = train(office, killed)
    assert made.state == "candidate"
    assert told[0] >= looks[-1]["step"] - 20, "from its last checkpoint"
    assert told[0] > 0
    assert made.metrics["development"]["looks"][: len(looks) - 2] == looks[:-2]


def test_a_loss_that_is_no_number_ends_it_with_a_reason(trained_from: Office) -> None:
    version = requested(trained_from, learning_rate=1e30)
    assert retriever.start(trained_from.settings, version).wait(120) == 1
    failed = stored(trained_from, version)
    assert failed.state == "failed"
    assert "lower learning rate" in failed.reason


def test_what_is_not_better_is_kept_and_not_used(office: Office, tmp_path: Path) -> None:
    office.fill(80)
    with office.assistant.database.writer() as connection:
        worse = versions.request(
            connection, VersionKind.EMBEDDER, base="x", dataset_hash=None, recipe={}, by="ann"
        )
        versions.finish(connection, worse, {})
    tiny_embedder.folder(office.settings.models_folder, worse.name, office.tokenizer)
    verdict = retriever.decide(office.assistant, worse.name, by="ann", progress=quiet)
    assert "not surely better on 8 held-out questions" in verdict.reasons[0]
    after = stored(office, worse)
    assert after.state == "rejected"
    assert after.reason == verdict.reasons[0]
    assert office.assistant.live()[0].name == office.settings.embedder


def beir_folder(place: Path) -> Path:
    """What anybody's embedder finds."""
    (place / "qrels").mkdir(parents=True)
    texts = [
        f"{word} and nothing else, said once" for word in ("apples", "rivers", "engines", "letters", "snow")
    ]
    lines = [json.dumps({"_id": str(n), "title": "", "text": text}) for n, text in enumerate(texts)]
    (place / "corpus.jsonl").write_text("\n".join(lines))
    asked = ("fruit", "a stream", "motors", "mail", "cold weather")
    lines = [json.dumps({"_id": f"q{n}", "text": text}) for n, text in enumerate(asked)]
    (place / "queries.jsonl").write_text("\n".join(lines))
    rows = "".join(f"q{n}\t{n}\t1\n" for n in range(len(asked)))
    (place / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return place


def test_the_command_trains_promotes_and_goes_back(
    trained_from: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = trained_from
    for name, value in environment(office.settings).items():
        if name.startswith("DESKHAND_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setattr("assistant.surfaces.terminal.settings", lambda: office.settings)

    def run(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(cli.app, ["tune", "retriever", *words, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    made = run(*(word for name, value in HOW.items() for word in ("--set", f"{name}={value}")))
    assert made["state"] == "candidate"
    general = beir_folder(tmp_path / "general")
    with monkeypatch.context() as strict:
        strict.setattr(retriever, "FORGOTTEN", -1.0)  # as if it were worse by that much
        told = run("--promote", made["name"], "--general", str(general))
    assert "general loses" in told["reasons"][0]
    assert set(told["general"]["general"]) == {"before", "after"}
    assert run("--status")["live"] == office.settings.embedder
    told = run("--promote", made["name"])
    assert not told["reasons"]
    assert told["live"] == made["name"]
    status = run("--status")
    assert status["chunks"]["done"] == status["chunks"]["total"] > 96
    assert [v["state"] for v in status["versions"]] == ["live"]
    assert run("--back")["live"] == office.settings.embedder
    assert [v["state"] for v in run("--status")["versions"]] == ["retired"]


def test_a_folder_of_questions_does_as_well(trained_from: Office, tmp_path: Path) -> None:
    """As of their dates; the last are held out."""
    place = tmp_path / "set"
    (place / "qrels").mkdir(parents=True)
    articles = [{"_id": t, "title": f"About {t}", "text": f"How {t} work, and what fails."} for t in TOPICS]
    (place / "corpus.jsonl").write_text("\n".join(map(json.dumps, articles)))
    asked = [
        {
            "_id": f"q{n}",
            "text": f"The {JARGON[n % 8]} fails again {n}",
            "metadata": {"created": days(n).isoformat()},
        }
        for n in range(120)
    ]
    (place / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)))
    rows = "".join(f"q{n}\t{TOPICS[n % 8]}\t1\n" for n in range(120))
    (place / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    made = train(trained_from, requested(trained_from, pairs=[str(place)]))
    assert made.state == "candidate"
    assert made.metrics["questions"] == {"train": 102, "development": 6}
    ids = trained_from.ids()
    with trained_from.assistant.database.writer() as connection:
        assert versions.trained_on(connection, list(ids.values())) == [], "none of the desk's"


def test_too_little_to_learn_from_is_said_before_any_work(trained_from: Office) -> None:
    version = requested(trained_from, pairs=["desk"])
    with trained_from.assistant.database.owner() as connection:
        connection.execute(b"update document set url = '' where kind = 'document'")
    assert retriever.start(trained_from.settings, version).wait(120) == 1
    failed = stored(trained_from, version)
    assert failed.state == "failed"
    assert "Only 0 questions" in failed.reason
