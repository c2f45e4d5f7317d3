"""Real office files, sound ones and hostile ones: each gives text or a reason, none harms the worker."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from assistant.config import Settings
from assistant.errors import ItemError
from assistant.ingest.parse import Parser
from assistant.model import Access, Kind, SourceDocument
from tests.conftest import PROJECT

DATA = Path(os.environ.get("DESKHAND_TEST_DATA", PROJECT.parent / "shared" / "data")) / "officefiles"
SECONDS = 20
MEMORY = 1_500_000_000

# What a file may fail for without any fault of ours, by the words of its reason.
HONEST = {
    "no text in it": "blank or pictures only",
    "encrypted": "encrypted",
    "before 97": "older than Office 97",
    "format is unknown": "unknown format",
    "damaged": "damaged",
}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no office files at {DATA}")


@dataclass(frozen=True)
class Outcome:
    folder: str
    file: str
    reason: str
    """empty: it gave text"""
    seconds: float
    memory: int
    """bytes that the parser's processes hold for themselves, and what this one has grown by"""


def _document(file: Path) -> SourceDocument:
    return SourceDocument(
        external_id=file.name,
        kind=Kind.DOCUMENT,
        title=file.name,
        body=file.read_bytes(),
        revision="1",
        access=Access.public(),
        metadata={"path": file.name},
    )


def _memory() -> dict[int, int]:
    """Bytes by process: this one, which other tests filled before, and its children.

    Without what processes share: libraries, and all that a child has of us until it becomes another program.
    """
    us = psutil.Process()
    found: dict[int, int] = {}
    for process in (us, *us.children()):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            found[process.pid] = process.memory_full_info().uss
    return found


def _parsed(parser: Parser, file: Path, before: dict[int, int]) -> Outcome:
    document = _document(file)
    started = time.monotonic()
    reason = ""
    try:
        sections = parser.parse(document).sections
        assert all(section.text.strip() for section in sections)
        "".join(section.text for section in sections).encode()
    except ItemError as error:
        said = str(error)
        reason = next((short for words, short in HONEST.items() if words in said), said)
    memory = sum(max(0, size - before.get(pid, 0)) for pid, size in _memory().items())
    return Outcome(file.relative_to(DATA).parts[0], file.name, reason, time.monotonic() - started, memory)


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    before = _memory()
    with Parser(Settings(parse_seconds=SECONDS)) as parser:
        return [_parsed(parser, file, before) for file in sorted(DATA.rglob("*")) if file.is_file()]


def test_each_file_gives_text_or_a_reason(outcomes: list[Outcome]) -> None:
    table = Counter((outcome.folder, outcome.reason or "text") for outcome in outcomes)
    print()
    for (folder, result), count in sorted(table.items(), key=lambda row: (row[0][0], -row[1])):
        print(f"{folder:8} {count:4}  {result}")
    assert len(outcomes) > 300
    assert {outcome.reason for outcome in outcomes} <= {"", *HONEST.values()}


def test_sound_files_give_their_text(outcomes: list[Outcome]) -> None:
    """Of those that have any, are open to read and newer than 1997."""
    readable = [
        outcome for outcome in outcomes if outcome.folder == "normal" and outcome.reason in {"", "damaged"}
    ]
    failed = [outcome.file for outcome in readable if outcome.reason]
    assert len(failed) <= 0.05 * len(readable), failed
    assert len(readable) > 250


@pytest.mark.parametrize("suffix", ["pdf", "docx"])
def test_pages_are_told_where_the_format_has_them(suffix: str) -> None:
    file = DATA / "normal" / "terrier" / f"document.{suffix}"
    with Parser(Settings()) as parser:
        sections = parser.parse(_document(file)).sections
    assert [section.page for section in sections] == [1, 2]
    assert sections[1].text.startswith("Stet clita kasd")


def test_none_takes_all_time_or_memory(outcomes: list[Outcome]) -> None:
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    largest = max(outcomes, key=lambda outcome: outcome.memory)
    print(
        f"\nslowest {slowest.seconds:.2f} s, {slowest.file}; largest {largest.memory >> 20} MB, {largest.file}"
    )
    assert slowest.seconds < SECONDS + 5
    assert largest.memory < MEMORY
