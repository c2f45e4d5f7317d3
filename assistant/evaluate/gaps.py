"""What people asked and the sources didn't have: questions that mean the same, the most asked first."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assistant.app import Assistant
from assistant.evaluate.linkage import groups, middle
from assistant.ingest.embed import Embedder, Vectors
from assistant.retrieve.mask import Mask
from assistant.store import feedback
from assistant.store.db import Row

QUESTIONS = 10_000
"""the latest so many are looked at"""
NEAREST = 3
SHOWN = 300
"""characters of a question"""


@dataclass(frozen=True, slots=True)
class Gap:
    """Questions that mean the same, as the knowledge owner may see them."""

    question: str
    """the one in the middle of the others, without addresses and numbers"""
    questions: int
    declined: int
    """of these; the others were answered badly"""
    people: int
    latest: dt.datetime
    documents: tuple[Row, ...]
    """the nearest that were found"""


def find(assistant: Assistant, *, since: dt.datetime, limit: int = 20) -> tuple[list[Gap], int]:
    """The largest gaps, and how many questions were looked at."""
    space, embedder = assistant.live()
    with assistant.database.writer() as connection:
        rows = feedback.unanswered(connection, space.id, since=since, limit=QUESTIONS)
    if not rows:
        return [], 0
    vectors = _vectors(embedder, rows)
    found: list[Gap] = []
    with assistant.database.writer() as connection:
        for group in sorted(groups(vectors), key=len, reverse=True)[:limit]:
            asked = [rows[i] for i in group]
            nearest = _nearest(asked)
            titles = feedback.titles(connection, nearest)
            found.append(
                Gap(
                    question=shown(rows[middle(vectors, group)]["question"]),
                    questions=len(asked),
                    declined=sum(row["declined"] for row in asked),
                    people=feedback.askers(connection, [row["id"] for row in asked]),
                    latest=max(row["created_at"] for row in asked),
                    documents=tuple(titles[d] for d in nearest if d in titles),
                )
            )
    return found, len(rows)


def shown(question: str) -> str:
    """A question as it may be shown to others than whoever asked it."""
    text = " ".join(Mask()(question).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _vectors(embedder: Embedder, rows: Sequence[Row]) -> Vectors:
    """As they were stored with the answers; what has none is encoded now."""
    missing = [row["question"] for row in rows if row["vector"] is None]
    encoded = iter(embedder.encode(missing) if missing else ())
    made: list[Any] = [next(encoded) if row["vector"] is None else row["vector"].to_numpy() for row in rows]
    return np.array(made, np.float32)


def _nearest(asked: Sequence[Row]) -> list[int]:
    """The documents that were found nearest most often, by the sum of 1/rank."""
    votes: defaultdict[int, float] = defaultdict(float)
    for row in asked:
        for rank, document in enumerate(dict.fromkeys(row["documents"]), 1):
            votes[document] += 1 / rank
    return sorted(votes, key=lambda document: -votes[document])[:NEAREST]
