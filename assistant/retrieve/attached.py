"""Files that somebody drops in beside a question: read for it like sources, and kept by nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.ingest.embed import Embedder
from assistant.model import Audience, Chunk, Kind, Passage
from assistant.text.sentences import stems

READ = 64
"""chunks that are compared by meaning, those with most of the question's words: embedding takes a core 0.03 s each"""
BEST = 4
"""of them an answer may rest on"""


@dataclass(frozen=True, slots=True)
class Attached:
    name: str
    chunks: tuple[Chunk, ...]


def passages(embedder: Embedder, question: str, files: Sequence[Attached]) -> list[Passage]:
    """The best passages of these files, best first. They have no document: their id is 0."""
    words = set(stems(question))
    chunks = [(file.name, chunk) for file in files for chunk in file.chunks]
    counts = Counter({n: len(words & set(stems(chunk.text))) for n, (_, chunk) in enumerate(chunks)})
    some = [chunks[n] for n, _ in counts.most_common(READ)]
    if not some:
        return []
    cosines = embedder.encode([chunk.text for _, chunk in some]) @ embedder.encode_query(question)
    ranked = sorted(zip(cosines.tolist(), some, strict=True), key=lambda one: -one[0])
    return [
        Passage(
            chunk_id=0,
            document_id=0,
            text=chunk.text,
            title=name,
            url="",
            kind=Kind.DOCUMENT,
            score=cosine,
            headings=chunk.headings,
            page=chunk.page,
            audience=Audience.INTERNAL,
            cosine=cosine,
        )
        for cosine, (name, chunk) in ranked[:BEST]
    ]
