"""What the API calls things: sources, messages, tickets and customers as JSON has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from assistant.answer import abstain
from assistant.model import Audience, Evidence, Kind, Passage
from assistant.retrieve.about import About
from assistant.retrieve.mask import masks
from assistant.store import conversations
from assistant.store.conversations import Cited
from assistant.store.customers import Known
from assistant.store.db import Conn, Row
from assistant.store.history import PastTicket
from assistant.text.sentences import safe_url

FILE = "A file that was added to the question, and is not kept."
GONE = "This source is gone, or you may no longer read it."


def source(passage: Passage, *, marker: int | None = None, quotes: Sequence[str] = ()) -> dict[str, Any]:
    """A passage; `quotes` become character offsets into its text. A ticket's timeline has no chunk."""
    text = passage.text or "\n".join(quotes)
    kind = "attachment" if passage.attached else passage.kind.value
    return {
        "marker": marker,
        "document_id": passage.document_id,
        "chunk_id": passage.chunk_id or None,
        "title": passage.title,
        "kind": kind,
        "evidence": passage.evidence.value,
        "outcome": passage.outcome,
        "url": safe_url(passage.url),
        "created_at": passage.created_at,
        "headings": list(passage.headings),
        "page": passage.page,
        "audience": passage.audience.value,
        "text": text,
        "quotes": _spans(text, quotes),
        "deleted": False,
    }


def cited(one: Cited) -> dict[str, Any]:
    """A source of a stored answer. One that is gone keeps what the answer quoted of it, which its reader had."""
    if one.passage is not None:
        return {
            **source(one.passage, marker=one.marker, quotes=one.quotes),
            "evidence": one.evidence.value,
        }
    gone = Passage(
        0,
        one.document_id or 0,
        "\n".join(one.quotes),
        FILE if one.file else GONE,
        "",
        Kind.TICKET if one.evidence is not Evidence.DOCUMENT else Kind.DOCUMENT,
        0.0,
        audience=Audience.INTERNAL,
        evidence=one.evidence,
    )
    return {**source(gone, marker=one.marker, quotes=one.quotes), "deleted": True}


_MARKUP = r"[\s*_`~|#>\\]*"
"""what Markdown and white space may put between two words of a quote"""


def _spans(text: str, quotes: Sequence[str]) -> list[dict[str, int]]:
    """Where the quotes stand, from their first word to their last; each character once, in order."""
    found: list[tuple[int, int]] = []
    for quote in quotes:
        bare = re.sub(r"^[^\w]+|[^\w]+$", "", quote)
        words = _MARKUP.join(re.escape(part) for part in re.findall(r"\w+|[^\w\s]", bare))
        match = re.search(words, text) if words else None
        if match and all(match.end() <= start or match.start() >= end for start, end in found):
            found.append(match.span())
    return [{"start": start, "end": end} for start, end in sorted(found)]


def masked(connection: Conn, passages: Sequence[Passage], known: Known | None) -> list[Passage]:
    """As an answer shows them where a customer is in question: of others' tickets only agents' words, without names."""
    if known is None:
        return list(passages)
    strange = {
        p.document_id: f"{p.title} {p.text}"
        for p in passages
        if p.evidence is Evidence.TICKET and p.customer_id not in known.ids
    }
    hidden = masks(connection, strange)
    return [
        p
        if p.document_id not in strange
        else replace(p, text=hidden[p.document_id](p.text), title=hidden[p.document_id](p.title))
        for p in passages
        if p.document_id not in strange or (p.document_id in hidden and (p.role == "agent" or not p.chunk_id))
    ]


def messages(connection: Conn, rows: Sequence[Row], known: Known | None) -> list[dict[str, Any]]:
    """Stored messages of a talk about a customer, with their sources as the transaction's reader may see them now."""
    sources = conversations.cited(connection, [row["id"] for row in rows])
    return [_message(connection, row, sources[row["id"]], known) for row in rows]


def _message(connection: Conn, row: Row, sources: Sequence[Cited], known: Known | None) -> dict[str, Any]:
    declined = row["refusal"] != ""
    nearest = conversations.nearest(connection, row) if declined else []
    now = [replace(one, passage=_masked(connection, one.passage, known)) for one in sources]
    return {
        "id": row["id"],
        "role": row["role"],
        "text": row["text"],
        "created_at": row["created_at"],
        "declined": declined,
        "refusal": row["refusal"],
        "stopped": row["stopped"],
        "confidence": row["confidence"] or 0.0,
        "sure": sure(row["confidence"]) if row["role"] == "assistant" and not row["stopped"] else "",
        "question": row["question"],
        "model": row["model"],
        "sources": [cited(one) for one in now],
        "nearest": [source(passage) for passage in masked(connection, nearest, known)],
        "feedback": row["feedback"] or None,
    }


def _masked(connection: Conn, passage: Passage | None, known: Known | None) -> Passage | None:
    return next(iter(masked(connection, [passage], known)), None) if passage else None


def sure(confidence: float | None) -> str:
    """A confidence in the words that the setting DESKHAND_ANSWER_WHEN knows."""
    reached = [word for word, least in abstain.WORDS.items() if (confidence or 0.0) >= least]
    return reached[-1].replace("_", " ") if reached else "unsure"


def customer(known: Known | None) -> dict[str, Any] | None:
    return None if known is None else {"id": known.ids[0], "name": known.name}


def about(found: About) -> dict[str, Any]:
    return {
        "customer": customer(found.customer),
        "how": found.how,
        "others": list(found.others),
        "ticket": found.ticket and {"document_id": found.ticket["id"], "title": found.ticket["title"]},
    }


def ticket(found: PastTicket) -> dict[str, Any]:
    """A ticket as it went, line by line."""
    return {
        "document_id": found.document_id,
        "ticket": found.external_id,
        "title": found.title,
        "status": found.status,
        "is_open": found.is_open,
        "created_at": found.created_at,
        "solved_at": found.solved_at,
        "url": safe_url(found.url),
        "lines": [
            {"at": line.at, "kind": line.step.value, "text": line.text, "audience": line.audience.value}
            for line in found.lines
        ],
    }
