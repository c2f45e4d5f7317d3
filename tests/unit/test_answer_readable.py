"""A quoted answer reads like one: whole sentences in their order, and nothing but the matter."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

import pytest

from assistant.answer import cite, extract
from assistant.answer.engine import DeskQueryEngine, Strategy
from assistant.answer.extract import Stretch
from assistant.generate.echo import EchoChat
from assistant.model import Kind, Passage
from assistant.surfaces.answers import Runs
from assistant.text.shape import without_greeting
from tests.unit.test_answer_engine import Given

PORT = (
    "Hi Ana,\nany free sync port above 1024 works. In /etc/desk/server.ini, section [network]:\n\n"
    "sync_port = 17420\n\nand restart desk-syncd, then clients ask the web address within 10 minutes.\n\n"
    "Which client versions have you got? `deskctl device list --group-by version`\nTomasz"
)
QUESTION = "Which sync port can the clients use?"


def reply(text: str, number: int = 1, *, role: str = "agent", score: float = 0.7) -> Passage:
    written = dt.datetime(2026, 1, number, tzinfo=dt.UTC)
    return Passage(
        number, 1, text, "Sync port blocked", "", Kind.TICKET, score, cosine=score, role=role, created_at=written
    )  # fmt: skip


def quoted(question: str, passages: Sequence[Passage]) -> list[Stretch]:
    return extract.choose(extract.read(question, passages), question=question)


def said(question: str, *texts: str) -> list[str]:
    passages = [reply(text, number) for number, text in enumerate(texts, 1)]
    return [sentence for stretch in quoted(question, passages) for sentence in stretch.sentences]


def test_a_greeting_is_no_part_of_the_sentence_and_what_is_left_still_holds():
    text = "Hi Cem, look at the second number: the block store has 0.4 % inodes."
    (stretch,) = quoted("Why is the block store full?", [reply(text)])
    assert stretch.sentences == ("Look at the second number: the block store has 0.4 % inodes.",)
    assert stretch.quotes[0] in text
    assert cite.support(stretch.sentences[0], cite.Source(text)).holds


@pytest.mark.parametrize(
    ("sentence", "left"),
    [
        ("Dear Ms Brandt, yes: 4.2 is supported.", "4.2 is supported."),
        ("Hello Dot, the disk is full.", "The disk is full."),
        ("Good morning Elif. The disk is full.", "The disk is full."),
        ("Hi Ana, deskctl_sync --now helps.", "deskctl_sync --now helps."),
        ("Hint: the disk is full.", "Hint: the disk is full."),
        ("Hello World programs print a line.", "Hello World programs print a line."),
        ("Backup guide - 2026-06-02 - page 2 3 Import the key.", "Import the key."),
    ],
)
def test_only_the_greeting_goes(sentence, left):
    assert without_greeting(sentence) == left


@pytest.mark.parametrize(
    "polite",
    ["Good question, the sync port table only mentions clients.", "I've passed the sync port on to the clients.",
     "Thanks for the log of the sync port and the clients.", "Sorry that the clients lost the sync port.",
     "Which sync port do the clients use now?"],
)  # fmt: skip
def test_what_is_said_for_politeness_is_left_out(polite):
    found = said(QUESTION, f"{polite} The clients use sync port 17420.")
    assert found == ["The clients use sync port 17420."]


def test_an_answer_never_begins_in_the_middle_of_a_sentence():
    found = said("How do clients ask the web address within 10 minutes?", PORT)
    assert found[-1] == "and restart desk-syncd, then clients ask the web address within 10 minutes."
    assert found[-2] == "sync_port = 17420"
    assert found[0] == "In /etc/desk/server.ini, section [network]:"


def test_however_much_leads_to_a_line_of_code_a_stretch_stays_short():
    settings = "\n\n".join(f"port_{number} = {number}" for number in range(500))
    stretches = quoted("What is port_499 = 499 for?", [reply(f"Ports of the desk:\n\n{settings}")])
    assert sum(len(sentence) for stretch in stretches for sentence in stretch.sentences) <= 3 * extract.LENGTH


def test_a_sentence_that_was_cut_off_at_the_start_of_a_document_is_not_shown():
    text = "not get lost when the disk is full. The block store is read-only until space is free."
    passage = Passage(1, 1, text, "Guide", "", Kind.DOCUMENT, 0.7, cosine=0.7)
    (stretch,) = quoted("When is the block store read-only?", [passage])
    assert stretch.sentences == ("The block store is read-only until space is free.",)


def test_code_comes_with_the_line_that_leads_to_it_and_on_a_line_of_its_own():
    (stretch,) = quoted("Which section has sync_port = 17420?", [reply(PORT)])
    at = stretch.sentences.index("sync_port = 17420")
    assert stretch.sentences[at - 1] == "In /etc/desk/server.ini, section [network]:"
    assert stretch.breaks[at]


def test_a_question_goes_with_the_command_that_was_asked_for():
    found = said(QUESTION, PORT)
    assert not any(
        "versions" in sentence or "deskctl" in sentence or "Tomasz" in sentence for sentence in found
    )


def test_replies_of_a_ticket_stand_in_the_order_they_were_written():
    first = "Any sync port above 1024 is free for use."
    then = "Now set the sync port of the clients that you use to 17420 on each kiosk."
    stretches = quoted(QUESTION, [reply(then, 2, score=0.8), reply(first, 1, score=0.7)])
    assert [stretch.sentences[0] for stretch in stretches] == [first, then]
    assert [stretch.marker for stretch in stretches] == [2, 1]


def test_what_adds_nothing_is_left_out():
    other = replace(reply("A scrub of the disks runs on Sundays at night.", 2), document_id=2)
    found = quoted("Which sync port do clients use?", [reply("Clients use sync port 17420."), other])
    assert [stretch.sentences for stretch in found] == [("Clients use sync port 17420.",)]


def test_every_sentence_keeps_its_citation_and_a_terminal_shows_one_for_a_run():
    engine = DeskQueryEngine(Given([reply(PORT)]), EchoChat(), strategy=Strategy.QUOTE, threshold=0)
    answer = engine.answer("How do clients ask the web address within 10 minutes?")
    assert len(answer.citations) == answer.text.count("[1]") > 2
    for citation in answer.citations:
        assert answer.text[slice(*citation.span)].endswith("[1]")
    runs = Runs()
    shown = "".join(runs.add(line) for line in answer.text.splitlines(keepends=True)) + runs.held
    assert shown.count("[1]") < answer.text.count("[1]")


def test_a_marker_is_shown_where_the_source_changes():
    runs = Runs()
    shown = [runs.add(text) for text in ("One. [1]", " Two. [1]", "\nThree. [1][2]", " Four. [2]")]
    assert "".join(shown) + runs.held == "One. Two. [1]\nThree. [1][2] Four. [2]"
    assert shown[:2] == ["One.", " Two."]
