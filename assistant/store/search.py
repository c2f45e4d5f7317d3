"""The two legs of retrieval and their exact scores, as the reader of the open transaction.

Which plan finds the nearest chunks is chosen by how many the reader may see: a
filtered walk of the HNSW graph loses most of them when they are few, and an
exact scan of a few ten thousand rows is fast.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, SparseVector

from assistant.model import Audience, Evidence, Kind, Passage
from assistant.store.db import Conn, Row
from assistant.store.documents import MAX_TERM
from assistant.store.history import outcome
from assistant.store.spaces import Space
from assistant.store.sql import SQL

EXACT_ROWS = 25_000
"""up to so many permitted chunks both legs score every one of them"""
LEXICAL_ROWS = 12_000
"""above that, chunks whose BM25 is computed for one question: those that hold its rarest words"""
COUNT_SECONDS = 30.0
"""how long a count of permitted chunks is believed; it only decides the plan"""


@dataclass(frozen=True, slots=True)
class Filters:
    """Narrows a search. None means no condition; permission is not a filter, it always holds."""

    sources: tuple[int, ...] | None = None
    kinds: tuple[Kind, ...] | None = None
    customers: tuple[int, ...] | None = None
    """tickets of no other customer; documents stay in"""
    languages: tuple[str, ...] | None = None
    before: dt.datetime | None = None
    """as of: only texts written until then"""

    def values(self) -> dict[str, Any]:
        return {
            "sources": list(self.sources) if self.sources is not None else None,
            "kinds": [kind.value for kind in self.kinds] if self.kinds is not None else None,
            "customers": list(self.customers) if self.customers is not None else None,
            "languages": list(self.languages) if self.languages is not None else None,
            "before": self.before,
        }

    def sql(self) -> bytes:
        conditions = {
            "sources": b"c.source_id = any (%(sources)s)",
            "kinds": b"c.kind = any (%(kinds)s)",
            "customers": b"(c.customer_id is null or c.customer_id = any (%(customers)s))",
            "languages": b"c.language = any (%(languages)s)",
            "before": b"c.created_at <= %(before)s",
        }
        chosen = [text for name, text in conditions.items() if getattr(self, name) is not None]
        return b" and ".join([b"c.space_{slot} = %(space)s", *chosen])


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk either leg proposed, with the exact scores of both."""

    chunk_id: int
    document_id: int
    cosine: float
    bm25: float
    """with its idf, not normalised"""
    title_cosine: float
    alone: bool
    """the only chunk of its document that the reader may see"""
    customer_id: int | None = None


def idf(connection: Conn, terms: Sequence[int]) -> dict[int, tuple[float, int]]:
    """For each term of the corpus its idf (Robertson's, never negative) and its count of chunks."""
    row = connection.execute(SQL["corpus"]).fetchone()
    total = int(row["chunks"]) if row else 0
    counts = connection.execute(SQL["term_counts"], {"terms": list(terms)})
    return {
        r["term"]: (math.log(1 + (total - min(total, r["chunks"]) + 0.5) / (r["chunks"] + 0.5)), r["chunks"])
        for r in counts
    }


def _narrowed(statement: bytes, space: Space, filters: Filters) -> bytes:
    return space.of(statement.replace(b"{filters}", filters.sql()))


_counts: dict[tuple[Any, ...], tuple[float, int]] = {}


def _permitted(connection: Conn, space: Space, filters: Filters, reader: tuple[Any, ...]) -> int:
    key = (connection.info.dbname, connection.info.host, space.id, filters, reader)
    now = time.monotonic()
    if key in _counts and now - _counts[key][0] < COUNT_SECONDS:
        return _counts[key][1]
    values = {**filters.values(), "space": space.id, "limit": EXACT_ROWS + 1}
    row = connection.execute(_narrowed(SQL["search_permitted"], space, filters), values).fetchone()
    count = int(row["n"]) if row else 0
    if len(_counts) > 1000:
        _counts.clear()
    _counts[key] = (now, count)
    return count


def _rare(weights: Mapping[int, tuple[float, int]], *, budget: int) -> list[int]:
    """The rarest terms whose chunks together stay within `budget`, at least one."""
    chosen: list[int] = []
    total = 0
    for term, (_, chunks) in sorted(weights.items(), key=lambda item: item[1][1]):
        total += chunks
        if chosen and total > budget:
            break
        chosen.append(term)
    return chosen


def candidates(
    connection: Conn,
    *,
    space: Space,
    vector: NDArray[np.float32],
    weights: Mapping[int, tuple[float, int]],
    filters: Filters,
    reader: tuple[Any, ...],
    depth: int,
) -> list[Candidate]:
    """Up to 2 × `depth` chunks: the nearest by cosine and the best by BM25.

    `vector` is the question's, (dimension,); `weights` its terms as `idf` returns
    them; `reader` what tells readers apart (for the cache of counts only).
    """
    values: dict[str, Any] = {
        **filters.values(),
        "space": space.id,
        "depth": depth,
        "vector": HalfVector(vector),
        "query": SparseVector({term - 1: w for term, (w, _) in weights.items()}, MAX_TERM),
    }
    permitted = _permitted(connection, space, filters, reader)
    if permitted == 0:
        return []
    exact = permitted <= EXACT_ROWS
    if not exact:
        connection.execute("set local hnsw.iterative_scan = relaxed_order")
        connection.execute(f"set local hnsw.ef_search = {max(200, depth)}".encode())
        connection.execute("set local hnsw.max_scan_tuples = 40000")
    statement = _narrowed(SQL["search_nearest_exact" if exact else "search_nearest_index"], space, filters)
    ids = {row["id"] for row in connection.execute(statement, values)}
    if weights:
        values["rare"] = None if exact else _rare(weights, budget=LEXICAL_ROWS)
        ids |= {row["id"] for row in connection.execute(SQL["search_lexical"], values)}
    values["ids"] = list(ids)
    return [
        Candidate(
            chunk_id=row["id"],
            document_id=row["document_id"],
            cosine=row["cosine"],
            bm25=max(row["bm25"], 0.0),
            title_cosine=row["title_cosine"] or 0.0,
            alone=row["alone"],
            customer_id=row["customer_id"],
        )
        for row in connection.execute(space.of(SQL["search_scores"]), values)
    ]


def replies(
    connection: Conn,
    scores: Mapping[int, float],
    *,
    space: Space,
    vector: NDArray[np.float32],
    filters: Filters,
    known: Sequence[int],
    each: int,
    tokens: int,
) -> list[Passage]:
    """What agents wrote in these tickets: solutions and the longest texts first, `each` of a ticket.

    `scores` gives the score each ticket's replies get; chunks in `known` and those of
    fewer than `tokens` tokens are left out.
    """
    values = {
        **filters.values(),
        "space": space.id,
        "vector": HalfVector(vector),
        "documents": list(scores),
        "known": list(known),
        "each": each,
        "tokens": tokens,
    }
    rows = connection.execute(_narrowed(SQL["search_replies"], space, filters), values)
    found = {
        row["id"]: (
            scores[row["document_id"]],
            Candidate(row["id"], row["document_id"], row["cosine"], 0.0, 0.0, False, row["customer_id"]),
        )
        for row in rows
    }
    return passages(connection, found) if found else []


def customers(connection: Conn, name: str) -> list[Row]:
    """Visible customers whose id, name or domain is `name`; else those whose name contains it."""
    return connection.execute(SQL["customer_find"], {"name": name.strip().lower()}).fetchall()


def documented(connection: Conn, terms: Sequence[int]) -> set[int]:
    """Those of the terms that some document has which is no ticket."""
    rows = connection.execute("select documented(%s::int[]) as term", (list(terms),))
    return {int(row["term"]) for row in rows}


def customers_named(
    connection: Conn, text: str, *, words: Sequence[str], domains: Sequence[str], addresses: Sequence[str]
) -> list[Row]:
    """Visible customers whose name the text has, whose name begins with one of `words`, or who own an address."""
    return connection.execute(
        SQL["customers_named"],
        {"text": text.lower(), "words": list(words), "domains": list(domains), "names": list(addresses)},
    ).fetchall()


def outcomes(
    connection: Conn, documents: Sequence[int], *, before: dt.datetime | None = None
) -> dict[int, tuple[bool, float]]:
    """Of the tickets among them: whether one had a solution, and its age in days, as of `before` or now."""
    rows = connection.execute(SQL["search_outcomes"], {"ids": list(documents), "before": before})
    return {row["id"]: (row["solved"], row["days"]) for row in rows}


def passages(connection: Conn, scored: Mapping[int, tuple[float, Candidate]]) -> list[Passage]:
    """The texts of the chosen chunks, by their fused score, best first."""
    rows = connection.execute(SQL["search_texts"], {"ids": list(scored)})
    found = [passage(row, *scored[row["id"]]) for row in rows]
    return sorted(found, key=lambda p: (-p.score, p.chunk_id))


def of_ids(connection: Conn, chunks: Sequence[int]) -> list[Passage]:
    """These chunks, as far as the reader may see them, in no order."""
    return [passage(row) for row in connection.execute(SQL["search_texts"], {"ids": list(chunks)})]


def passage(row: Row, score: float = 0.0, candidate: Candidate | None = None) -> Passage:
    """A passage of a row that has a chunk, its document and its ticket."""
    return Passage(
        chunk_id=row["id"] or 0,
        document_id=row["document_id"],
        text=row["text"],
        title=row["title"],
        url=row["url"],
        kind=Kind(row["kind"]),
        score=score,
        headings=tuple(row["headings"]),
        source=row["source"],
        external_id=row["external_id"],
        page=row["page"],
        audience=Audience(row["audience"]),
        role=row["role"],
        is_solution=row["is_solution"],
        customer_id=row["customer_id"],
        created_at=row["created_at"],
        attached=bool(row["parent"]),
        cosine=candidate.cosine if candidate else 0.0,
        bm25=candidate.bm25 if candidate else 0.0,
        evidence=Evidence(row["evidence"]),
        outcome=outcome(row) if row["kind"] == Kind.TICKET and row["status"] is not None else "",
    )


def document(
    connection: Conn, document_id: int, *, chunk: int | None = None, around: int = 1
) -> list[Passage]:
    """A document's passages around one of them, else its first; none for what the reader may not see."""
    values = {"id": document_id, "chunk": chunk, "around": around}
    return [passage(row) for row in connection.execute(SQL["document_passages"], values)]
