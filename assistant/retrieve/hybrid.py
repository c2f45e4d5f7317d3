"""The retriever: a question, asked by a principal for an audience → passages, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from assistant.ingest import lexical
from assistant.ingest.embed import Embedder
from assistant.model import Audience, Evidence, Kind, Passage, Principal
from assistant.retrieve.fusion import Legs, Ranked, fuse
from assistant.retrieve.mask import Mask, masks
from assistant.retrieve.nodes import to_node
from assistant.store import history, search
from assistant.store.db import Database
from assistant.store.history import PastTicket
from assistant.store.search import Candidate, Filters

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
OWN = 4
"""passages of the customer's own tickets, beside those that are among the best anyhow"""
NEAR_DUPLICATE = 0.9
"""share of words two passages may have in common and both be shown"""


class Retriever:
    """Hybrid search over the store; one for a process, safe to share between threads."""

    def __init__(self, database: Database, embedder: Embedder) -> None:
        self.database = database
        self.embedder = embedder

    def documents(
        self,
        question: str,
        *,
        principal: Principal,
        audience: Audience = Audience.INTERNAL,
        filters: Filters | None = None,
        limit: int = 10,
        depth: int = DEPTH,
        legs: Legs = Legs.HYBRID,
    ) -> list[tuple[Ranked, Passage]]:
        """The best documents, each with its best passage; what `deskhand eval retrieval` ranks."""
        ranked, passages = self._search(
            question, principal, audience, filters or Filters(), limit, depth, 1, legs
        )
        best = {p.document_id: p for p in passages}
        return [(r, best[r.document_id]) for r in ranked if r.document_id in best]

    def passages(
        self,
        question: str,
        *,
        principal: Principal,
        audience: Audience = Audience.INTERNAL,
        filters: Filters | None = None,
        limit: int = 8,
    ) -> list[Passage]:
        """The best passages, no two nearly alike, at most `PER_DOCUMENT` of one document."""
        # Read more than asked for, since near-duplicates fall out afterwards.
        _, found = self._search(
            question,
            principal,
            audience,
            filters or Filters(),
            2 * limit,
            DEPTH,
            PER_DOCUMENT,
        )
        return distinct(found)[:limit]

    def evidence(
        self,
        question: str,
        *,
        principal: Principal,
        audience: Audience = Audience.INTERNAL,
        filters: Filters | None = None,
        limit: int = 8,
        customer: Sequence[int] | None = None,
        without: int | None = None,
    ) -> list[Passage]:
        """What an answer may rest on: documents, this customer's tickets, and what helped others.

        `customer` None: an agent asks about nobody in particular, and all tickets are alike.
        Otherwise, and whenever the audience is public, a ticket of anybody else gives only
        what agents wrote in it, without names (`mask`). `without`: id of a document that is
        not to be used, as the ticket that is being answered.
        """
        filters = filters or Filters()
        own = tuple(customer or ())

        def best(within: Filters, most: int) -> list[Passage]:
            return self.passages(question, principal=principal, audience=audience, filters=within, limit=most)

        found = best(filters, limit)
        if own:
            known = {p.chunk_id for p in found}
            mine = best(replace(filters, customers=own, kinds=(Kind.TICKET,)), OWN)
            found += [p for p in mine if p.chunk_id not in known]
        found = [p for p in found if p.document_id != without]
        found += self.replies(question, found, principal=principal, audience=audience, filters=filters)
        if customer is None and audience is Audience.INTERNAL:
            return found
        return self._shared(found, own, principal, audience)

    def alike(
        self,
        question: str,
        *,
        principal: Principal,
        customer: Sequence[int] = (),
        without: int | None = None,
        limit: int = 5,
    ) -> list[PastTicket]:
        """Other customers' tickets about the same, masked, those that were solved first."""
        ranked = self.documents(
            question, principal=principal, filters=Filters(kinds=(Kind.TICKET,)), limit=4 * limit
        )
        order = [
            r.document_id for r, p in ranked if p.customer_id not in customer and r.document_id != without
        ]
        with self.database.reader(principal, Audience.PUBLIC) as connection:
            found = {t.document_id: t for t in history.tickets(connection, ids=order, limit=len(order))}
            texts = {d: " ".join([t.title, *(line.text for line in t.lines)]) for d, t in found.items()}
            made = masks(connection, texts)
        tickets = [found[document] for document in order if document in found]
        tickets.sort(key=lambda t: (t.is_open, t.reopened > 0))  # keeps the order of likeness within
        return [_masked(ticket, made[ticket.document_id]) for ticket in tickets[:limit]]

    def _shared(
        self, found: Sequence[Passage], own: Sequence[int], principal: Principal, audience: Audience
    ) -> list[Passage]:
        """Of strangers' tickets what agents wrote, masked, and none of their attachments; the rest as it is."""
        strangers: dict[int, str] = {}
        for p in found:
            if p.evidence is Evidence.TICKET and p.customer_id not in own:
                strangers[p.document_id] = f"{strangers.get(p.document_id, p.title)} {p.text}"
        with self.database.reader(principal, audience) as connection:
            made = masks(connection, strangers)
        kept: list[Passage] = []
        for passage in found:
            if passage.evidence is Evidence.DOCUMENT:
                kept.append(passage)
            elif passage.document_id not in strangers:
                kept.append(replace(passage, evidence=Evidence.HISTORY))
            elif passage.role == "agent":
                mask = made[passage.document_id]
                kept.append(
                    replace(passage, text=mask(passage.text), title=mask(passage.title), customer_id=None)
                )
        return kept

    def replies(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        principal: Principal,
        audience: Audience = Audience.INTERNAL,
        filters: Filters | None = None,
    ) -> list[Passage]:
        """What agents wrote in the first THREADS tickets among `passages` and isn't there yet."""
        tickets = list(dict.fromkeys(p.document_id for p in passages if p.kind is Kind.TICKET))[:THREADS]
        if not tickets:
            return []
        last = min(p.score for p in passages)
        with self.database.reader(principal, audience) as connection:
            return search.replies(
                connection,
                dict.fromkeys(tickets, last),
                space=search.live_space(connection),
                vector=self.embedder.encode_query(question),
                filters=filters or Filters(),
                known=[p.chunk_id for p in passages],
                each=REPLIES,
                tokens=REPLY_TOKENS,
            )

    def _search(
        self,
        question: str,
        principal: Principal,
        audience: Audience,
        filters: Filters,
        limit: int,
        depth: int,
        per_document: int,
        legs: Legs = Legs.HYBRID,
    ) -> tuple[list[Ranked], list[Passage]]:
        vector = self.embedder.encode_query(question)
        terms = sorted({lexical.term_id(term) for term in lexical.tokenise(question)})
        with self.database.reader(principal, audience) as connection:
            weights = search.idf(connection, terms) if legs is not Legs.DENSE else {}
            found = search.candidates(
                connection,
                space=search.live_space(connection),
                vector=vector,
                weights=weights,
                filters=filters,
                reader=(principal.tokens, audience),
                depth=depth,
            )
            if legs is Legs.BM25:
                found = [replace(c, cosine=0.0, title_cosine=0.0) for c in found if c.bm25 > 0]
            ranked = fuse(found, idf_mass=sum(w for w, _ in weights.values()), k1=lexical.K1)[:limit]
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


def _masked(ticket: PastTicket, mask: Mask) -> PastTicket:
    """Without names, and of its lines those that agents wrote."""
    lines = tuple(replace(line, text=mask(line.text)) for line in ticket.lines if line.role == "agent")
    return replace(ticket, title=mask(ticket.title), requester="", lines=lines, customer_id=None)


class DeskRetriever(BaseRetriever):
    """The same for LlamaIndex: bound to one principal, audience, customer and set of filters."""

    def __init__(
        self,
        retriever: Retriever,
        *,
        principal: Principal,
        audience: Audience = Audience.INTERNAL,
        filters: Filters | None = None,
        limit: int = 8,
        customer: Sequence[int] | None = None,
        without: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._retriever = retriever
        self._principal = principal
        self._audience = audience
        self._filters = filters or Filters()
        self._limit = limit
        self._customer = customer
        self._without = without

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._retriever.evidence(
            query_bundle.query_str,
            principal=self._principal,
            audience=self._audience,
            filters=self._filters,
            limit=self._limit,
            customer=self._customer,
            without=self._without,
        )
        return [to_node(passage) for passage in found]
