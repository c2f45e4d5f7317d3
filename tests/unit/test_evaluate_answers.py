"""What an answer's marks are, what a line of questions may hold, and retrieval in memory."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.evaluate import questions
from assistant.evaluate.marks import contains, grounded, marks, matches, rouge_l, token_f1
from assistant.evaluate.memory import MemoryRetriever
from assistant.evaluate.questions import Question, Text
from assistant.ingest import embed
from assistant.ingest.chunk import Chunker
from assistant.model import Answer, Citation, Kind, Passage
from assistant.retrieve.nodes import from_node
from assistant.weights import State, check
from tests.paths import MODELS, SAMPLE

PORTS = Passage(
    chunk_id=1,
    document_id=10,
    text="The sync protocol uses port 7420. It was 7400 before version 5.0.",
    title="Network ports",
    url="https://help.example/kb/network-ports.html",
    kind=Kind.DOCUMENT,
    score=1.0,
    external_id="kb/network-ports.html",
)
TICKET = dataclasses.replace(
    PORTS, chunk_id=2, document_id=20, kind=Kind.TICKET, external_id="4321", title="Firewall", url=""
)


def question(**values: Any) -> Question:
    return Question.model_validate(
        {"id": "q", "question": "Which port?", "answers": ["7420"], "answerable": True, **values}
    )


def answer(text: str, *cited: int, refusal: str = "") -> Answer:
    passages = (PORTS, TICKET)
    citations = tuple(Citation(m, passages[m - 1], "", (0, len(text))) for m in cited)
    return Answer(text, citations, 0.9, refusal=refusal, passages=passages)


@pytest.mark.parametrize(
    ("text", "gold", "value"),
    [
        ("7420", "7420", 1.0),
        ("The port is 7420.", "port 7420", 0.8),
        ("An answer, entirely.", "the answer entirely", 1.0),
        ("nothing alike", "7420", 0.0),
        ("", "7420", 0.0),
    ],
)
def test_token_f1(text: str, gold: str, value: float) -> None:
    assert token_f1(text, gold) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("A token has 1,200 units.", "1200"),
        ("Run `fhsctl lock release --user=ada`.", "fhsctl lock release --user"),
        ("Open https://host/login?local=1 then.", "login?local=1"),
        ("Only the [custom_ignore] section.", "[custom_ignore]"),
        ("Ask for Full Disk Access.", "full disk access"),
    ],
)
def test_contains_gold(text: str, gold: str) -> None:
    assert contains(text, gold)


@pytest.mark.parametrize(("text", "gold"), [("It is 145.", "45"), ("Anything.", ""), ("port 742", "7420")])
def test_contains_no_gold(text: str, gold: str) -> None:
    assert not contains(text, gold)


def test_rouge_takes_the_best_gold_answer() -> None:
    assert rouge_l("The port is 7420.", ["unrelated words", "The port is 7420"]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("passage", "name", "expected"),
    [
        (PORTS, "kb/network-ports.html", True),
        (PORTS, "Network ports", True),
        (PORTS, "network-ports.html", True),
        (PORTS, "ports.html", False),
        (TICKET, "ticket:4321", True),
        (TICKET, "ticket:432", False),
        (dataclasses.replace(PORTS, external_id="4321"), "ticket:4321", False),
    ],
)
def test_what_relevant_means(passage: Passage, name: str, *, expected: bool) -> None:
    assert matches(passage, name) is expected


def test_marks_of_an_answer() -> None:
    asked = question(relevant=["kb/network-ports.html", "policies/ports.pdf"])
    found = marks(asked, answer("The sync protocol uses port 7420. [1] [2]", 1, 2))
    assert found["f1"] == pytest.approx(1 / 3)
    assert found["contains_gold"] == 1.0
    assert (found["citation_precision"], found["citation_recall"]) == (0.5, 0.5)
    assert (found["retrieved_relevant"], found["declined_answerable"], found["grounded"]) == (1.0, 0.0, 1.0)


def test_a_declined_answer_counts_as_nothing_said() -> None:
    asked = question(relevant=["Network ports"])
    found = marks(asked, answer("I could not find 7420 in the sources.", refusal="below"))
    assert found == {
        "declined_answerable": 1.0,
        "told_relevant": 0.0,
        "f1": 0.0,
        "rouge_l": 0.0,
        "contains_gold": 0.0,
        "retrieved_relevant": 1.0,
    }


def test_an_unanswerable_question_is_marked_by_abstention() -> None:
    asked = question(answers=[], answerable=False)
    assert marks(asked, answer("No idea.", refusal="below")) == {"declined_unanswerable": 1.0}
    assert marks(asked, answer("The sync protocol uses port 7420. [1]", 1)) == {
        "declined_unanswerable": 0.0,
        "grounded": 1.0,
    }


def test_grounding_is_by_sentence_and_by_the_passage_cited() -> None:
    text = "The sync protocol uses port 7420. [1]\nIt uses port 9999. [1]\nThe protocol is old."
    assert grounded(answer(text)) == pytest.approx(1 / 3)
    assert grounded(answer("The sync protocol uses port 7420. [7]")) == 0.0


def test_of_own_passages_those_with_the_answer_should_be_cited() -> None:
    texts = [{"id": "kb/network-ports.html", "text": PORTS.text}, "Something else."]
    found = marks(question(passages=texts), answer("The sync protocol uses port 7420. [1]", 1))
    assert (found["citation_precision"], found["citation_recall"]) == (1.0, 1.0)


def test_the_samples_questions_can_be_read() -> None:
    found = questions.load(SAMPLE / "questions.jsonl")
    assert len(found) == 80
    assert {q.who for q in found} == {"agent", "security"}
    assert all(q.as_of.tzinfo for q in found if q.as_of)
    assert len(questions.load(SAMPLE / "questions.jsonl", limit=3)) == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2"),
        ('{"id": "a", "question": "x"}', "answerable: Field required"),
        ('{"id": "a", "question": "x", "answerable": true, "anwsers": []}', "anwsers"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"id": 1, "question": "x", "answerable": False}) + "\n" + line + "\n")
    with pytest.raises(ConfigError, match=said):
        questions.load(file)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="no questions"):
        questions.load(tmp_path / "q.jsonl")


@pytest.fixture(scope="module")
def embedder() -> embed.Embedder:
    settings = Settings(models=MODELS)
    if check(settings.embedder, settings) is not State.PRESENT:
        pytest.skip("the embedding model is not here: `deskhand models pull`")
    return embed.load(settings, threads=1)


def test_passages_in_memory_are_ranked_by_both_legs(embedder: embed.Embedder) -> None:
    texts = [
        Text(text="Guests of another tenant sign in with their mail address.", title="Sign-on"),
        Text(id="ports", text="The server listens on 7420. " * 80, title="Network ports"),
        Text(text="FS-1777 means that the licence has expired.", title="Codes"),
    ]
    retriever = MemoryRetriever(texts, embedder=embedder, chunker=Chunker(embedder.tokenizer_file))
    by_meaning = [from_node(node) for node in retriever.retrieve("How do external people log in?")]
    assert by_meaning[0].title == "Sign-on"
    assert by_meaning[0].external_id == "0"
    by_words = [from_node(node) for node in retriever.retrieve("FS-1777")]
    assert by_words[0].title == "Codes"
    assert by_words[0].bm25 > 0
    assert sum(p.external_id == "ports" for p in by_words) <= 2
    assert [p.score for p in by_words] == sorted((p.score for p in by_words), reverse=True)


def test_no_passages_find_nothing(embedder: embed.Embedder) -> None:
    chunker = Chunker(embedder.tokenizer_file)
    assert MemoryRetriever([Text(text=" ")], embedder=embedder, chunker=chunker).retrieve("What?") == []
