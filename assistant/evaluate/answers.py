"""How well questions are answered: asked of the real engine, one after the other."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assistant.answer.engine import DeskQueryEngine
from assistant.answer.events import Done, TextDelta
from assistant.app import Assistant
from assistant.errors import ConfigError
from assistant.evaluate.marks import marks
from assistant.evaluate.memory import MemoryRetriever
from assistant.evaluate.questions import Question
from assistant.evaluate.scratch import Progress
from assistant.evaluate.statistics import Estimate, estimate, p50, p95
from assistant.ingest.chunk import Chunker
from assistant.model import Answer, Principal, Turn
from assistant.retrieve.scope import Scope
from assistant.store import principals
from assistant.store.search import Filters

ORDER = (
    "f1",
    "rouge_l",
    "contains_gold",
    "retrieved_relevant",
    "told_relevant",
    "citation_precision",
    "citation_recall",
    "grounded",
    "declined_unanswerable",
    "declined_answerable",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One question with its answer."""

    question: Question
    asker: str
    answer: Answer
    seconds_first: float
    """until the first text"""
    seconds_total: float
    marks: Mapping[str, float]


def run(
    assistant: Assistant, questions: Sequence[Question], *, default: Principal, progress: Progress
) -> list[Asked]:
    """Ask every question as whoever it names, else as `default`.

    Raises `ConfigError`, before the first is asked, for a person or a customer nobody knows.
    """
    askers = _askers(assistant, questions, default)
    engines = {
        question.id: _live(assistant, question, asker)
        for question, asker in zip(questions, askers, strict=True)
        if question.passages is None
    }
    chunker = Chunker(assistant.embedder.tokenizer_file)
    found: list[Asked] = []
    for question, asker in zip(questions, askers, strict=True):
        engine = engines.get(question.id) or _own(assistant, question, chunker)
        found.append(ask(assistant, engine, question, asker.id))
        progress("Ask", len(found), len(questions))
    return found


def summary(asked: Sequence[Asked]) -> dict[str, Estimate]:
    """The mean of each mark over the questions it applies to, and times."""
    samples: dict[str, Estimate | None] = {
        name: estimate([one.marks[name] for one in asked if name in one.marks]) for name in ORDER
    }
    for name, values in (
        ("seconds_first", [one.seconds_first for one in asked]),
        ("seconds_total", [one.seconds_total for one in asked]),
    ):
        samples |= {f"{name}_p50": estimate(values, p50), f"{name}_p95": estimate(values, p95)}
    return {name: value for name, value in samples.items() if value is not None}


def by_need(asked: Sequence[Asked]) -> dict[str, dict[str, Estimate]]:
    """The same for the questions of each `needs`; empty when none says."""
    needs = Counter(one.question.needs for one in asked if one.question.needs)
    return {name: summary([one for one in asked if one.question.needs == name]) for name in needs}


def _askers(assistant: Assistant, questions: Sequence[Question], default: Principal) -> list[Principal]:
    """Who asks each question: the address it names, somebody of the group it names, or `default`."""
    names = {q.who for q in questions if q.who and q.passages is None}
    known: dict[str, Principal] = {}
    with assistant.database.writer() as connection:
        people = principals.everybody(connection)
        for name in names:
            member = next(
                (p["id"] for p in people if any(g.rpartition("/")[2] == name for g in p["groups"])), None
            )
            if "@" in name or member:
                known[name] = principals.load(connection, member or name)
    return [known.get(q.who or "", default) for q in questions]


def _live(assistant: Assistant, question: Question, asker: Principal) -> DeskQueryEngine:
    try:
        known = assistant.customer(asker, question.customer) if question.customer else None
    except ConfigError as error:
        raise ConfigError(f"Question {question.id}: {error} Nothing was evaluated.") from error
    return assistant.engine(
        Scope(asker, filters=Filters(before=question.as_of), customer=known.ids if known else None)
    )


def _own(assistant: Assistant, question: Question, chunker: Chunker) -> DeskQueryEngine:
    return assistant.engine_over(
        MemoryRetriever(question.passages or (), embedder=assistant.embedder, chunker=chunker)
    )


def ask(assistant: Assistant, engine: DeskQueryEngine, question: Question, asker: str) -> Asked:
    history = [Turn(turn.role, turn.content) for turn in question.history]
    started = time.perf_counter()
    first: float | None = None
    for event in engine.stream(question.question, history=history):
        if isinstance(event, TextDelta) and first is None:
            first = time.perf_counter() - started
        elif isinstance(event, Done):
            total = time.perf_counter() - started
            scored = marks(question, event.answer, encode=assistant.embedder.encode)
            return Asked(question, asker, event.answer, first or total, total, scored)
    raise AssertionError("a stream ends with Done")
