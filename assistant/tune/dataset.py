"""Training data from the desk's own resolved tickets, and from files of questions.

A ticket is asked again as of its day, by the real retriever, with what everybody's model
may see: public texts, other customers' names taken out. What people answered then decides
what the assistant should have said (`target`): nothing is taught that no shown source says. Where the
right sources are taken away, or never existed, it should have declined.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from llama_index.core.schema import QueryBundle

from assistant.answer import extract, prompt, rewrite
from assistant.app import Assistant
from assistant.evaluate.memory import MemoryRetriever
from assistant.evaluate.questions import Question, Text
from assistant.generate import base
from assistant.ingest.chunk import Chunker
from assistant.model import Audience, Passage, Principal, Turn
from assistant.retrieve.evidence import evidence
from assistant.retrieve.mask import masks
from assistant.retrieve.nodes import from_node
from assistant.retrieve.scope import Scope
from assistant.store import datasets
from assistant.store.datasets import Dataset, Example
from assistant.store.db import Row
from assistant.store.history import CLOSED
from assistant.store.search import Filters
from assistant.text.sentences import clean, sentences, stems
from assistant.tune import filters
from assistant.tune.filters import Reason
from assistant.tune.target import borne_out, target

Progress = Callable[[str, int, int], None]
"""step, done, total"""
SAME = 0.95
"""cosine of two questions from which on they are one"""
ABSENT = 0.45
"""A reply less like all that was shown, by cosine, says that the sources don't have it."""
HEADLINE = 40
"""words of a ticket that make a short question"""
TRAINING = 0.6
"""share of the customers with earlier and later tickets whose earlier ones are trained with"""
NEGATIVES = (0, 2, 4)
"""passages of other questions, the nearest ones, that are put among those a file gives"""


@dataclass(frozen=True, slots=True)
class Choices:
    """How a dataset is made; a part of its hash."""

    tickets: int = 3_000
    """of the desk, at most, drawn at random"""
    prompt_tokens: int = 800
    """as the generator is to be asked later"""
    declined: float = 0.3
    """share of the examples whose answer is not in the sources"""
    dev: float = 0.1
    """share of a desk's tickets, the latest but the test's, and of each file's questions"""
    test: float = 0.1
    """share of a desk's tickets: the latest"""
    seed: int = 7


@dataclass(frozen=True, slots=True)
class _Case:
    """Something that was asked and what is known of its answer."""

    question: str
    references: tuple[str, ...]
    kind: str = "answer"
    answerable: bool = True


class Builder:
    """Makes examples as `principal`, whose rights decide which tickets and documents are used."""

    def __init__(self, assistant: Assistant, principal: Principal, choices: Choices) -> None:
        self.assistant = assistant
        self.principal = principal
        self.choices = choices
        self.left_out: Counter[str] = Counter()
        self._random = random.Random(choices.seed)  # noqa: S311 - a draw that can be repeated, not a secret
        self._asked: list[np.ndarray] = []

    def desk(self, progress: Progress) -> list[Example]:
        """Examples from resolved tickets: the latest are for testing, those before for development."""
        with self.assistant.database.reader(self.principal, Audience.PUBLIC) as connection:
            tickets = datasets.resolved(connection, closed=CLOSED)
        tickets = self._drawn(tickets)
        parts = _parts(tickets, self.choices)
        made: list[Example] = []
        for done, ticket in enumerate(tickets, 1):
            part = parts.get(ticket["id"])
            if part is None:
                self.left_out[Reason.OTHER_PART] += 1
            else:
                made += [replace(example, part=part) for example in self._ticket(ticket)]
            progress("Tickets", done, len(tickets))
        return made

    def file(self, name: str, questions: Sequence[Question], progress: Progress) -> list[Example]:
        """Examples from questions that bring their passages; a tenth, by their sources, is for development."""
        asked = [q for q in questions if q.passages]
        pool = [text for q in asked for text in q.passages or ()]
        vectors = self.assistant.embedder.encode([f"{t.title}\n{t.text[:1000]}" for t in pool])
        chunker = Chunker(self.assistant.embedder.tokenizer_file)
        made: list[Example] = []
        for done, question in enumerate(asked, 1):
            texts = self._among(question, pool, vectors)
            retriever = MemoryRetriever(texts, embedder=self.assistant.embedder, chunker=chunker)
            history = [Turn(turn.role, turn.content) for turn in question.history]
            case = _Case(
                rewrite.carry_over(question.question, history),
                question.answers,
                kind="turns" if history else "answer",
                answerable=question.answerable,
            )
            passages = [from_node(node) for node in retriever.retrieve(QueryBundle(case.question))]
            right = set(question.relevant)
            part = (
                "dev" if _share(min(t.text for t in question.passages or ())) < self.choices.dev else "train"
            )
            for example in self._examples(case, passages, right):
                made.append(replace(example, origin=name, part=part, documents=()))
            progress(name, done, len(asked))
        return made

    def _drawn(self, tickets: list[Row]) -> list[Row]:
        if len(tickets) > self.choices.tickets:
            tickets = self._random.sample(tickets, self.choices.tickets)
        return sorted(tickets, key=lambda row: (row["created_at"], row["id"]))

    def _ticket(self, ticket: Row) -> Generator[Example]:
        case = self._case(ticket)
        if isinstance(case, Reason):
            self.left_out[case] += 1
            return
        scope = Scope(
            self.principal, Audience.PUBLIC, Filters(before=ticket["created_at"]), without=ticket["id"]
        )
        passages = evidence(self.assistant.retriever, case.question, scope)
        for example in self._examples(case, passages, set()):
            sources = (ticket["id"], *example.documents)
            yield replace(
                example, documents=tuple(dict.fromkeys(sources)), asked_at=ticket["created_at"], origin="desk"
            )

    def _case(self, ticket: Row) -> _Case | Reason:
        """What a ticket asks and what was answered, without names; or why it is of no use."""
        if ticket["status"].lower() == "spam" or "spam" in ticket["tags"]:
            return Reason.SPAM
        with self.assistant.database.reader(self.principal, Audience.PUBLIC) as connection:
            rows = datasets.messages(connection, ticket["id"])
            everything = "\n".join([ticket["title"], *(row["text"] for row in rows)])
            mask = masks(connection, {ticket["id"]: everything})[ticket["id"]]
        asked = filters.written(mask(rows[0]["text"])) if rows and rows[0]["role"] != "agent" else ""
        title = mask(ticket["title"])
        if not stems(f"{title} {asked}"):
            return Reason.EMPTY
        if filters.instructs(f"{title}\n{asked}"):
            return Reason.INSTRUCTIONS
        replies = [row for row in rows[1:] if row["role"] == "agent" or row["is_solution"]]
        replies.sort(key=lambda row: not row["is_solution"])
        answers = [filters.written(mask(row["text"])) for row in replies]
        useless = [filters.useless(answer) for answer in answers]
        told = tuple(a for a, reason in zip(answers, useless, strict=True) if reason is None)
        if not told:
            return next((reason for reason in useless if reason), Reason.THANKS)
        # Agents ask in a line, and have drafts made of whole tickets.
        if self._random.random() < 0.5:
            return _Case(f"{title}\n\n{asked}", told, kind="draft")
        return _Case(" ".join(f"{title}. {asked}".split()[:HEADLINE]), told)

    def _examples(self, case: _Case, passages: list[Passage], right: set[str]) -> Generator[Example]:
        if not passages:
            self.left_out[Reason.NOTHING_FOUND] += 1
            return
        vector = self.assistant.embedder.encode_query(case.question)
        if self._asked and float(np.max(np.stack(self._asked) @ vector)) >= SAME:
            self.left_out[Reason.DUPLICATE] += 1
            return
        messages, shown = self.prompt(case.question, passages)
        if not case.answerable:
            self._asked.append(vector)
            yield self._example("decline", messages, prompt.DECLINED, shown)
            return
        encode = self.assistant.embedder.encode
        known = [n for n, p in enumerate(shown, 1) if p.external_id in right or p.title in right]
        said = target(case.question, shown, case.references, encode=encode, right=known)
        if not said:
            if not case.references or not self._absent(case.references, shown):
                self.left_out[Reason.UNSUPPORTED] += 1
                return
            self._asked.append(vector)
            yield self._example("decline", messages, prompt.DECLINED, shown)
            return
        self._asked.append(vector)
        yield self._example(case.kind, messages, said, shown)
        left = [p for p in passages if not borne_out(said, p, encode=encode)]
        left = [p for p in left if p.external_id not in right and p.title not in right]
        if left:  # `balanced` keeps as many as are wanted
            messages, shown = self.prompt(case.question, left)
            yield self._example("decline", messages, prompt.DECLINED, shown)

    def prompt(
        self, question: str, passages: Sequence[Passage]
    ) -> tuple[list[dict[str, str]], list[Passage]]:
        """As the engine asks; and the passages with the texts that are shown of them."""
        model = self.assistant.generator
        messages, shown = prompt.answering(
            question,
            passages,
            extract.read(question, passages, encode=self.assistant.embedder.encode),
            count=lambda text: base.count_tokens(model, text),
            limit=self.choices.prompt_tokens,
        )
        said = [{"role": m.role.value, "content": m.content or ""} for m in messages]
        return said, [replace(passages[marker - 1], text=text) for marker, text in shown]

    def _example(
        self, kind: str, messages: list[dict[str, str]], completion: str, shown: Sequence[Passage]
    ) -> Example:
        ids = tuple(dict.fromkeys(p.document_id for p in shown))
        return Example(kind, "", tuple(messages), completion, documents=ids)

    def _absent(self, references: Sequence[str], shown: Sequence[Passage]) -> bool:
        """Whether what people answered is about something else than all that was found."""
        parts = [part.readable for p in shown for part in sentences(clean(p.text))]
        rows = self.assistant.embedder.encode([*references, *(parts or [""])])
        return float(np.max(rows[: len(references)] @ rows[len(references) :].T)) < ABSENT

    def _among(self, question: Question, pool: Sequence[Text], vectors: np.ndarray) -> list[Text]:
        """The question's passages and the nearest ones of other questions."""
        own = list(question.passages or ())
        wanted = self._random.choice(NEGATIVES)
        known = {text.text for text in own}
        if not question.answerable or not wanted:
            return own
        order = np.argsort(-(vectors @ self.assistant.embedder.encode_query(question.question)))
        for place in order:
            text = pool[int(place)]
            if text.text not in known:
                known.add(text.text)
                own.append(text)
            if len(known) >= len(question.passages or ()) + wanted:
                break
        return own


def balanced(examples: Sequence[Example], choices: Choices, left_out: Counter[str]) -> list[Example]:
    """Without the declined ones of training that are too many, in an order that mixes all kinds.

    The other parts keep theirs: whoever measures weighs the classes.
    """
    shuffled = list(examples)
    random.Random(choices.seed).shuffle(shuffled)  # noqa: S311 - a draw that can be repeated
    answers = sum(example.kind != "decline" and example.part == "train" for example in shuffled)
    room = round(answers * choices.declined / (1 - choices.declined))
    kept: list[Example] = []
    for example in shuffled:
        if example.kind == "decline":
            if not room and example.part == "train":
                left_out[Reason.SURPLUS] += 1
                continue
            room -= example.part == "train"
        kept.append(example)
    return kept


def replayed(text: str, *, words: int = 150) -> list[Example]:
    """Pieces of general text, read on while training so that the model does not forget it."""
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    pieces = [" ".join(p.split()[:words]) for p in paragraphs if len(p.split()) >= words // 4]
    return [Example("replay", "general", (), piece) for piece in pieces]


def store(
    assistant: Assistant, examples: Sequence[Example], choices: Choices, left_out: Counter[str], **told: Any
) -> Dataset:
    """Keep the dataset under the hash of what it is made of."""
    settings = {**asdict(choices), **told}
    lines = sorted(json.dumps([e.part, e.kind, e.prompt, e.completion], default=str) for e in examples)
    content = "\n".join([json.dumps(settings, sort_keys=True, default=str), *lines])
    counts = {
        "parts": {
            p: dict(Counter(e.kind for e in examples if e.part == p)) for p in ("train", "dev", "test")
        },
        "origins": dict(Counter(e.origin for e in examples)),
        "left_out": {str(reason): number for reason, number in left_out.most_common()},
    }
    with assistant.database.writer() as connection:
        return datasets.add(
            connection,
            examples,
            hash=hashlib.sha256(content.encode()).hexdigest(),
            settings=settings,
            counts=counts,
        )


def _parts(tickets: Sequence[Row], choices: Choices) -> dict[int, str]:
    """Part by ticket id: by time, and of a customer with tickets in several parts those of one, drawn by lot."""
    first_test = round(len(tickets) * (1 - choices.test))
    first_dev = round(len(tickets) * (1 - choices.test - choices.dev))
    by_time = {
        row["id"]: "train" if n < first_dev else "dev" if n < first_test else "test"
        for n, row in enumerate(tickets)
    }
    theirs: dict[int, set[str]] = {}
    for row in tickets:
        theirs.setdefault(row["customer_id"], set()).add(by_time[row["id"]])
    drawn: dict[int, str] = {}
    for customer, parts in theirs.items():
        # Training needs most of them.
        first = "train" in parts and _share(str(customer)) < TRAINING
        rest = sorted(parts - {"train"}) or ["train"]
        drawn[customer] = "train" if first else rest[int(_share(f"{customer} later") * len(rest))]
    return {
        row["id"]: by_time[row["id"]]
        for row in tickets
        if row["customer_id"] is None or drawn[row["customer_id"]] == by_time[row["id"]]
    }


def _share(text: str) -> float:
    """A number of [0, 1) that depends on nothing but the text, as a draw by what a question rests on."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32
