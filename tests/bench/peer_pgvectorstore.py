"""What a user would build instead: LlamaIndex SentenceSplitter + PGVectorStore, hybrid, with our embedder.

    /path/to/peer-python tests/bench/peer_pgvectorstore.py DATABASE_URL BEIR_FOLDER SPLIT MODEL_FOLDER OUT.json

Runs in a virtual environment of its own, because `llama-index-vector-stores-postgres` caps SQLAlchemy
below what Deskhand's migrations use:

    python -m venv peer
    peer/bin/pip install llama-index-vector-stores-postgres llama-index-core==0.14.25 openvino tokenizers \\
        pydantic 'psycopg[binary]'

Writes {"ranking": {query id: [document ids]}, "seconds": {…}} for bench_retrieval to score.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.node_parser import SentenceSplitter
from llama_index.vector_stores.postgres import PGVectorStore
from pydantic import PrivateAttr

from assistant.ingest.embed import OnnxEmbedder

TOP = 150
"""from each leg, as our retriever takes"""
DEPTH = 100


class SameEmbedding(BaseEmbedding):
    """Deskhand's embedder as LlamaIndex wants one."""

    _embedder: OnnxEmbedder = PrivateAttr()

    def __init__(self, folder: Path) -> None:
        super().__init__(model_name="same", embed_batch_size=64)
        self._embedder = OnnxEmbedder(folder)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embedder.encode([text])[0].tolist()

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.encode(texts).tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedder.encode_query(query).tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def records(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    plain, packed = folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"
    with plain.open("rt", encoding="utf-8") if plain.is_file() else gzip.open(packed, "rt") as stream:
        for line in stream:
            yield json.loads(line)


def main(url: str, folder: Path, split: str, model: Path, out: Path) -> None:
    Settings.embed_model = SameEmbedding(model)
    store = PGVectorStore.from_params(
        connection_string=url.replace("postgresql://", "postgresql+psycopg2://", 1),
        async_connection_string=url.replace("postgresql://", "postgresql+asyncpg://", 1),
        table_name="peer",
        hybrid_search=True,
        text_search_config="english",
        embed_dim=384,
        hnsw_kwargs={
            "hnsw_m": 16,
            "hnsw_ef_construction": 64,
            "hnsw_ef_search": 200,
            "hnsw_dist_method": "vector_cosine_ops",
        },
    )
    splitter = SentenceSplitter(chunk_size=256, chunk_overlap=20)
    nodes = splitter.get_nodes_from_documents(
        [
            Document(
                id_=str(r["_id"]),
                text=r["text"],
                metadata={"title": r["title"]} if r.get("title") else {},
                excluded_llm_metadata_keys=[],
            )
            for r in records(folder, "corpus")
        ]
    )
    started = time.perf_counter()
    index = VectorStoreIndex.from_vector_store(store)
    index.insert_nodes(nodes)
    indexed = time.perf_counter() - started
    retriever = index.as_retriever(vector_store_query_mode="hybrid", similarity_top_k=TOP, sparse_top_k=TOP)
    with (folder / "qrels" / f"{split}.tsv").open(encoding="utf-8", newline="") as stream:
        wanted = {row[0] for row in csv.reader(stream, delimiter="\t")}
    ranking: dict[str, list[str]] = {}
    seconds: list[float] = []
    for query in records(folder, "queries"):
        if query["_id"] not in wanted:
            continue
        started = time.perf_counter()
        found = retriever.retrieve(query["text"])
        seconds.append(time.perf_counter() - started)
        # Its list as it comes: what a user of it would show.
        documents = dict.fromkeys(
            node.node.ref_doc_id for node in found if node.node.ref_doc_id != query["_id"]
        )
        ranking[query["_id"]] = list(documents)[:DEPTH]
    seconds.sort()
    times = {
        "index": indexed,
        "query_p50": seconds[len(seconds) // 2],
        "query_p95": seconds[int(len(seconds) * 0.95)],
    }
    out.write_text(json.dumps({"ranking": ranking, "seconds": times, "nodes": len(nodes)}))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:3]), sys.argv[3], *map(Path, sys.argv[4:6]))
