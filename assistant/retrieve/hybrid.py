"""Hybrid search: a question within a scope → documents or passages, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from assistant.ingest import lexical
from assistant.ingest.embed import Embedder, Embedders, Vectors
from assistant.model import Kind, Passage
from assistant.retrieve.fusion import Legs, Ranked, fuse, traded
from assistant.retrieve.scope import Scope
from assistant.store import search, spaces
from assistant.store.db import Database
from assistant.store.search import Candidate
from assistant.store.spaces import Space

DEPTH = 150
"""candidates from each leg"""
PER_DOCUMENT = 2
"""passages of one document at most: a third rarely adds what the two best lack"""
THREADS = 3
"""tickets, of those found, whose replies are read as well: they are found by the question, not the answer"""
REPLIES = 3
"""of each such ticket"""
REPLY_TOKENS = 16
"""A shorter reply, as "Will do.", answers nothing."""
QUESTIONS = 64
"""whose vectors are remembered: as many as are answered at once"""
NEAR_DUPLICATE = 0.9
"""share of words two passages may have in common and both be shown"""


class Retriever:
    """Search over the store; one for a process, safe to share between threads."""

    def __init__(self, database: Database, embedders: Embedders) -> None:
        self.database = database
        self.embedders = embedders
        # A question is searched for several times: in all, in documents, in the customer's tickets, in replies.
        self._vector = lru_cache(QUESTIONS)(self._encoded)

    def _encoded(self, space: Space, text: str) -> Vectors:
        return self.embedders.of(space).encode_query(text)

    def embedder(self) -> Embedder:
        """The model of the space that answers now."""
        with self.database.writer() as connection:
            return self.embedders.of(spaces.live(connection))

    def documents(
        self, question: str, scope: Scope, *, limit: int = 10, depth: int = DEPTH, legs: Legs = Legs.HYBRID
    ) -> list[tuple[Ranked, Passage]]:
        """The best documents, each with its best passage; what `deskhand eval retrieval` ranks."""
        ranked, passages = self._search(question, scope, limit, depth, 1, legs)
        best = {p.document_id: p for p in passages}
        return [(r, best[r.document_id]) for r in ranked if r.document_id in best]

    def passages(self, question: str, scope: Scope, *, limit: int = 8) -> list[Passage]:
        """The best passages, no two nearly alike, at most `PER_DOCUMENT` of one document."""
        # Read more than asked for, since near-duplicates fall out afterwards.
        _, found = self._search(question, scope, 2 * limit, DEPTH, PER_DOCUMENT)
        return distinct(found)[:limit]

    def replies(self, question: str, passages: Sequence[Passage], scope: Scope) -> list[Passage]:
        """What agents wrote in the first THREADS tickets among `passages` and isn't there yet."""
        tickets = list(dict.fromkeys(p.document_id for p in passages if p.kind is Kind.TICKET))[:THREADS]
        if not tickets:
            return []
        last = min(p.score for p in passages)
        with self.database.reader(scope.principal, scope.audience) as connection:
            space = spaces.live(connection)
            return search.replies(
                connection,
                dict.fromkeys(tickets, last),
                space=space,
                vector=self._vector(space, question),
                filters=scope.filters,
                known=[p.chunk_id for p in passages],
                each=REPLIES,
                tokens=REPLY_TOKENS,
            )

    def _search(
        self,
        question: str,
        scope: Scope,
        limit: int,
        depth: int,
        per_document: int,
        legs: Legs = Legs.HYBRID,
    ) -> tuple[list[Ranked], list[Passage]]:
        terms = sorted({lexical.term_id(term) for term in lexical.tokenise(question)})
        with self.database.reader(scope.principal, scope.audience) as connection:
            # Looked up for every question: another space may have become the live one since the last.
            space = spaces.live(connection)
            weights = search.idf(connection, terms) if legs is not Legs.DENSE else {}
            found = search.candidates(
                connection,
                space=space,
                vector=self._vector(space, question),
                weights=weights,
                filters=scope.filters,
                reader=(scope.principal.tokens, scope.audience),
                depth=depth,
            )
            if legs is Legs.BM25:
                found = [replace(c, cosine=0.0, title_cosine=0.0) for c in found if c.bm25 > 0]
            ranked = fuse(found, idf_mass=sum(w for w, _ in weights.values()), k1=lexical.K1)
            if legs is Legs.HYBRID:
                documents = [one.document_id for one in ranked]
                ranked = traded(ranked, search.outcomes(connection, documents, before=scope.filters.before))
            ranked = ranked[:limit]
            chosen: dict[int, tuple[float, Candidate]] = {}
            for document in ranked:
                for rank, (own, candidate) in enumerate(document.candidates[:per_document]):
                    # A document's further chunks follow it by how much worse they match.
                    chosen[candidate.chunk_id] = (
                        document.score - (document.candidates[0][0] - own if rank else 0.0),
                        candidate,
                    )
            return ranked, search.passages(connection, chosen)


def distinct(passages: Sequence[Passage]) -> list[Passage]:
    """Without those that say nearly the same words as a better one."""
    kept: list[tuple[set[str], Passage]] = []
    for passage in passages:
        words = set(passage.text.lower().split())
        if not any(len(words & other) >= NEAR_DUPLICATE * max(1, len(words | other)) for other, _ in kept):
            kept.append((words, passage))
    return [passage for _, passage in kept]
