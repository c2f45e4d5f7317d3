"""The sample company must stay coherent: the demo and the evaluation rest on it."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from email import policy
from email.parser import BytesParser
from functools import cache
from pathlib import Path
from typing import Any

import kreuzberg
import pytest

SAMPLE = Path(__file__).parents[2] / "assistant" / "sample"
FILES = sorted(path.relative_to(SAMPLE / "files").as_posix() for path in (SAMPLE / "files").rglob("*.*"))


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLE / name).read_text(encoding="utf-8").splitlines()]


TICKETS = {ticket["id"]: ticket for ticket in lines("tickets.jsonl")}
QUESTIONS = lines("questions.jsonl")
DEMO = json.loads((SAMPLE / "demo.json").read_text(encoding="utf-8"))["questions"]


@cache
def text_of(relevant: str) -> str:
    """The plain text of a document or ticket, white space made uniform."""
    if relevant.startswith("ticket:"):
        ticket = TICKETS[int(relevant[7:])]
        text = "\n".join([ticket["subject"], ticket["body"], *(reply["body"] for reply in ticket["replies"])])
    else:
        path = SAMPLE / "files" / relevant
        if path.suffix == ".eml":
            body = BytesParser(policy=policy.default).parsebytes(path.read_bytes()).get_body(("plain",))
            assert body is not None
            text = body.get_content()
        elif path.suffix in (".md", ".csv"):
            text = path.read_text(encoding="utf-8")
        else:
            text = kreuzberg.extract_file_sync(path).content
    return re.sub(r"\s+", " ", text.replace("\\", ""))


def test_tickets_are_unique_and_in_order() -> None:
    assert len(TICKETS) == len(lines("tickets.jsonl")) >= 200
    created = [ticket["created"] for ticket in TICKETS.values()]
    assert created == sorted(created)
    replies = [reply["id"] for ticket in TICKETS.values() for reply in ticket["replies"]]
    assert len(replies) == len(set(replies))


@pytest.mark.parametrize("ticket", TICKETS.values(), ids=str)
def test_a_ticket_is_coherent(ticket: dict[str, Any]) -> None:
    assert ticket["url"].endswith(f"/{ticket['id']}")
    times = [ticket["created"], *(reply["created"] for reply in ticket["replies"]), ticket["updated"]]
    assert times == sorted(times)
    status = "open"
    for event in ticket["events"]:
        assert event["from"] == status
        assert ticket["created"] <= event["at"] <= ticket["updated"]
        status = event["to"]
    assert status == ticket["status"]
    assert ticket["subject"]
    assert all(reply["body"] for reply in ticket["replies"])
    assert all(
        reply["public"] and reply["role"] == "agent" for reply in ticket["replies"] if reply["is_solution"]
    )
    assert "{#" not in json.dumps(ticket)
    emails = [
        ticket["requester"]["email"],
        ticket["assignee"],
        *(reply["email"] for reply in ticket["replies"]),
    ]
    assert all(email.endswith(".example") for email in emails)


def test_a_version_is_never_used_before_its_release() -> None:
    with (SAMPLE / "files/releases/release-dates.csv").open(encoding="utf-8") as file:
        released = {row["version"]: row["released"] for row in csv.DictReader(file)}
    for ticket in TICKETS.values():
        assert released.get(ticket["version"], "") <= ticket["created"][:10], ticket["id"]


@pytest.mark.parametrize("name", FILES)
def test_a_document_can_be_read(name: str) -> None:
    assert len(text_of(name)) > 300


def test_every_format_is_there() -> None:
    formats = Counter(Path(name).suffix for name in FILES)
    assert (
        min(formats[f".{kind}"] for kind in ("md", "html", "docx", "pdf", "xlsx", "pptx", "eml", "csv")) >= 3
    )
    assert sum(path.stat().st_size for path in (SAMPLE / "files").rglob("*.*")) < 3_000_000


def test_who_may_read_what() -> None:
    users = {
        user["id"]: user["groups"] for user in json.loads((SAMPLE / "directory.json").read_text())["users"]
    }
    assert sorted(users.values()) == [[], ["support"], ["support"], ["support"], ["support", "security"]]
    assert len([name for name in FILES if name.startswith("restricted/")]) == 2


def test_what_is_restricted_stands_nowhere_else() -> None:
    public = " ".join(text_of(name) for name in FILES if not name.startswith("restricted/"))
    public += (SAMPLE / "tickets.jsonl").read_text(encoding="utf-8")
    for secret in ("FHSA-2026-05", "Copperleaf", "release phrase", "VK-07"):
        assert secret not in public


@pytest.mark.parametrize("question", [*QUESTIONS, *DEMO], ids=lambda question: question["id"])
def test_the_gold_answer_stands_in_each_relevant_source(question: dict[str, Any]) -> None:
    assert bool(question["answers"]) == bool(question["relevant"])
    for relevant in question["relevant"]:
        assert all(answer.lower() in text_of(relevant).lower() for answer in question["answers"]), relevant
    organisations = {ticket["organisation"]["id"] for ticket in TICKETS.values()}
    assert question["customer"] is None or question["customer"] in organisations


def test_the_questions_are_mixed() -> None:
    assert len({question["id"] for question in QUESTIONS}) == 80
    assert Counter(question["needs"] for question in QUESTIONS) == {
        "document": 25,
        "ticket": 21,
        "history": 20,
        "none": 14,
    }
    assert [question["kind"] for question in DEMO] == ["document", "ticket", "history", "declined"]


def test_the_json_files_follow_from_their_sources(tmp_path: Path) -> None:
    copy = shutil.copytree(SAMPLE, tmp_path / "sample", ignore=shutil.ignore_patterns("files", "__pycache__"))
    subprocess.run([sys.executable, copy / "build.py", "tickets"], check=True)
    for name in ("tickets.jsonl", "questions.jsonl", "demo.json"):
        assert (copy / name).read_bytes() == (SAMPLE / name).read_bytes(), f"run build.py: {name} is stale"
