"""Retrieval over a handful of passages in memory, scored and fused as the store's are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from assistant.evaluate.questions import Text
from assistant.ingest import lexical
from assistant.ingest.chunk import Chunker, embedding_text
from assistant.ingest.embed import Embedder
from assistant.model import Chunk, Kind, Passage, Section
from assistant.retrieve.fusion import fuse
from assistant.retrieve.hybrid import PER_DOCUMENT, distinct
from assistant.retrieve.nodes import to_node
from assistant.store.search import Candidate


class MemoryRetriever(BaseRetriever):
    """A question's own corpus: each text is a document, cut and embedded as ingest would."""

    def __init__(
        self, texts: Sequence[Text], *, embedder: Embedder, chunker: Chunker, limit: int = 8, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._embedder = embedder
        self._texts = texts
        self._limit = limit
        self._chunks: list[tuple[int, Chunk]] = [
            (number, chunk)
            for number, text in enumerate(texts)
            for chunk in chunker.chunk([Section(text.text)], title=text.title)
        ]
        indexed = [embedding_text(texts[number].title, chunk) for number, chunk in self._chunks]
        vectors = embedder.encode([*indexed, *(text.title for text in texts)])
        self._vectors, self._titles = vectors[: len(indexed)], vectors[len(indexed) :]
        self._weights = [lexical.weights(lexical.tokenise(text)) for text in indexed]

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if not self._chunks:
            return []
        vector = self._embedder.encode_query(query_bundle.query_str)
        idf = self._idf(query_bundle.query_str)
        cosines, titles = self._vectors @ vector, self._titles @ vector
        sizes = Counter(number for number, _ in self._chunks)
        candidates = [
            Candidate(
                chunk_id=index,
                document_id=number,
                cosine=float(cosines[index]),
                bm25=sum(weight * idf.get(term, 0.0) for term, weight in self._weights[index].items()),
                title_cosine=float(titles[number]),
                alone=sizes[number] == 1,
            )
            for index, (number, _) in enumerate(self._chunks)
        ]
        ranked = fuse(candidates, idf_mass=sum(idf.values()), k1=lexical.K1)
        found = [
            self._passage(candidate, document.score - (document.candidates[0][0] - own))
            for document in ranked
            for own, candidate in document.candidates[:PER_DOCUMENT]
        ]
        found.sort(key=lambda passage: (-passage.score, passage.chunk_id))
        return [to_node(passage) for passage in distinct(found)[: self._limit]]

    def _idf(self, question: str) -> dict[int, float]:
        """As `store.search.idf`, over these texts only."""
        wanted = {lexical.term_id(term) for term in lexical.tokenise(question)}
        held = Counter(term for weights in self._weights for term in wanted & weights.keys())
        total = len(self._chunks)
        return {term: math.log(1 + (total - n + 0.5) / (n + 0.5)) for term, n in held.items()}

    def _passage(self, candidate: Candidate, score: float) -> Passage:
        number, chunk = self._chunks[candidate.chunk_id]
        text = self._texts[number]
        return Passage(
            chunk_id=candidate.chunk_id,
            document_id=number,
            text=chunk.text,
            title=text.title,
            url="",
            kind=Kind.DOCUMENT,
            score=score,
            headings=chunk.headings,
            external_id=text.id or str(number),
            cosine=candidate.cosine,
            bm25=candidate.bm25,
        )
