"""How the scores of the two legs become one. Pure functions; the constants were chosen on training parts.

A document's score is 0.9 of its chunks' likeness to the question (0.8 the best,
0.2 the second best), 0.1 of its title's, plus 0.3 of its best chunk's BM25
divided by the most BM25 could give for this question. That quotient is the
share of the question's rare words that the chunk covers. A short, precise
question is covered easily, so its words count; a long, messy ticket never is,
so meaning decides. No weight per data set is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assistant.store.search import Candidate

BEST = 0.8
"""share of the best chunk among a document's two best; the second makes the rest"""
LONE = 0.9
"""a document of one chunk counts its own likeness, so reduced, as that of a second"""
TITLE = 0.1
LEXICAL = 0.3


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document with its candidates, best first."""

    document_id: int
    score: float
    candidates: tuple[tuple[float, Candidate], ...]


def coverage(bm25: float, *, idf_mass: float, k1: float) -> float:
    """BM25 as a share of its upper bound for the question, 0..1."""
    return bm25 / ((k1 + 1) * idf_mass) if idf_mass > 0 else 0.0


def fuse(candidates: Iterable[Candidate], *, idf_mass: float, k1: float) -> list[Ranked]:
    """Documents by fused score, best first; `idf_mass` is the sum of the question's idf weights."""
    by_document: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        by_document.setdefault(candidate.document_id, []).append(candidate)
    ranked = [_rank(document, found, idf_mass, k1) for document, found in by_document.items()]
    return sorted(ranked, key=lambda r: (-r.score, r.document_id))


def _rank(document_id: int, found: Sequence[Candidate], idf_mass: float, k1: float) -> Ranked:
    cosines = sorted((c.cosine for c in found), reverse=True)
    second = cosines[1] if len(cosines) > 1 else LONE * cosines[0]
    dense = (1 - TITLE) * (BEST * cosines[0] + (1 - BEST) * second) + TITLE * found[0].title_cosine
    lexical = max(coverage(c.bm25, idf_mass=idf_mass, k1=k1) for c in found)
    chunks = sorted(
        ((c.cosine + LEXICAL * coverage(c.bm25, idf_mass=idf_mass, k1=k1), c) for c in found),
        key=lambda item: (-item[0], item[1].chunk_id),
    )
    return Ranked(document_id, dense + LEXICAL * lexical, tuple(chunks))
