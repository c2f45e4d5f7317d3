"""What people asked and the sources didn't have: questions that mean the same, the most asked first."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assistant.app import Assistant
from assistant.ingest.embed import Vectors
from assistant.retrieve.mask import Mask
from assistant.store import feedback
from assistant.store.db import Row

ALIKE = 0.55
"""Mean cosine down to which groups are joined. Of 63 FAQ topics asked in ten ways each (the even threads of
StackFAQ) .55 finds the pairs of one topic best; on the odd ones, which it was not chosen by, 92 % of the pairs
of one topic come together, and 86 % of what is together is of one topic."""
QUESTIONS = 10_000
"""the latest so many are looked at"""
NEAREST = 3
SHOWN = 300
"""characters of a question"""
BLOCK = 512
"""rows compared at a time, which bounds the memory"""


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
    with assistant.database.writer() as connection:
        rows = feedback.unanswered(connection, since=since, limit=QUESTIONS)
    vectors = _vectors(assistant, rows)
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


def groups(vectors: Vectors, threshold: float = ALIKE) -> list[list[int]]:
    """Rows that belong together: average linkage, cut where the mean cosine falls below `threshold`.

    Of rows of length 1 the mean cosine of two groups is the product of their means, so no
    matrix of distances is needed. It is the nearest-neighbour chain: from a group to its
    nearest, to that one's nearest, until two are each other's; these are joined. No joining
    brings a group nearer to a third, so a neighbour once found holds until it is joined itself.
    """
    best, near = _neighbours(vectors)
    members = {int(row): [int(row)] for row in range(len(vectors))}
    rows = np.flatnonzero(best >= threshold)
    left = _Groups(vectors[rows].astype(np.float32), best[rows], np.searchsorted(rows, near[rows]))
    for into, other in left.joined(threshold):
        members[int(rows[into])] += members.pop(int(rows[other]))
    return list(members.values())


class _Groups:
    """Groups while they are joined: each has the number of one of its rows, the lowest that stayed."""

    def __init__(self, vectors: Vectors, best: Vectors, near: NDArray[np.intp]) -> None:
        self.names = np.arange(len(vectors))
        self.means, self.sizes = vectors, np.ones(len(vectors), np.float32)
        self.best, self.near = best, near
        self.known = np.ones(len(vectors), bool)
        """whether `best` and `near` hold"""
        self.there = np.ones(len(vectors), bool)
        self.chain: list[int] = []

    def joined(self, threshold: float) -> Iterator[tuple[int, int]]:
        """Pairs of rows as their groups are joined; the first names the new group."""
        while self.there.any():
            if not self.chain:
                self._tighten()
                self.chain.append(int(self.there.argmax()))
            last = self.chain[-1]
            near = self._nearest(last)
            before = self.chain[-2] if len(self.chain) > 1 else -1
            if self.best[last] < threshold:
                self._remove(self.chain.pop())
            elif near == before or (before >= 0 and self._alike(last, before)):
                del self.chain[-2:]
                yield self._join(min(last, before), max(last, before))
            else:
                self.chain.append(near)

    def _alike(self, last: int, before: int) -> bool:
        """Whether the one it came from is as near, so that equals don't lead round in a circle."""
        return bool(self.means[last] @ self.means[before] >= self.best[last] - 1e-6)

    def _nearest(self, one: int) -> int:
        if not self.known[one]:
            products = self.means @ self.means[one]
            products[one] = -1.0
            self.near[one] = products.argmax()
            self.best[one] = products[self.near[one]]
            self.known[one] = True
        return int(self.near[one])

    def _join(self, into: int, other: int) -> tuple[int, int]:
        sizes = self.sizes[[into, other]]
        self.means[into] = sizes @ self.means[[into, other]] / sizes.sum()
        self.sizes[into] = sizes.sum()
        self._remove(other)
        self.known &= self.near != into
        self.known[into] = False
        return int(self.names[into]), int(self.names[other])

    def _remove(self, one: int) -> None:
        self.there[one] = False
        self.means[one] = 0.0
        self.known &= self.near != one

    def _tighten(self) -> None:
        """Forget what is gone once it is the half: every search goes through all rows."""
        if 2 * self.there.sum() < len(self.there):
            number = np.cumsum(self.there) - 1
            self.near = number[self.near[self.there]]
            for name in ("names", "means", "sizes", "best", "known"):
                setattr(self, name, getattr(self, name)[self.there])
            self.there = self.there[self.there]


def middle(vectors: Vectors, group: Sequence[int]) -> int:
    """The row of a group that is nearest to all others of it: its medoid."""
    own = vectors[list(group)]
    return group[int((own @ own.sum(axis=0)).argmax())]


def _neighbours(means: Vectors) -> tuple[Vectors, NDArray[np.intp]]:
    """Of each row the greatest product with another one, and which one that is."""
    best, nearest = np.empty(len(means), np.float32), np.empty(len(means), np.intp)
    for start in range(0, len(means), BLOCK):
        products = means[start : start + BLOCK] @ means.T
        own = np.arange(len(products))
        products[own, start + own] = -np.inf
        nearest[start : start + len(own)] = products.argmax(axis=1)
        best[start : start + len(own)] = products[own, nearest[start : start + len(own)]]
    return best, nearest


def _vectors(assistant: Assistant, rows: Sequence[Row]) -> Vectors:
    """As they were stored with the answers; what has none is encoded now."""
    missing = [row["question"] for row in rows if row["vector"] is None]
    encoded = iter(assistant.embedder.encode(missing) if missing else ())
    made: list[Any] = [next(encoded) if row["vector"] is None else row["vector"].to_numpy() for row in rows]
    return np.array(made, np.float32).reshape(len(rows), -1)


def _nearest(asked: Sequence[Row]) -> list[int]:
    """The documents that were found nearest most often, by the sum of 1/rank."""
    votes: defaultdict[int, float] = defaultdict(float)
    for row in asked:
        for rank, document in enumerate(dict.fromkeys(row["documents"]), 1):
            votes[document] += 1 / rank
    return sorted(votes, key=lambda document: -votes[document])[:NEAREST]
