"""Hard negatives: what the retriever finds for a question today, though no agent linked to it.

Labels are sparse: much of what is found answers the question as well. So whatever is about as near to
the question as what answers it is left out (the rule of NV-Retriever, Moreira et al. 2024:
at most a share of the positive's score), and so are near-duplicates of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.app import Assistant
from assistant.evaluate.scratch import Progress
from assistant.ingest.chunk import embedding_text
from assistant.model import Audience, Chunk, Passage, Principal
from assistant.retrieve.hybrid import NEAR_DUPLICATE
from assistant.retrieve.scope import Scope
from assistant.store import pairs
from assistant.store.db import Conn, Row
from assistant.tune.pairs import Question

DEPTH = 40
"""documents found for a question, of which negatives are taken"""
CEILING = 0.95
"""share of the positive's cosine that a negative may have at most"""


@dataclass(frozen=True, slots=True)
class Example:
    """A question, a passage that answers it, and passages that don't: texts as they are embedded."""

    question: str
    positive: str
    negatives: tuple[str, ...]
    relevant: tuple[int, ...]
    """ids of all documents that answer it: none of these is a negative, wherever it comes from"""
    document: int
    """id of the positive's"""
    others: tuple[int, ...]
    """ids of the negatives' documents"""


def everything(connection: Conn) -> Principal:
    """Whoever trains reads everything."""
    return Principal("tune", pairs.tokens(connection))


def mine(
    assistant: Assistant, questions: Sequence[Question], *, count: int, seed: int = 1, progress: Progress
) -> list[Example]:
    """An example for each question and each document that answers it, with `count` negatives if there are so many.

    With the live space's vectors; what was written after the question is no negative. The same store gives
    the same examples.
    """
    chance = random.Random(seed)  # noqa: S311 - a choice of examples, no secret
    space, embedder = assistant.live()
    with assistant.database.writer() as connection:
        principal = everything(connection)
    made: list[Example] = []
    for done, question in enumerate(questions, 1):
        progress("Mine", done, len(questions))
        # Not as of its day: a document that states no date, or changed since, would be hidden, and is no news.
        found = assistant.retriever.documents(question.text, Scope(principal, Audience.INTERNAL), limit=DEPTH)
        vector = embedder.encode_query(question.text)
        with assistant.database.writer() as connection:
            nearest = pairs.nearest(connection, space, sorted(question.relevant), vector, each=1)
            texts = {row["id"]: row for row in pairs.chunks(connection, documents=sorted(question.relevant))}
        for row in nearest:
            positive = texts[row["id"]]
            fitting = [p for _, p in found if _negative(p, question, positive, row["cosine"])]
            chosen = chance.sample(fitting, min(count, len(fitting)))
            made.append(
                Example(
                    question.text,
                    text_of(positive),
                    tuple(embedding_text(p.title, Chunk(0, p.text, p.headings)) for p in chosen),
                    tuple(sorted(question.relevant | {question.document})),
                    row["document_id"],
                    tuple(p.document_id for p in chosen),
                )
            )
    return made


def text_of(row: Row) -> str:
    """A chunk as it is embedded."""
    return embedding_text(row["title"], Chunk(0, row["text"], tuple(row["headings"])))


def _negative(passage: Passage, question: Question, positive: Row, cosine: float) -> bool:
    if passage.document_id in question.relevant or passage.document_id == question.document:
        return False
    if passage.created_at and question.at and passage.created_at > question.at:
        return False
    words, others = set(passage.text.lower().split()), set(positive["text"].lower().split())
    alike = len(words & others) >= NEAR_DUPLICATE * max(1, len(words | others))
    return not alike and passage.cosine <= CEILING * cosine
