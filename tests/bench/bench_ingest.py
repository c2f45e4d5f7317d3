"""Chunks a second of the whole ingest beside the embedder's own on the very same texts, and where the time goes.

    python -m tests.bench.bench_ingest [--documents 400] [--rounds 3]

Real files of the Thunderbird knowledge base and real tickets are queued in a scratch database of the server
the settings name, or the embedded one that runs; then the queue is emptied by `Pipeline.run_batch`: in one process
with all cores, and in as many processes of one core each, like the workers. Pipeline and embedder take
turns in each round, so that whoever else uses the machine hits both. Writes results/ingest.json and .png.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import json
import multiprocessing
import os
import pstats
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import psycopg
from pydantic import SecretStr

from assistant import config, log, servers
from assistant.app import Assistant, build_connector
from assistant.config import Settings
from assistant.ingest.chunk import embedding_text
from assistant.model import Batch
from assistant.store.db import Conn
from connectors.network import Network
from tests import handed
from tests.bench.output import plotted, save
from tests.paths import DATA
from tests.thunderbird import TICKETS, ticket_export

NAME = "bench_ingest"
TARGET = 0.85
STEPS = {
    "parse": "Parser.parse",
    "chunk": "Chunker.chunk",
    "embed": "OnnxEmbedder.encode",
    "tokenise": "lexical.tokenise",
    "write": "documents.write",
    "claim": "documents.claim",
    "take": "documents.take",
    "known": "documents.known_vectors",
}


def batches(documents: int) -> Iterator[tuple[str, Batch]]:
    """Half files, half tickets, as the connectors hand them over."""
    share = {"path": str(DATA / "thunderbird/fileshare/kb-html"), "access": "everyone"}
    export = ticket_export(DATA / TICKETS, "everyone")
    for name, settings in (("directory", share), ("ticket-export", export)):
        connector = build_connector(name, settings, Network())
        left = documents // 2
        for batch in connector.sync(None):
            changes = batch.changes[:left]
            left -= len(changes)
            yield name, Batch(changes, {})
            if not left:
                break
        connector.close()


def fill(assistant: Assistant, documents: int) -> None:
    """Queue the documents; the queue is kept aside to be filled again."""
    for name in ("directory", "ticket-export"):
        handed.add_source(assistant, name)
    for name, batch in batches(documents):
        handed.commit(assistant, batch.changes, source=name)
    with assistant.database.connect("deskhand_owner") as connection:
        connection.execute("create table queued as select * from pending")


def refill(connection: Conn) -> None:
    """As before the first document was indexed."""
    connection.execute("truncate chunk, citation")
    connection.execute("delete from pending")
    connection.execute("insert into pending select * from queued")
    connection.execute("vacuum analyze chunk")


def drain(assistant: Assistant) -> None:
    while assistant.pipeline.run_batch() is not None:
        pass


def indexer(settings: Settings, ready: Any, go: Any) -> None:
    """A process that indexes; it loads what a worker has loaded, then waits for the start."""
    with started(settings, ready, go) as assistant:
        drain(assistant)


def encoder(settings: Settings, ready: Any, go: Any, texts: list[str]) -> None:
    """A process that only embeds."""
    with started(settings, ready, go) as assistant:
        for start in range(0, len(texts), 64):
            assistant.embedder.encode(texts[start : start + 64])


@contextmanager
def started(settings: Settings, ready: Any, go: Any) -> Generator[Assistant]:
    log.configure("WARNING")
    assistant = Assistant(settings, threads=1)
    assistant.embedder.encode(["warm"])
    _ = assistant.pipeline
    ready.release()
    go.wait()
    yield assistant
    assistant.close()


def by_processes(work: Callable[..., None], settings: Settings, parts: Sequence[Sequence[Any]]) -> float:
    """Seconds in which one process a part does its `work`, loading aside."""
    context = multiprocessing.get_context("spawn")
    ready, go = context.Semaphore(0), context.Event()
    processes = [context.Process(target=work, args=(settings, ready, go, *part)) for part in parts]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()

    def run() -> None:
        go.set()
        for process in processes:
            process.join()

    seconds = timed(run)
    if any(process.exitcode for process in processes):
        raise SystemExit("a process failed")
    return seconds


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def texts_of(connection: Conn) -> list[str]:
    """What was embedded of the chunks, in the order in which it was."""
    rows = connection.execute(
        "select c.text, c.headings, d.title from chunk c join document d on d.id = c.document_id order by c.id"
    ).fetchall()

    class Stored:
        def __init__(self, row: dict[str, Any]) -> None:
            self.text, self.headings = row["text"], tuple(row["headings"])

    return [embedding_text(row["title"], Stored(row)) for row in rows]


def profile(run: Callable[[], object]) -> dict[str, float]:
    """Share of the time in each step, by cumulative time."""
    profiler = cProfile.Profile()
    total = timed(functools.partial(profiler.runcall, run))
    found: dict[str, float] = dict.fromkeys(STEPS, 0.0)
    for (file, _, function), (_, _, _, cumulative, _) in pstats.Stats(profiler).stats.items():
        for step, name in STEPS.items():
            place, _, wanted = name.rpartition(".")
            module = {"Parser": "parse", "Chunker": "chunk", "OnnxEmbedder": "embed"}.get(place, place)
            if function == wanted and file.endswith(f"{module}.py"):
                found[step] += cumulative / total
    found["rest"] = 1 - sum(found.values())
    return {step: round(share, 4) for step, share in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    log.configure("WARNING")
    if not DATA.is_dir():
        raise SystemExit("skipped: the data folder is absent")
    base = config.load()
    url = servers.database_url(base)
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"drop database if exists {NAME} with (force)")
        server.execute(f"create database {NAME}")
        try:
            copy = urlsplit(url)._replace(path=f"/{NAME}").geturl()
            result = measure(base.model_copy(update={"database_url": SecretStr(copy)}), given)
        finally:
            server.execute(f"drop database {NAME} with (force)")
    plot(result["profile"])
    save("ingest", result)


def measure(settings: Settings, given: argparse.Namespace) -> dict[str, Any]:
    cores = os.cpu_count() or 1
    assistant = Assistant(settings)
    assistant.migrate()
    fill(assistant, given.documents)
    owner = assistant.database.connect("deskhand_owner")
    _ = assistant.pipeline
    drain(assistant)  # warms up, and gives the texts
    texts = list(dict.fromkeys(texts_of(owner)))  # equal texts are embedded once
    titles = [r["title"] for r in owner.execute("select title from document")]
    rounds: list[dict[str, float]] = []
    for number in range(given.rounds):
        refill(owner)
        one = timed(functools.partial(drain, assistant))
        alone = timed(functools.partial(blocks, assistant, texts, titles))
        refill(owner)
        many = by_processes(indexer, settings, [()] * cores)
        every = texts + titles
        many_alone = by_processes(encoder, settings, [(every[n::cores],) for n in range(cores)])
        count = len(texts)
        rounds.append(
            {
                "pipeline": count / one,
                "embedder": count / alone,
                "ratio": alone / one,
                "processes": count / many,
                "processes_embedder": count / many_alone,
                "processes_ratio": many_alone / many,
            }
        )
        print(
            f"round {number + 1}: {json.dumps({k: round(v, 3) for k, v in rounds[-1].items()})}", flush=True
        )
    refill(owner)
    shares = profile(functools.partial(drain, assistant))
    print(f"share of the time, profiled: {json.dumps(shares)}")
    owner.close()
    assistant.close()
    middle = {key: round(statistics.median(r[key] for r in rounds), 3) for key in rounds[0]}
    print(f"median of {len(rounds)}: {json.dumps(middle)}; target ratio {TARGET}")
    return {
        "documents": given.documents,
        "chunks": len(texts),
        "characters": sum(map(len, texts)),
        "rounds": rounds,
        "median": middle,
        "profile": shares,
    }


def blocks(assistant: Assistant, texts: list[str], titles: list[str]) -> None:
    """The same texts and titles through the embedder alone, in calls of a batch's size."""
    size = max(1, round(len(texts) / max(1, len(titles)) * 32))
    rest = iter(titles)
    for start in range(0, len(texts), size):
        assistant.embedder.encode(texts[start : start + size] + list(islice(rest, 32)))


def plot(shares: dict[str, float]) -> None:
    with plotted("ingest", size=(7, 3)) as axis:
        axis.barh(list(shares), [100 * value for value in shares.values()])
        axis.invert_yaxis()
        axis.set_xlabel("% of the time of one process, profiled")
        axis.set_title("Ingest: where the time goes")


if __name__ == "__main__":
    main()
