"""What an answer may rest on: documents, what helped other customers, and this customer's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from assistant.model import Audience, Evidence, Kind, Passage
from assistant.retrieve import attached
from assistant.retrieve.attached import Attached
from assistant.retrieve.cues import Listing, cues
from assistant.retrieve.hybrid import Retriever
from assistant.retrieve.mask import Mask, masks
from assistant.retrieve.nodes import to_node
from assistant.retrieve.scope import Scope
from assistant.retrieve.timeline import timelines, told
from assistant.store import history
from assistant.store.history import PastTicket
from assistant.store.search import Filters

OWN = 4
"""passages of the customer's own tickets, beside those that are among the best anyhow"""
DOCUMENTS = 4
"""The same of documents: a desk has twenty tickets to each of them, and tickets sound like questions."""


def evidence(retriever: Retriever, question: str, scope: Scope, *, limit: int = 8) -> list[Passage]:
    """The passages for an answer to `question`.

    Nobody in particular (`scope.customer` None) and an agent who asks: all tickets are alike.
    Otherwise, and whenever the audience is public, a ticket of anybody else gives only what
    agents wrote in it, without names (`mask`), and the customer's nearest tickets are told as
    timelines as well.
    """
    own = scope.customer or ()
    listing = cues(question).listing
    if listing is Listing.OTHERS and scope.ticket:
        return _others(retriever, scope, scope.ticket)
    if listing in (Listing.OPEN, Listing.TRIED) and (own or scope.ticket):
        return _told(retriever, question, scope, {})
    found = retriever.passages(question, scope, limit=limit)
    for limits, most in _besides(scope):
        known = {p.chunk_id for p in found}
        more = retriever.passages(question, replace(scope, filters=limits), limit=most)
        found += [p for p in more if p.chunk_id not in known]
    found = [p for p in found if p.document_id != scope.without]
    replies = retriever.replies(question, found, scope)
    if own or scope.ticket:
        scores: dict[int, float] = {}
        for p in found:
            if p.kind is Kind.TICKET and p.customer_id in own:
                scores[p.document_id] = max(p.score, scores.get(p.document_id, 0.0))
        found += _told(retriever, question, scope, scores)
    found += replies
    if scope.customer is None and scope.audience is Audience.INTERNAL:
        return found
    return shared(retriever, found, scope)


def _besides(scope: Scope) -> list[tuple[Filters, int]]:
    """What is looked for apart, and how many passages of it, since the best of everything may have none."""
    apart: list[tuple[Filters, int]] = []
    if not scope.filters.kinds:
        apart.append((replace(scope.filters, kinds=(Kind.DOCUMENT,)), DOCUMENTS))
    if scope.customer:
        apart.append((replace(scope.filters, customers=scope.customer, kinds=(Kind.TICKET,)), OWN))
    return apart


def alike(retriever: Retriever, question: str, scope: Scope, *, limit: int = 5) -> list[PastTicket]:
    """Other customers' tickets about the same, masked, those that were solved first."""
    before = scope.filters.before
    tickets_only = replace(scope, filters=Filters(kinds=(Kind.TICKET,), before=before))
    ranked = retriever.documents(question, tickets_only, limit=4 * limit)
    own = scope.customer or ()
    order = [r.document_id for r, p in ranked if p.customer_id not in own and r.document_id != scope.without]
    with retriever.database.reader(scope.principal, Audience.PUBLIC) as connection:
        tickets = history.tickets(connection, ids=order, before=before, limit=len(order))
        found = {ticket.document_id: ticket for ticket in tickets}
        texts = {d: " ".join([t.title, *(line.text for line in t.lines)]) for d, t in found.items()}
        hidden = masks(connection, texts)
    tickets = [found[document] for document in order if document in found]
    tickets.sort(key=lambda t: (t.is_open, t.reopened > 0))  # keeps the order of likeness within
    return [_masked(ticket, hidden[ticket.document_id]) for ticket in tickets[:limit]]


def _told(retriever: Retriever, question: str, scope: Scope, scores: Mapping[int, float]) -> list[Passage]:
    with retriever.database.reader(scope.principal, scope.audience) as connection:
        found = timelines(
            connection,
            question,
            scope.customer or (),
            filters=scope.filters,
            scores=scores,
            ticket=scope.ticket,
        )
    # The ticket in question may be somebody else's, by a slip: an agent may see it, a customer may not.
    internal = scope.audience is Audience.INTERNAL
    return [
        p
        for p in found
        if p.document_id != scope.without and (internal or p.customer_id in (scope.customer or ()))
    ]


def _others(retriever: Retriever, scope: Scope, ticket: int) -> list[Passage]:
    with retriever.database.reader(scope.principal, scope.audience) as connection:
        asked = history.asked(connection, ticket)
    found = alike(retriever, asked, replace(scope, without=ticket)) if asked else []
    return [told(one, score=1.0, evidence=Evidence.TICKET) for one in found]


def shared(retriever: Retriever, found: Sequence[Passage], scope: Scope) -> list[Passage]:
    """Of strangers' tickets what agents wrote, masked, and none of their attachments; the rest as it is."""
    strangers: dict[int, str] = {}
    for p in found:
        if p.evidence is Evidence.TICKET and p.customer_id not in (scope.customer or ()):
            strangers[p.document_id] = f"{strangers.get(p.document_id, p.title)} {p.text}"
    with retriever.database.reader(scope.principal, scope.audience) as connection:
        hidden = masks(connection, strangers)
    kept: list[Passage] = []
    for passage in found:
        if passage.evidence is not Evidence.TICKET:
            kept.append(passage)
        elif passage.document_id not in strangers:
            kept.append(replace(passage, evidence=Evidence.HISTORY))
        elif passage.role == "agent":
            mask = hidden[passage.document_id]
            kept.append(
                replace(passage, text=mask(passage.text), title=mask(passage.title), customer_id=None)
            )
    return kept


def _masked(ticket: PastTicket, mask: Mask) -> PastTicket:
    """Without names, and of its lines those that agents wrote."""
    lines = tuple(replace(line, text=mask(line.text)) for line in ticket.lines if line.role == "agent")
    return replace(ticket, title=mask(ticket.title), requester="", lines=lines, customer_id=None)


class DeskRetriever(BaseRetriever):
    """The same for LlamaIndex, bound to one scope."""

    def __init__(
        self,
        retriever: Retriever,
        scope: Scope,
        *,
        limit: int = 8,
        files: Sequence[Attached] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scope = scope
        self.files = files
        self._retriever = retriever
        self._limit = limit

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        question = query_bundle.query_str
        found = evidence(self._retriever, question, self.scope, limit=self._limit)
        if self.files:
            # What somebody gives with a question is what it is about: it comes first.
            found = [*attached.passages(self._retriever.embedder(), question, self.files), *found]
        return [to_node(passage) for passage in found]
