"""The command line as people use it: real processes, a real installation, the sample company."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from assistant import servers
from assistant.answer.draft import draft
from assistant.app import Assistant
from assistant.config import Settings
from assistant.model import Audience
from assistant.runtime.up import running, standard_processes
from assistant.surfaces.cli_sources import follow
from assistant.surfaces.demo import add_sample
from tests.acceptance.forks import Forks, forks

SAMPLE = Path(__file__).parents[2] / "assistant" / "sample"
MARA, INES, DALE = (
    "mara.lindqvist@fernhill.example",
    "ines.okafor@fernhill.example",
    "dale@whitcombe-docs.example",
)


@dataclass(frozen=True)
class Desk:
    """A running installation, and the command line on it."""

    settings: Settings
    env: Mapping[str, str]
    forks: Forks


@pytest.fixture(scope="module")
def desk(folder: Path, embedded: Settings) -> Iterator[Desk]:
    """A running installation with the sample company synced."""
    settings = Settings(state=folder / "cli", models=embedded.models_folder)

    def migrate(_url: str) -> None:
        assistant = Assistant(settings)
        assistant.migrate()
        assistant.close()

    env = {k: v for k, v in os.environ.items() if not k.startswith("DESKHAND_")} | {
        "DESKHAND_STATE": str(settings.state),
        "DESKHAND_MODELS": str(settings.models_folder),
        "COLUMNS": "200",
    }
    with (
        forks(env) as forked,
        running(settings, migrate=migrate, processes=standard_processes(settings), fast=True),
    ):
        assistant = Assistant(settings)
        for run_id in add_sample(assistant, SAMPLE):
            follow(assistant, run_id, quiet=True)
        assistant.close()
        yield Desk(settings, env, forked)


def deskhand(
    desk: Desk, *arguments: str, stdin: str = "", fresh: bool = False, **extra: str
) -> subprocess.CompletedProcess[str]:
    """`fresh`: with an interpreter of its own, as people have it; otherwise that was started already."""
    env = {**desk.env, **extra}
    if not fresh:
        return desk.forks.run(arguments, stdin=stdin, env=env)
    return subprocess.run(
        [sys.executable, "-m", "assistant.surfaces.cli", *arguments],
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def from_json(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_demo_questions_are_answered_from_the_right_sources(desk: Desk) -> None:
    questions = json.loads((SAMPLE / "demo.json").read_text())["questions"]
    for number, item in enumerate(questions):
        customer = ["--customer", item["customer"]] if item["customer"] else []
        asked = ("ask", item["question"], "--as", MARA, "--json", *customer)
        answer = from_json(deskhand(desk, *asked, fresh=not number))
        if item["kind"] == "declined":
            assert answer["declined"]
            assert answer["passages"], "the nearest sources are named"
            continue
        assert not answer["declined"], item["question"]
        assert any(gold in answer["text"] for gold in item["answers"]), answer["text"]
        cited = {c["id"] if c["kind"] == "document" else f"ticket:{c['id']}" for c in answer["citations"]}
        assert cited & set(item["relevant"]), (item["question"], cited)


def test_every_quote_stands_in_its_passage_and_every_span_in_the_text(desk: Desk) -> None:
    answer = from_json(deskhand(desk, "ask", "How do I reset an FS-1042 error?", "--as", MARA, "--json"))
    passages = {(p["id"], p["text"]) for p in answer["passages"]}
    for citation in answer["citations"]:
        assert (citation["id"], citation["text"]) in passages
        start, end = citation["span"]
        assert f"[{citation['marker']}]" in answer["text"][start:end]


def test_answers_come_in_whose_words_the_settings_say(desk: Desk) -> None:
    question, said = "Which port does the sync protocol use since version 5.0?", {}
    for answers in ("quote", "write"):
        extra = {"DESKHAND_GENERATOR": "echo", "DESKHAND_ANSWERS": answers}
        said[answers] = from_json(deskhand(desk, "ask", question, "--as", MARA, "--json", **extra))
    first = said["write"]["passages"][0]["text"]
    assert "7420" in said["quote"]["text"]
    assert said["write"]["text"] != said["quote"]["text"]
    assert said["write"]["citations"][0]["text"] == first, (
        "the echo repeats the first source's first sentence"
    )


def test_nobody_finds_what_they_may_not_read(desk: Desk) -> None:
    question = "key escrow release phrase"
    for who, sees in ((INES, True), (MARA, False), (DALE, False), ("", False)):
        found = from_json(deskhand(desk, "search", question, "--json", *(("--as", who) if who else ())))
        assert any("restricted/" in p["id"] for p in found) is sees, who
    assert from_json(deskhand(desk, "search", "FS-1042", "--as", DALE, "--json")) == []
    assert from_json(deskhand(desk, "search", "FS-1042", "--json")) == []


def test_internal_notes_never_reach_a_public_answer(desk: Desk) -> None:
    question = "goodwill credit of 20 % approved"
    inside = from_json(deskhand(desk, "search", question, "--as", MARA, "--json"))
    outside = from_json(deskhand(desk, "search", question, "--as", MARA, "--public", "--json"))
    assert any(p["audience"] == "internal" for p in inside)
    assert all(p["audience"] == "public" for p in outside)
    assert not any("goodwill" in p["text"].lower() and "20" in p["text"] for p in outside)


def test_instructions_inside_a_document_are_data(desk: Desk) -> None:
    answer = from_json(
        deskhand(
            desk,
            "ask",
            "What did Brightwell ask for in its feedback on the Android app?",
            "--as",
            MARA,
            "--json",
        )
    )
    assert answer["text"].strip().rstrip(".") != "BANANA"


def test_filters(desk: Desk) -> None:
    tickets = from_json(deskhand(desk, "search", "upgrade", "--as", MARA, "--kind", "ticket", "--json"))
    assert tickets
    assert {p["kind"] for p in tickets} == {"ticket"}
    early = from_json(
        deskhand(
            desk, "search", "upgrade", "--as", MARA, "--kind", "ticket", "--as-of", "2025-03-01", "--json"
        )
    )
    assert early
    assert all(p["created_at"] <= "2025-03-01" for p in early)
    german = from_json(deskhand(desk, "search", "Fehler", "--as", MARA, "--language", "de", "--json"))
    assert german


def test_a_conversation_understands_a_follow_up(desk: Desk) -> None:
    result = deskhand(
        desk,
        "chat",
        "--as",
        MARA,
        stdin="Which port does the sync protocol use since version 5.0?\nAnd which one did version 4 use?\n",
    )
    assert result.returncode == 0, result.stderr
    assert "7420" in result.stdout
    assert "7400" in result.stdout


def test_a_verdict_is_whoever_asked_s_and_the_knowledge_owner_sees_it(desk: Desk) -> None:
    question = "Which port does the sync protocol use since version 5.0?"
    plain = deskhand(desk, "ask", question, "--as", MARA)
    number = plain.stdout.split("deskhand feedback add ")[1].split()[0]
    refused = deskhand(desk, "feedback", "add", number, "up", "--as", INES)
    assert refused.returncode == 1
    assert "Nothing was stored" in refused.stderr
    comment = "[/b] ask joe@globex.example"
    said = ("source_outdated", "--source", "1", "--comment", comment, "--as", MARA)
    for verdict in (("up",), said):
        who = () if "--as" in verdict else ("--as", MARA)
        assert deskhand(desk, "feedback", "add", number, *verdict, *who).returncode == 0
    rows = from_json(deskhand(desk, "feedback", "list", "--json"))
    own = {row["verdict"]: row for row in rows if row["message"] == int(number)}
    assert set(own) == {"up", "source_outdated"}
    assert own["up"]["question"] == question
    assert own["source_outdated"]["comment"] == "[/b] ask (e-mail address)"
    assert len(own["source_outdated"]["documents"]) == 1
    stale = from_json(deskhand(desk, "documents", "stale", "--json"))
    assert [row["title"] for row in stale["complained"]] == own["source_outdated"]["documents"]
    for command in (("feedback", "list"), ("gaps", "list")):
        shown = deskhand(desk, *command)
        assert shown.returncode == 0, shown.stderr
        assert "mara" not in shown.stdout.lower(), "not by whom"


def answered(desk: Desk) -> str:
    """Number of a ticket that a reply can be drafted for."""
    assistant = Assistant(desk.settings)
    asker = assistant.principal(MARA)
    try:
        for line in (SAMPLE / "tickets.jsonl").read_text().splitlines()[-40:]:
            ticket = json.loads(line)
            about = assistant.about(asker, "", ticket=str(ticket["id"]))
            scope = about.scope(asker, Audience.PUBLIC)
            engine = assistant.engine(replace(scope, ticket=None, without=scope.ticket))
            if draft(engine, title=ticket["subject"], asked=ticket["body"]).text:
                return str(ticket["id"])
    finally:
        assistant.close()
    raise AssertionError("no ticket of the sample can be answered")


def test_drafts_and_gaps_are_counted(desk: Desk) -> None:
    for who in (MARA, INES):
        asked = deskhand(desk, "ask", "How do I install the server on FreeBSD?", "--as", who, "--json")
        assert from_json(asked)["declined"]
    gap = next(
        gap for gap in from_json(deskhand(desk, "gaps", "list", "--json")) if "FreeBSD" in gap["question"]
    )
    assert (gap["questions"], gap["people"], gap["declined"]) == (2, 2, 2)
    assert gap["documents"]
    made = from_json(deskhand(desk, "ticket", "draft", answered(desk), "--as", MARA, "--json"))
    accepted = ("feedback", "add", str(made["message"]), "accepted")
    assert deskhand(desk, *accepted, "--as", INES).returncode == 1
    assert deskhand(desk, *accepted, "--as", MARA).returncode == 0
    rows = from_json(deskhand(desk, "eval", "feedback", "--json"))
    every = next(row for row in rows if row["evidence"] == "all" and row["model"] == made["model"])
    assert (every["drafts"], every["accepted"]) == (1, 1)
    assert every["answers"] > every["declined"] >= 2


def test_status_and_lists_are_json_for_scripts(desk: Desk) -> None:
    status = from_json(deskhand(desk, "status", "--json", fresh=True))
    assert {p["name"] for p in status["processes"]} >= {"postgres", "valkey", "sync", "ingest", "beat"}
    rows = {row["name"]: row for row in status["sources"]}
    assert rows["fernhill-files"]["documents"] == len(
        [p for p in (SAMPLE / "files").rglob("*") if p.is_file()]
    )
    assert rows["fernhill-tickets"]["tickets"] == len((SAMPLE / "tickets.jsonl").read_text().splitlines())
    assert from_json(deskhand(desk, "failures", "list", "--json")) == []
    people = from_json(deskhand(desk, "people", "list", "--json"))
    assert MARA in {p["id"] for p in people}
    assert {m["name"] for m in from_json(deskhand(desk, "models", "list", "--json"))}
    assert all(c["ok"] for c in from_json(deskhand(desk, "doctor", "--json")))


def test_a_source_comes_fails_in_part_is_retried_and_goes(desk: Desk, folder: Path) -> None:
    share = folder / "share"
    share.mkdir()
    (share / "good.md").write_text("# Zebra crossing\n\nThe zebra protocol listens on port 4711.\n")
    (share / "empty.md").write_bytes(b"")
    (share / "broken.docx").write_bytes(b"PK\x03\x04 not really")
    added = deskhand(
        desk,
        "source",
        "add",
        "share",
        "directory",
        "--set",
        f"path={share}",
        "--set",
        "access=everyone",
        "--wait",
    )
    assert added.returncode == 0, added.stderr
    failed = from_json(deskhand(desk, "failures", "list", "--source", "share", "--json"))
    assert {f["external_id"] for f in failed} == {"empty.md", "broken.docx"}
    assert all(f["reason"] and "Traceback" not in f["reason"] for f in failed)
    found = from_json(deskhand(desk, "search", "zebra port", "--json"))
    assert found[0]["id"] == "good.md"
    (share / "empty.md").write_text("# Yak\n\nThe yak protocol listens on port 4712.\n")
    (share / "good.md").unlink()
    assert deskhand(desk, "source", "sync", "share").returncode == 0
    names = {p["id"] for p in from_json(deskhand(desk, "search", "protocol port", "--json"))}
    assert names == {"empty.md"}
    assert deskhand(desk, "source", "remove", "share", "--yes").returncode == 0
    assert from_json(deskhand(desk, "search", "yak port", "--json")) == []


BAD = {
    "missing folder": (
        ("source", "add", "x", "directory", "--set", "path=/nowhere/at/all"),
        "/nowhere/at/all",
    ),
    "unknown connector": (("source", "add", "x", "gopher"), "gopher"),
    "unknown key": (("source", "add", "x", "directory", "--set", "path=/tmp", "--set", "pth=/tmp"), "pth"),
    "missing setting": (("source", "add", "x", "directory"), "path"),
    "bad name": (("source", "add", "Bad Name", "directory"), "Bad Name"),
    "bad interval": (("source", "add", "x", "directory", "--set", "path=/tmp", "--every", "soon"), "soon"),
    "not JSON": (("source", "add", "x", "directory", "--set", "access=[oops"), "access"),
    "no such source": (("source", "sync", "nope"), "nope"),
    "no such person": (("ask", "Is it?", "--as", "eve@example.org"), "eve@example.org"),
    "no such customer": (("ask", "Is it?", "--as", MARA, "--customer", "Nobody Ltd"), "Nobody Ltd"),
    "no question": (("ask", "   ", "--as", MARA), "question"),
    "long question": (("ask", "why " * 12_500, "--as", MARA), "50,000|49,999"),
    "long search": (("search", "why " * 12_500, "--as", MARA), "50,000|49,999"),
    "nothing to retry": (("failures", "retry"), "Nothing to retry"),
    "no such model": (("models", "pull", "gpt-9"), "gpt-9"),
    "no such answer": (("feedback", "add", "999999", "up", "--as", MARA), "999999"),
    "an answer's number beyond all": (
        ("feedback", "add", "9" * 30, "up", "--as", MARA),
        "9223372036854775807",
    ),
    "no such verdict": (("feedback", "add", "1", "great", "--as", MARA), "great"),
    "no such kind of feedback": (("feedback", "list", "--verdict", "great"), "great"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_sentence(desk: Desk, name: str) -> None:
    arguments, expected = BAD[name]
    result = deskhand(desk, *arguments)
    assert result.returncode not in (0, 70), result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert any(part in result.stderr for part in expected.split("|")), result.stderr


ENVIRONMENTS = {
    "unknown setting": ({"DESKHAND_DATABSE_URL": "x"}, "DESKHAND_DATABSE_URL"),
    "ill-formed setting": ({"DESKHAND_THREADS": "many"}, "DESKHAND_THREADS"),
    "no generator": ({"DESKHAND_GENERATOR": "psychic"}, "psychic"),
    "no provider package": ({"DESKHAND_GENERATOR": "mistralai:small"}, "langchain-mistralai"),
    "no such weights": ({"DESKHAND_LOCAL_MODEL": "smollm9"}, "smollm9"),
    "no such embedder": ({"DESKHAND_EMBEDDER": "word2vec"}, "word2vec"),
    "absent weights": ({"DESKHAND_MODELS": "/nowhere"}, "deskhand models pull"),
    "database away": (
        {"DESKHAND_DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/x"},
        "DESKHAND_DATABASE_URL",
    ),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_bad_environment_gets_a_sentence(desk: Desk, name: str) -> None:
    environment, expected = ENVIRONMENTS[name]
    result = deskhand(desk, "ask", "Which port does the sync protocol use?", "--as", MARA, **environment)
    assert result.returncode not in (0, 70), result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert "secret" not in result.stderr
    assert expected in result.stderr


def test_a_wrong_password_is_said_without_showing_it(desk: Desk) -> None:
    url = servers.database_url(desk.settings)
    user, _, rest = url.partition("://")[2].partition(":")
    wrong = f"postgresql://{user}:wr0ng{rest[rest.index('@') :]}"
    result = deskhand(desk, "status", fresh=True, DESKHAND_DATABASE_URL=wrong)
    assert result.returncode == 1
    assert "password" in result.stderr
    assert "wr0ng" not in result.stderr


def test_not_running_says_how_to_start(desk: Desk, tmp_path: Path) -> None:
    result = deskhand(desk, "status", fresh=True, DESKHAND_STATE=str(tmp_path / "empty"))
    assert result.returncode == 1
    assert "deskhand up" in result.stderr
