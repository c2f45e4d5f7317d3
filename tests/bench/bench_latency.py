"""How fast and how complete a search is for those who may read little or much.

    python -m tests.bench.bench_latency STATE/calm [--queries 60] [--plans]

starts the servers of an installation that `bench_sync STATE` left, copies its database, gives the
copy's documents random and topical permissions, and asks real tickets of the folder of test data as
principals who may read from 0.1 to 100 % of it. For each: p50 and p95 of `Retriever.passages`
with and without embedding the question, recall@10 of the dense leg against an exact
search, overlap@10 of the lexical leg with exact BM25. `--plans` measures both plans of the
dense leg and several budgets of the lexical leg at every share, which is what
EXACT_ROWS and LEXICAL_ROWS in `assistant.store.search` rest on.

Topical permissions are drawn from 100 k-means clusters (`topics`), or are the documents nearest
to one of them (`region`): the worst case, because whoever asks about something else has
nothing permitted nearby. Writes results/latency-<chunks>.json and .png.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector, SparseVector
from pydantic import SecretStr
from scipy.cluster.vq import kmeans2

from assistant import log, servers
from assistant.app import Assistant
from assistant.config import Settings
from assistant.ingest import embed, lexical
from assistant.model import Audience, Principal
from assistant.retrieve.hybrid import DEPTH, Retriever
from assistant.retrieve.scope import Scope
from assistant.store import search, spaces
from assistant.store.db import Conn, Database
from assistant.store.documents import MAX_TERM
from assistant.store.search import Filters
from assistant.store.spaces import Space
from assistant.store.sql import SQL
from tests.bench.output import plotted, save
from tests.installation import installation
from tests.paths import DATA, MODELS

SHARES = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.001)
KINDS = ("random", "topics", "region")
BUDGETS = (2_000, 6_000, 15_000, 40_000)
INDEX = ((100, 40_000), (200, 20_000), (200, 40_000), (200, 120_000), (400, 40_000))
"""ef_search and max_scan_tuples"""
TARGET = 0.95
COPY = "bench_latency"
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Query:
    text: str
    vector: Vectors


class Recorded:
    """Every space's embedder, with the questions' vectors known beforehand."""

    def __init__(self, queries: Sequence[Query]) -> None:
        self.known = {query.text: query.vector for query in queries}

    def of(self, _space: Space) -> Recorded:
        return self

    def encode_query(self, text: str) -> Vectors:
        return self.known[text]


@contextmanager
def copied(url: str) -> Generator[str]:
    """URL of a copy of the database, dropped at the end."""
    name = urlsplit(url).path.strip("/")
    with psycopg.connect(urlsplit(url)._replace(path="/postgres").geturl(), autocommit=True) as server:
        server.execute(f'drop database if exists "{COPY}" with (force)')
        server.execute(f'create database "{COPY}" template "{name}"')
        try:
            yield urlsplit(url)._replace(path=f"/{COPY}").geturl()
        finally:
            server.execute(f'drop database if exists "{COPY}" with (force)')


def centres(url: str) -> tuple[list[int], Vectors]:
    """Document ids and the mean of their chunks' vectors."""
    with Database(url).connect("deskhand_owner") as connection:
        rows = connection.execute(
            "select document_id as id, avg(embedding_1::vector) as v from chunk group by 1 order by 1"
        ).fetchall()
    vectors = np.array([row["v"].to_numpy() for row in rows], np.float32)
    return [row["id"] for row in rows], vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def permissions(vectors: Vectors) -> dict[str, NDArray[np.bool_]]:
    """Token → which documents it lets read."""
    chance = np.random.default_rng(5)
    count = len(vectors)
    centre, label = kmeans2(vectors, min(100, count // 20), minit="++", rng=chance, iter=8)
    shuffled = chance.permutation(len(centre))
    # Cluster after cluster; within the last one the documents nearest to its middle.
    nearness = (vectors * centre[label]).sum(axis=1)
    orders = {
        "random": chance.permutation(count),
        "topics": np.lexsort((-nearness, np.argsort(shuffled)[label])),
        "region": np.argsort(-(vectors @ centre[shuffled[0]])),
    }
    found: dict[str, NDArray[np.bool_]] = {}
    for kind, order in orders.items():
        for share in SHARES:
            allowed = np.zeros(count, bool)
            allowed[order[: max(10, round(share * count))]] = True
            found[f"{kind}-{share}"] = allowed
    return found


def permit(url: str, ids: Sequence[int], allowed: Mapping[str, NDArray[np.bool_]]) -> None:
    """Write the permissions; rows and indexes are then as compact as after a first import."""
    tokens = list(allowed)
    matrix = np.stack([allowed[name] for name in tokens])
    with Database(url).connect("deskhand_owner") as connection:
        rebuilt = connection.execute(
            "select indexname as name, indexdef as definition from pg_indexes where schemaname = 'deskhand'"
            " and tablename = 'chunk' and indexname ~ 'embedding|acl|terms'"
        ).fetchall()
        connection.execute("set maintenance_work_mem = '1GB'")
        connection.execute("create temp table given (id bigint primary key, acl text[])")
        with connection.cursor().copy("copy given from stdin") as copy:
            for column, document in enumerate(ids):
                copy.write_row((document, [tokens[row] for row in np.flatnonzero(matrix[:, column])]))
        for index in rebuilt:
            connection.execute(f'drop index "{index["name"]}"'.encode())
        connection.execute("update document d set acl = g.acl from given g where g.id = d.id")
        connection.execute("update chunk c set acl = g.acl from given g where g.id = c.document_id")
        connection.execute("vacuum full chunk")
        for index in rebuilt:
            connection.execute(index["definition"].encode())
        connection.execute("vacuum analyze chunk")
        connection.execute("vacuum analyze document")


def questions(embedder: embed.Embedder, url: str, count: int) -> list[Query]:
    """Real tickets that are not in the corpus."""
    lines = (DATA / "thunderbird/bench/kb_retrieval/queries.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    with Database(url).connect("deskhand_owner") as connection:
        held = {r["external_id"] for r in connection.execute("select external_id from document")}
    texts = [" ".join(row["text"].split()[:120]) for row in rows if row["_id"] not in held]
    step = max(1, len(texts) // count)
    return [Query(text, embedder.encode_query(text)) for text in texts[::step][:count]]


def planned(connection: Conn, query: Query, space: Space) -> str:
    """Which indexes PostgreSQL reads for the statement that may use the vectors' index."""
    connection.execute("set local hnsw.iterative_scan = relaxed_order")
    statement = b"explain (format json) " + search._narrowed(SQL["search_nearest_index"], space, Filters())
    values = {"space": space.id, "vector": HalfVector(query.vector), "depth": DEPTH}
    row = connection.execute(statement, values).fetchone()
    names = re.findall(r"'(?:Index Name|Node Type)': '([^']+)'", str(row))
    return ", ".join(name for name in dict.fromkeys(names) if name.startswith("chunk_") or "Seq" in name)


def nearest(
    connection: Conn, query: Query, space: Space, *, ef: int | None, tuples: int = 40_000, depth: int
) -> list[int]:
    """The ten nearest: by the index with `ef`, or exactly without."""
    if ef is not None:
        connection.execute("set local hnsw.iterative_scan = relaxed_order")
        connection.execute(f"set local hnsw.ef_search = {ef}".encode())
        connection.execute(f"set local hnsw.max_scan_tuples = {tuples}".encode())
    statement = SQL["search_nearest_index" if ef is not None else "search_nearest_exact"]
    statement = search._narrowed(statement, space, Filters())
    values = {"space": space.id, "vector": HalfVector(query.vector), "depth": depth}
    rows = connection.execute(statement, values).fetchall()
    # The relaxed order is nearly, not quite, that of the distances.
    ids = [row["id"] for row in rows]
    found = connection.execute(
        "select id from chunk where id = any (%s) order by embedding_1 <=> %s limit 10",
        (ids, HalfVector(query.vector)),
    )
    return [row["id"] for row in found]


def by_words(connection: Conn, query: Query, space: Space, *, budget: int | None) -> list[int]:
    """The ten best by BM25 of the chunks with the rarest words, or of all."""
    weights = search.idf(connection, sorted({lexical.term_id(t) for t in lexical.tokenise(query.text)}))
    values: dict[str, Any] = {
        **Filters().values(),
        "space": space.id,
        "depth": DEPTH,
        "query": SparseVector({term - 1: w for term, (w, _) in weights.items()}, MAX_TERM),
        "rare": None if budget is None else search._rare(weights, budget=budget),
    }
    return [row["id"] for row in connection.execute(SQL["search_lexical"], values)][:10]


def timed(ask: Any) -> tuple[list[list[int]], list[float]]:
    found: list[list[int]] = []
    milliseconds: list[float] = []
    for run in ask:
        started = time.perf_counter()
        found.append(run())
        milliseconds.append(1000 * (time.perf_counter() - started))
    return found, milliseconds


def share_of(found: Sequence[Sequence[int]], truth: Sequence[Sequence[int]]) -> float:
    """Mean share of the true ten that was found; queries with no truth count for nothing."""
    parts = [len(set(f[:10]) & set(t)) / len(t) for f, t in zip(found, truth, strict=True) if t]
    return float(np.mean(parts)) if parts else 1.0


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(milliseconds, q)), 1) for q in (50, 95)}


class Bench:
    """One database, one set of questions."""

    def __init__(self, assistant: Assistant, queries: Sequence[Query], *, plans: bool) -> None:
        self.database = assistant.database
        self.queries = queries
        self.plans = plans
        self.full = assistant.retriever
        self.bare = Retriever(self.database, Recorded(queries))
        with self.database.writer() as connection:
            self.space = spaces.live(connection)
            row = connection.execute("select count(*) as n from chunk").fetchone()
            self.total = int(row["n"]) if row else 0

    def measure(self, token: str) -> dict[str, Any]:
        principal = Principal(token, frozenset({token}))
        scope = Scope(principal)
        # It fills the caches that any second question finds filled.
        self.full.passages(self.queries[0].text, scope)
        _, whole = timed(lambda q=q: self.full.passages(q.text, scope) for q in self.queries)
        _, bare = timed(lambda q=q: self.bare.passages(q.text, scope) for q in self.queries)
        with self.database.reader(principal, Audience.INTERNAL) as connection:
            row = connection.execute("select count(*) as n from chunk").fetchone()
            reads = planned(connection, self.queries[0], self.space)
        chunks = int(row["n"]) if row else 0
        exact = chunks <= search.EXACT_ROWS
        truth, exact_ms = self._legs(principal, nearest, ef=None, depth=10)
        index, index_ms = self._legs(principal, nearest, ef=max(200, DEPTH), depth=DEPTH)
        best, all_ms = self._legs(principal, by_words, budget=None)
        words, words_ms = self._legs(principal, by_words, budget=search.LEXICAL_ROWS)
        found: dict[str, Any] = {
            "share_of_chunks": round(chunks / self.total, 4),
            "chunks": chunks,
            "passages_ms": percentiles(whole),
            "passages_without_embedding_ms": percentiles(bare),
            "plan": "exact" if exact else "index",
            "dense_recall@10": 1.0 if exact else round(share_of(index, truth), 3),
            "dense_ms": percentiles(exact_ms if exact else index_ms),
            "bm25_overlap@10": 1.0 if exact else round(share_of(words, best), 3),
            "bm25_ms": percentiles(all_ms if exact else words_ms),
        }
        if self.plans:
            found["plans"] = {"reads": reads, "exact": percentiles(exact_ms), "bm25 all": percentiles(all_ms)}
            for ef, tuples in INDEX:
                ids, ms = self._legs(principal, nearest, ef=ef, tuples=tuples, depth=DEPTH)
                found["plans"][f"index ef={ef} tuples={tuples}"] = {
                    "recall": round(share_of(ids, truth), 3),
                    **percentiles(ms),
                }
            # The budget counts chunks of the corpus: whoever may read few of them gets few of its candidates.
            scaled = round(search.LEXICAL_ROWS * self.total / max(1, chunks))
            for budget in (*BUDGETS, scaled):
                ids, ms = self._legs(principal, by_words, budget=budget)
                name = "scaled" if budget == scaled else str(budget)
                found["plans"][f"bm25 budget={name}"] = {
                    "overlap": round(share_of(ids, best), 3),
                    **percentiles(ms),
                }
        return found

    def _legs(self, principal: Principal, leg: Any, **options: Any) -> tuple[list[list[int]], list[float]]:
        def one(query: Query) -> list[int]:
            with self.database.reader(principal, Audience.INTERNAL) as connection:
                return leg(connection, query, self.space, **options)

        return timed(lambda q=q: one(q) for q in self.queries)


def plot(results: Mapping[str, Mapping[str, Any]], name: str) -> None:
    with plotted(name, columns=3, size=(15, 4.5)) as axes:
        for kind in KINDS:
            rows = [results[f"{kind}-{share}"] for share in SHARES]
            place = [100 * share for share in SHARES]
            axes[0].plot(place, [r["dense_recall@10"] for r in rows], "o-", label=kind)
            axes[1].plot(place, [r["bm25_overlap@10"] for r in rows], "o-", label=kind)
            axes[2].plot(place, [r["passages_ms"]["p50"] for r in rows], "o-", label=f"{kind} p50")
            axes[2].plot(place, [r["passages_ms"]["p95"] for r in rows], "x--", label=f"{kind} p95")
        axes[0].axhline(TARGET, color="grey", lw=0.8)
        titles = ("dense leg: recall@10", "BM25 leg: overlap@10", "Retriever.passages, ms")
        for axis, title in zip(axes, titles, strict=True):
            axis.set_xscale("log")
            axis.set_xlabel("% of the documents that may be read")
            axis.set_title(title)
            axis.legend(fontsize="small")
            axis.grid(alpha=0.3)
        axes[0].set_ylim(0, 1.02)
        axes[1].set_ylim(0, 1.02)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("installation", type=Path, help="its state folder; nothing in it is changed")
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--plans", action="store_true", help="every plan and budget, not only the chosen")
    given = parser.parse_args()
    log.configure("WARNING")
    if not DATA.is_dir():
        raise SystemExit("skipped: the data folder is absent")
    # Without its processes: PostgreSQL copies only what nobody uses.
    with (
        installation(given.installation, MODELS, working=False) as desk,
        copied(servers.database_url(desk.settings)) as copy,
    ):
        ids, vectors = centres(copy)
        permit(copy, ids, permissions(vectors))
        assistant = Assistant(Settings(models=MODELS, database_url=SecretStr(copy)))
        queries = questions(assistant.embedder, copy, given.queries)
        _, embedding = timed(lambda q=q: assistant.embedder.encode_query(q.text) for q in queries)
        bench = Bench(assistant, queries, plans=given.plans)
        print(f"{len(ids)} documents, {len(queries)} questions, embedding one: {percentiles(embedding)} ms")
        results: dict[str, dict[str, Any]] = {}
        for kind in KINDS:
            for share in SHARES:
                found = results[f"{kind}-{share}"] = bench.measure(f"{kind}-{share}")
                print(f"{kind:7} {100 * share:6.1f} %  {json.dumps(found)}", flush=True)
        assistant.close()
    chunks = results["random-1.0"]["chunks"]
    missed = [name for name, found in results.items() if found["dense_recall@10"] < TARGET]
    print(f"dense recall@10 below {TARGET}: {', '.join(missed) or 'nowhere'}")
    constants = {"EXACT_ROWS": search.EXACT_ROWS, "LEXICAL_ROWS": search.LEXICAL_ROWS, "depth": DEPTH}
    plot(results, f"latency-{chunks}")
    save(
        f"latency-{chunks}",
        {
            "constants": constants,
            "queries": len(queries),
            "embedding_ms": percentiles(embedding),
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
