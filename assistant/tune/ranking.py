"""How well an embedder ranks, on a part of the real corpus, by vectors alone.

Indexing a whole desk anew for each look at a model takes too long. So questions are
ranked against a pool: what answers them, the best that is found for them today, and other documents
spread over the whole corpus. All questions share the pool, so what is found for one distracts the others. Chunks
and titles are scored as the real retriever scores them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from assistant.app import Assistant
from assistant.evaluate.retrieval import CUT, score
from assistant.evaluate.scratch import Progress
from assistant.ingest import lexical
from assistant.ingest.embed import Embedder
from assistant.model import Audience
from assistant.retrieve.fusion import fuse
from assistant.retrieve.hybrid import DEPTH
from assistant.retrieve.scope import Scope
from assistant.store import pairs
from assistant.store.search import Candidate
from assistant.tune.negatives import everything, text_of
from assistant.tune.pairs import Question

NEAREST, CHUNKS = 10, 2000
"""documents found for each question, and chunks in all, that a pool has at most"""


@dataclass(frozen=True, slots=True)
class Pool:
    """Documents to rank, and the questions."""

    documents: tuple[int, ...]
    """of each chunk"""
    texts: tuple[str, ...] = field(repr=False)
    titles: Mapping[int, str] = field(repr=False)
    written: Mapping[int, float] = field(repr=False)
    """when they were written, in seconds since 1970; an earlier question finds only those that answer it"""
    questions: tuple[str, ...] = field(repr=False)
    asked: tuple[float, ...] = field(repr=False)
    """seconds since 1970, infinity where nothing is known"""
    own: tuple[int, ...] = field(repr=False)
    """id of the ticket that the question is of, else 0"""
    relevant: tuple[tuple[int, ...], ...] = field(repr=False)


def pool(assistant: Assistant, questions: Sequence[Question], *, progress: Progress) -> Pool:
    """What `questions` are ranked against."""
    with assistant.database.writer() as connection:
        scope = Scope(everything(connection), Audience.INTERNAL)
        spread = pairs.some(connection, count=CHUNKS // 4)
    wanted = dict.fromkeys(document for question in questions for document in sorted(question.relevant))
    for done, question in enumerate(questions, 1):
        progress("Look up", done, len(questions))
        for ranked, _ in assistant.retriever.documents(question.text, scope, limit=NEAREST):
            wanted[ranked.document_id] = None
    with assistant.database.writer() as connection:
        rows = pairs.chunks(connection, documents=list(wanted))
        if len(rows) < CHUNKS:
            rows += pairs.chunks(connection, documents=[d for d in spread if d not in wanted])
    relevant = {document for question in questions for document in question.relevant}
    kept = [row for row in rows if row["document_id"] in relevant]
    kept += [row for row in rows if row["document_id"] not in relevant][: max(0, CHUNKS - len(kept))]
    return Pool(
        tuple(row["document_id"] for row in kept),
        tuple(text_of(row) for row in kept),
        {row["document_id"]: row["title"] for row in kept},
        {row["document_id"]: row["created_at"].timestamp() for row in kept if row["created_at"]},
        tuple(q.text for q in questions),
        tuple(q.at.timestamp() if q.at else float("inf") for q in questions),
        tuple(q.document for q in questions),
        tuple(tuple(sorted(q.relevant)) for q in questions),
    )


def ndcg(embedder: Embedder, given: Pool) -> list[float]:
    """nDCG@10 of each question."""
    names = list(given.titles)
    vectors = embedder.encode([*given.texts, *(given.titles[name] for name in names)])
    chunks, titles = vectors[: len(given.texts)], dict(zip(names, vectors[len(given.texts) :], strict=True))
    sizes = Counter(given.documents)
    ranking: dict[str, list[str]] = {}
    for number, text in enumerate(given.questions):
        vector = embedder.encode_query(text)
        cosines = chunks @ vector
        found = [
            Candidate(
                int(place),
                document,
                float(cosines[place]),
                0.0,
                float(titles[document] @ vector),
                sizes[document] == 1,
            )
            for place in np.argsort(-cosines, kind="stable")
            if _there(given, document := given.documents[place], number)
        ][:DEPTH]
        ranked = fuse(found, idf_mass=0.0, k1=lexical.K1)
        ranking[str(number)] = [str(one.document_id) for one in ranked[:CUT]]
    judged = {str(n): {str(d): 1 for d in documents} for n, documents in enumerate(given.relevant)}
    scores = score(judged, ranking)
    return [scores[str(number)][f"ndcg@{CUT}"] for number in range(len(given.questions))]


def _there(given: Pool, document: int, question: int) -> bool:
    """Whether the question could have found it."""
    newer = given.written.get(document, 0.0) > given.asked[question]
    return document in given.relevant[question] or not (newer or document == given.own[question])
