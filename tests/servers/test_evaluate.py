"""`deskhand eval` against a real PostgreSQL with the real embedder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from assistant import config, ingest, log, servers
from assistant.app import Assistant
from assistant.config import Settings
from assistant.evaluate import beir, scratch
from assistant.model import Principal
from assistant.retrieve.fusion import Legs
from assistant.store import sources
from assistant.store.sync import commit_batch, commit_memberships
from assistant.surfaces.cli import app
from assistant.weights import State, check

TOPICS = {
    "ports": ("Network ports", "The server listens on port 7420 for the sync protocol."),
    "purge": ("Retention", "A nightly job purges deleted files at half past two."),
    "guests": ("Single sign-on", "Guest users of another tenant need the attribute for their mail address."),
    "lock": ("File locks", "An administrator releases the lock of a colleague on holiday."),
}
QUERIES = {
    "q-ports": ("Which port does sync use?", "ports", "2025-02-01 00:00:00 +0000"),
    "q-purge": ("When are deleted files removed for good?", "purge", "2025-02-01 00:00:00 +0000"),
    "lock": ("How is a file lock released?", "lock", "2025-02-01 00:00:00 +0000"),
    "q-early": ("Which port does sync use?", "ports", "2024-02-01 00:00:00 +0000"),
}


def beir_folder(path: Path) -> Path:
    (path / "qrels").mkdir(parents=True)
    lines = [
        {"_id": name, "title": title, "text": text, "metadata": {"created": "2025-01-01 00:00:00 +0000"}}
        for name, (title, text) in TOPICS.items()
    ]
    (path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "queries.jsonl").write_text(
        "".join(
            json.dumps({"_id": name, "text": text, "metadata": {"created": created}}) + "\n"
            for name, (text, _, created) in QUERIES.items()
        )
    )
    (path / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t1\n" for q, (_, d, _) in QUERIES.items())
    )
    return path


@pytest.fixture
def assistant(settings: Settings) -> Iterator[Assistant]:
    if check(settings.embedder, settings) is not State.PRESENT:
        pytest.skip("the embedding model is not here: `deskhand models pull`")
    made = Assistant(settings, threads=1)
    yield made
    url = servers.database_url(settings)
    scratch.drop(url, scratch.existing(url))
    made.close()


@pytest.fixture
def logs() -> Iterator[None]:
    """Logs as the console script has them: not on standard output."""
    log.configure("ERROR")
    yield
    structlog.reset_defaults()


def quiet(_step: str, _done: int, _total: int) -> None: ...


def test_a_corpus_is_indexed_once_and_searched(assistant: Assistant, tmp_path: Path) -> None:
    from assistant.evaluate import retrieval

    place = beir_folder(tmp_path / "set")
    task = beir.task(place)
    steps: list[str] = []

    def progress(step: str, _done: int, _total: int) -> None:
        steps.append(step)

    with scratch.indexed(assistant, place, progress=progress) as searched:
        runs = {
            legs: retrieval.run(searched, task, legs=legs, principal=Principal("x"), progress=progress)
            for legs in Legs
        }
        assert runs[Legs.DENSE].ranking["q-purge"][0] == "purge"
        assert runs[Legs.BM25].ranking["q-ports"][0] == "ports"
        assert "guests" not in runs[Legs.BM25].ranking["q-ports"], "no word in common"
        assert len(runs[Legs.DENSE].ranking["q-ports"]) == len(TOPICS)
        assert runs[Legs.HYBRID].scores["q-ports"]["ndcg@10"] == 1.0
        assert "lock" not in runs[Legs.HYBRID].ranking["lock"], "a query's own document is left out"
        dated = retrieval.run(
            searched,
            task,
            legs=Legs.HYBRID,
            principal=Principal("x"),
            as_of_field="created",
            progress=progress,
        )
        assert dated.ranking["q-early"] == [], "the corpus is newer than the query"
        assert dated.ranking["q-ports"][0] == "ports"
    assert {"Sync", "Index", "Ask hybrid", "Ask dense", "Ask bm25"} == set(steps)

    steps.clear()
    with scratch.indexed(assistant, place, progress=progress):
        pass
    assert steps == [], "a second run finds everything indexed"
    with scratch.indexed(assistant, place, fresh=True, progress=progress):
        pass
    assert set(steps) == {"Sync", "Index"}


def test_changed_ingest_code_embeds_nothing_again(
    assistant: Assistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = beir_folder(tmp_path / "set")
    with scratch.indexed(assistant, place, progress=quiet):
        pass
    original_code = scratch._code
    monkeypatch.setattr(
        scratch, "_code", lambda package: "another" if package is ingest else original_code(package)
    )
    encoded: list[str] = []
    original = assistant.embedder.encode
    monkeypatch.setattr(assistant.embedder, "encode", lambda texts: encoded.extend(texts) or original(texts))
    with scratch.indexed(assistant, place, progress=quiet) as searched:
        with searched.database.writer() as connection:
            row = connection.execute("select count(*) as n from chunk").fetchone()
        assert row is not None
        assert row["n"] == len(TOPICS)
    assert set(encoded) == {title for title, _ in TOPICS.values()}, "titles only: texts are as they were"


@pytest.mark.usefixtures("logs")
def test_the_command_writes_row_json_and_plot(
    assistant: Assistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.surfaces.terminal.settings", lambda: assistant.settings)
    arguments = ["eval", "retrieval", str(beir_folder(tmp_path / "set")), "--systems", "hybrid,bm25"]
    result = CliRunner().invoke(app, [*arguments, "--json", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert [r["system"] for r in shown["results"]] == ["hybrid", "bm25"]
    file = Path(shown["file"])
    written = json.loads(file.read_text())
    assert written["results"] == shown["results"]
    assert set(written["questions"]["hybrid"]) == set(QUERIES)
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with assistant.database.writer() as connection:
        rows = connection.execute(
            "select kind, dataset, system, metrics from evaluation order by id"
        ).fetchall()
    assert [(r["kind"], r["dataset"], r["system"]) for r in rows] == [
        ("retrieval", "set-test", "hybrid"),
        ("retrieval", "set-test", "bm25"),
    ]
    assert rows[0]["metrics"]["ndcg@10"]["count"] == len(QUERIES)
    url = servers.database_url(assistant.settings)
    assert len(scratch.existing(url)) == 1
    assert CliRunner().invoke(app, ["eval", "clean"]).exit_code == 0
    assert scratch.existing(url) == []


def test_an_unknown_system_is_refused(assistant: Assistant, tmp_path: Path) -> None:
    place = beir_folder(tmp_path / "set")
    result = CliRunner().invoke(app, ["eval", "retrieval", str(place), "--systems", "sparse"])
    assert isinstance(result.exception, config.ConfigError)
    assert "hybrid, dense, bm25" in str(result.exception)


PEOPLE = {
    "users": [
        {"id": "ada@desk.example", "name": "Ada", "groups": ["support"]},
        {"id": "ines@desk.example", "name": "Ines", "groups": ["support", "security"]},
    ],
    "groups": [],
}


def synced(assistant: Assistant, path: Path) -> None:
    """One document for the group support, one for security, read by the real connector."""
    files = path / "files"
    (files / "restricted").mkdir(parents=True)
    (files / "ports.md").write_text("# Ports\n\nThe sync protocol uses port 7420 since version 5.0.\n")
    (files / "restricted" / "escrow.md").write_text(
        "# Key escrow\n\nA deposited storage key is released after a waiting time of 24 hours.\n"
    )
    (path / "people.json").write_text(json.dumps(PEOPLE))
    settings = {
        "path": str(files),
        "people": str(path / "people.json"),
        "access": ["group:support"],
        "access_rules": {"restricted/**": ["group:security"]},
    }
    assistant.migrate()
    with assistant.database.writer() as connection:
        sources.add(
            connection,
            name="files",
            connector="directory",
            realm="desk",
            settings=settings,
            secrets=None,
            every_seconds=None,
        )
        source = sources.get(connection, "files")
        run = sources.request(connection, source)
        connector = assistant.connector(source)
        commit_memberships(connection, source, connector.memberships())
        for batch in connector.sync(None):
            commit_batch(connection, source, run, batch)
        connector.close()
    while assistant.pipeline.run_batch():
        pass


@pytest.mark.usefixtures("logs")
def test_answers_of_the_store_and_of_own_passages(
    assistant: Assistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.surfaces.terminal.settings", lambda: assistant.settings)
    synced(assistant, tmp_path)
    escrow = {
        "question": "After which waiting time is a deposited storage key released?",
        "answers": ["24 hours"],
    }
    lines: list[dict[str, object]] = [
        {
            "id": "ports",
            "question": "Which port does the sync protocol use since version 5.0?",
            "answers": ["7420"],
            "answerable": True,
            "relevant": ["ports.md"],
            "as": "agent",
            "needs": "document",
        },
        {
            **escrow,
            "id": "escrow",
            "answerable": True,
            "relevant": ["restricted/escrow.md"],
            "as": "security",
        },
        {**escrow, "id": "forbidden", "answerable": False, "answers": [], "as": "ada@desk.example"},
        {
            "id": "own",
            "question": "Which colour does the warning lamp have?",
            "answers": ["amber"],
            "answerable": True,
            "passages": ["The warning lamp has the colour amber.", "The fan turns at 900 rpm."],
        },
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = CliRunner().invoke(
        app,
        ["eval", "answers", str(file), "--as", "ada@desk.example", "--json", "--out", str(tmp_path / "out")],
    )
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    written = json.loads(Path(shown["file"]).read_text())
    by_id = {one["id"]: one for one in written["questions"]}
    assert by_id["ports"]["as"] == "ada@desk.example", "`agent` is no group: whoever --as names asks"
    assert by_id["escrow"]["as"] == "ines@desk.example", "somebody of the group security"
    assert [p["id"] for p in by_id["forbidden"]["passages"]] == ["ports.md"]
    assert "24 hours" not in json.dumps(by_id["forbidden"])
    assert {p["text"] for p in by_id["own"]["passages"]} == set(lines[3]["passages"])
    for one in by_id.values():
        assert 0 < one["seconds"][0] <= one["seconds"][1]
    metrics = shown["results"][0]["metrics"]
    assert metrics["retrieved_relevant"] == {"value": 1.0, "low": 1.0, "high": 1.0, "count": 3}
    assert metrics["declined_unanswerable"]["count"] == 1
    assert set(shown["results"][0]["groups"]) == {"document"}
    with assistant.database.writer() as connection:
        rows = connection.execute("select kind, dataset from evaluation").fetchall()
    assert rows == [{"kind": "answers", "dataset": "questions"}]


def test_an_unknown_person_is_named_before_anything_is_asked(assistant: Assistant, tmp_path: Path) -> None:
    from assistant.evaluate import answers, questions

    synced(assistant, tmp_path)
    file = tmp_path / "q.jsonl"
    file.write_text('{"id": "a", "question": "Which port?", "answerable": true, "as": "bob@desk.example"}\n')
    with pytest.raises(config.ConfigError, match=r"bob@desk\.example"):
        answers.run(assistant, questions.load(file), default=Principal("x"), progress=quiet)
