"""How the scores of the two legs become one. Pure functions.

    score    = dense + w · coverage
    dense    = 0.6 · cos(best chunk) + 0.3 · cos(second-best chunk) + 0.1 · cos(title)
    coverage = BM25 of the best chunk / the most BM25 can give for this question
    w        = min(1, 0.015 / standard deviation of the 20 best dense scores)

Coverage is the share of the question's rare words that a chunk has. A short,
precise question can be covered, so its words count; a long, messy ticket never
is, so meaning decides. And where the best documents are all equally like the
question, meaning is undecided, so the words count more. Neither needs a weight
per data set, which is what equal-weight rank fusion lacks.

Tickets then trade places among themselves (`traded`): of two that are about equally like the
question, the one that was solved, or is newer, helped people more often. Documents keep their places.

The constants were chosen on the training parts of SciFact, a support knowledge
base and tickets, and on half of StackFAQ; they belong to the cosines of MiniLM.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from assistant.store.search import Candidate

BEST, SECOND, TITLE = 0.6, 0.3, 0.1
LONE = 0.9
"""a document's only chunk stands for its second, so reduced"""
SPREAD = 0.015
HEAD = 20
MOST = 1.0


SOLVED, RECENT, DAYS = 0.05, 0.08, 60.0
"""What a ticket's score counts more when it has a solution, and when it is of today; the latter fades by
e^(-age / DAYS). Chosen on 343 tickets whose helpers linked an earlier one: recall@10 .394 -> .434; on 181 others
.320 -> .359, MRR@10 .171 -> .228. The number of replies added nothing."""


class Legs(StrEnum):
    """What a search goes by. One leg alone is for measuring what the other adds."""

    HYBRID = "hybrid"
    DENSE = "dense"
    BM25 = "bm25"


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document with its candidates, best first."""

    document_id: int
    score: float
    candidates: tuple[tuple[float, Candidate], ...]


def coverage(bm25: float, *, idf_mass: float, k1: float) -> float:
    """BM25 as a share of its upper bound for the question, 0..1."""
    return min(1.0, bm25 / ((k1 + 1) * idf_mass)) if idf_mass > 0 else 0.0


def lexical_weight(dense: Sequence[float]) -> float:
    """How much coverage counts beside the documents' dense scores `dense`."""
    head = sorted(dense, reverse=True)[:HEAD]
    spread = statistics.pstdev(head) if len(head) > 1 else 0.0
    return MOST if spread * MOST <= SPREAD else SPREAD / spread


def fuse(candidates: Iterable[Candidate], *, idf_mass: float, k1: float) -> list[Ranked]:
    """Documents by fused score, best first; `idf_mass` is the sum of the question's idf weights."""
    by_document: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        by_document.setdefault(candidate.document_id, []).append(candidate)
    # A chunk that is no candidate is at most as near as the farthest that is one.
    floor = min((c.cosine for found in by_document.values() for c in found), default=0.0)
    dense = {document: _dense(found, floor) for document, found in by_document.items()}
    weight = lexical_weight(list(dense.values()))
    ranked = [
        _rank(document, dense[document], found, weight, idf_mass, k1)
        for document, found in by_document.items()
    ]
    return sorted(ranked, key=lambda r: (-r.score, r.document_id))


def traded(ranked: Sequence[Ranked], tickets: Mapping[int, tuple[bool, float]]) -> list[Ranked]:
    """The same places and scores, with the tickets in the order of what they are worth.

    `tickets`: by document, whether it has a solution, and its age in days.
    """

    def worth(one: Ranked) -> float:
        solved, days = tickets[one.document_id]
        return one.score + SOLVED * solved + RECENT * math.exp(-max(0.0, days) / DAYS)

    places = [n for n, one in enumerate(ranked) if one.document_id in tickets]
    order = sorted((ranked[n] for n in places), key=lambda one: (-worth(one), one.document_id))
    result = list(ranked)
    for place, one in zip(places, order, strict=True):
        result[place] = replace(one, score=ranked[place].score)
    return result


def _dense(found: Sequence[Candidate], floor: float) -> float:
    cosines = sorted((c.cosine for c in found), reverse=True)
    second = cosines[1] if len(cosines) > 1 else (LONE * cosines[0] if found[0].alone else floor)
    return BEST * cosines[0] + SECOND * second + TITLE * found[0].title_cosine


def _rank(
    document: int, dense: float, found: Sequence[Candidate], weight: float, idf_mass: float, k1: float
) -> Ranked:
    scored = [(weight * coverage(c.bm25, idf_mass=idf_mass, k1=k1), c) for c in found]
    chunks = sorted(((c.cosine + words, c) for words, c in scored), key=lambda s: (-s[0], s[1].chunk_id))
    return Ranked(document, dense + max(words for words, _ in scored), tuple(chunks))
