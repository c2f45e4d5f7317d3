"""Average linkage of vectors of length 1, exact, without a matrix of distances.

The mean cosine of two groups is the product of their means, so a group is a vector, too.
No joining brings a group nearer to a third one: a neighbour once found holds until it is
joined itself, and what has no near neighbour never gets one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from assistant.ingest.embed import Vectors

ALIKE = 0.55
"""Mean cosine down to which groups are joined. Of 63 FAQ topics asked in ten ways each (the even threads of
StackFAQ) .55 finds the pairs of one topic best; on the odd ones, which it was not chosen by, 92 % of the pairs
of one topic come together, and 86 % of what is together is of one topic."""
FEW = 0.02
"""share of groups that find a partner at once; below it they are joined one by one"""
BLOCK = 512
"""rows compared at a time, which bounds the memory"""


def groups(vectors: Vectors, threshold: float = ALIKE) -> list[list[int]]:
    """Numbers of the rows that belong together, down to a mean cosine of `threshold`, which is above 0."""
    members = {row: [row] for row in range(len(vectors))}
    for into, other in _Groups(vectors.astype(np.float32), threshold).joined():
        members[into] += members.pop(other)
    return list(members.values())


def middle(vectors: Vectors, group: Sequence[int]) -> int:
    """The row of a group that is nearest to all others of it: its medoid."""
    own = vectors[list(group)]
    return group[int((own @ own.sum(axis=0)).argmax())]


class _Groups:
    """Groups while they are joined. One that is gone, or has no near neighbour, has the mean 0."""

    def __init__(self, means: Vectors, threshold: float) -> None:
        self.means, self.threshold = means, threshold
        self.names = np.arange(len(means))
        """the row that a group is called by"""
        self.sizes = np.ones(len(means), np.float32)
        self.there = np.ones(len(means), bool)
        self.near = np.zeros(len(means), np.intp)
        self.best = np.zeros(len(means), np.float32)
        self.known = np.zeros(len(means), bool)
        """whether `near` and `best` hold"""

    def joined(self) -> Iterator[tuple[int, int]]:
        """Pairs of names as their groups are joined; the first is that of both from then on."""
        yield from self._at_once()
        yield from self._one_by_one()

    def _at_once(self) -> Iterator[tuple[int, int]]:
        """Join all that are each other's nearest, as long as many are: searching for many is cheap."""
        while True:
            self._search(np.flatnonzero(self.there & ~self.known))
            self._remove(np.flatnonzero(self.there & (self.best < self.threshold)))
            self._tighten()
            numbers = np.arange(len(self.near))
            mutual = self.there & self.known & (self.near[self.near] == numbers) & (numbers < self.near)
            if mutual.sum() <= FEW * self.there.sum():
                return
            for one in np.flatnonzero(mutual).tolist():
                yield self._join(one, int(self.near[one]))

    def _one_by_one(self) -> Iterator[tuple[int, int]]:
        """The nearest-neighbour chain, for many that have one and the same nearest: it never searches twice
        for what it joins. From a group to its nearest, to that one's, until two are each other's."""
        chain: list[int] = []
        while self.there.any():
            if not chain:
                self._tighten()
                chain.append(int(self.there.argmax()))
            last = chain[-1]
            if not self.known[last]:
                self._search(np.array([last]))
            if self.best[last] < self.threshold:
                self._remove(np.array([chain.pop()]))
            elif len(chain) > 1 and self._as_near(last, chain[-2]):
                del chain[-1]
                yield self._join(*sorted((last, chain.pop())))
            else:
                chain.append(int(self.near[last]))

    def _as_near(self, last: int, before: int) -> bool:
        """Whether it leads back; among equals, too, lest the chain go round in a circle."""
        return bool(self.means[last] @ self.means[before] >= self.best[last] - 1e-6)

    def _search(self, rows: NDArray[np.intp]) -> None:
        """Find the nearest of these."""
        for start in range(0, len(rows), BLOCK):
            some = rows[start : start + BLOCK]
            products = self.means[some] @ self.means.T
            numbers = np.arange(len(some))
            products[numbers, some] = -1.0
            self.near[some] = products.argmax(axis=1)
            self.best[some] = products[numbers, self.near[some]]
        self.known[rows] = True

    def _join(self, into: int, other: int) -> tuple[int, int]:
        sizes = self.sizes[[into, other]]
        self.means[into] = sizes @ self.means[[into, other]] / sizes.sum()
        self.sizes[into] = sizes.sum()
        self._remove(np.array([other]))
        self.known &= self.near != into
        self.known[into] = False
        return int(self.names[into]), int(self.names[other])

    def _remove(self, rows: NDArray[np.intp]) -> None:
        self.there[rows] = False
        self.means[rows] = 0.0
        self.known &= self.there[self.near]

    def _tighten(self) -> None:
        """Forget what is gone once it is the half: every search goes through all rows."""
        if 2 * self.there.sum() < len(self.there):
            number = np.cumsum(self.there) - 1
            self.near = number[self.near[self.there]]
            for name in ("names", "means", "sizes", "best", "known"):
                setattr(self, name, getattr(self, name)[self.there])
            self.there = self.there[self.there]
