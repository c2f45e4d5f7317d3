"""nDCG@10 of Deskhand's hybrid search beside its legs alone and a LlamaIndex PGVectorStore, in one run.

    python -m tests.bench.bench_retrieval [--peer-python /path/to/python] [--limit N]
        [--installation STATE/calm]

Sets: SciFact test, StackFAQ test, Thunderbird kb_retrieval dev. The peer has the same embedder and
runs in an environment of its own (see peer_pgvectorstore.py). All databases are on the servers of an
installation (`bench_sync STATE` leaves one), which are started, or else on the server the settings name or the
embedded one that runs.
Writes results/retrieval.json and .png.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from assistant import config, log, servers, weights
from assistant.app import Assistant
from assistant.evaluate import beir, results, retrieval, scratch
from assistant.evaluate.results import Result
from assistant.evaluate.statistics import Estimate, estimate
from assistant.model import Principal
from assistant.retrieve.fusion import Legs
from tests.bench.output import RESULTS, save
from tests.installation import installation
from tests.paths import DATA, MODELS

SETS = (("scifact", "test"), ("stackfaq", "test"), ("thunderbird/bench/kb_retrieval", "dev"))
PEER = "peer"
NAMES = {
    "hybrid": "Deskhand hybrid",
    "dense": "dense alone",
    "bm25": "BM25 alone",
    PEER: "LlamaIndex PGVectorStore hybrid",
}
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""system → query → measure → value"""


def quiet(_step: str, _done: int, _total: int) -> None: ...


@contextmanager
def database(url: str, name: str) -> Generator[str]:
    """An empty database with pgvector, dropped at the end."""
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"drop database if exists {name} with (force)")
        server.execute(f"create database {name}")
        made = urlsplit(url)._replace(path=f"/{name}").geturl()
        with psycopg.connect(made, autocommit=True) as connection:
            connection.execute("create extension vector")
        try:
            yield made
        finally:
            server.execute(f"drop database {name} with (force)")


def peer(python: Path, assistant: Assistant, folder: Path, task: beir.Task) -> dict[str, Any] | None:
    """The peer's ranking, or None, said, where it is not installed."""
    probe = [python, "-c", "import llama_index.vector_stores.postgres"]
    if not python.is_file() or subprocess.run(probe, capture_output=True, check=False).returncode:
        print("  peer skipped: not installed (see peer_pgvectorstore.py)")
        return None
    model = weights.path(assistant.settings.embedder, assistant.settings).parent
    with (
        database(servers.database_url(assistant.settings), "bench_peer") as url,
        tempfile.TemporaryDirectory() as place,
    ):
        out = Path(place) / "peer.json"
        script = Path(__file__).with_name("peer_pgvectorstore.py")
        subprocess.run([python, script, url, folder, task.split, model, out], check=True)
        return json.loads(out.read_text())


def measured(
    assistant: Assistant, name: str, split: str, given: argparse.Namespace
) -> tuple[Scores, dict[str, Any]]:
    folder = DATA / name
    task = beir.task(folder, split=split, limit=given.limit)
    scores: dict[str, Any] = {}
    seconds: dict[str, Any] = {}
    with scratch.indexed(assistant, folder, progress=quiet) as searched:
        for legs in Legs:
            run = retrieval.run(searched, task, legs=legs, principal=Principal("bench"), progress=quiet)
            scores[legs.value] = run.scores
            seconds[legs.value] = {key: run.metrics[f"seconds_{key}"].value for key in ("p50", "p95")}
    other = peer(given.peer_python, assistant, folder, task)
    if other is not None:
        scores[PEER] = retrieval.score(
            task.relevant, {q.id: other["ranking"].get(q.id, []) for q in task.queries}
        )
        seconds[PEER] = other["seconds"]
    return scores, seconds


def differences(scores: Scores, measure: str) -> dict[str, Estimate | None]:
    """What the hybrid is ahead of each other system, by the same queries: paired, hence narrower intervals."""
    ours = scores["hybrid"]
    return {
        system: estimate([ours[query][measure] - of_query[measure] for query, of_query in theirs.items()])
        for system, theirs in scores.items()
        if system != "hybrid"
    }


def show(name: str, scores: Scores, measure: str) -> None:
    ahead = differences(scores, measure)
    print(f"\n{name}: {measure}, {len(scores['hybrid'])} queries")
    for system, of_system in scores.items():
        mean = retrieval.summary(of_system)[measure]
        difference = ahead.get(system)
        note = ""
        if difference:
            note = f"   hybrid {difference.value:+.3f} [{difference.low:+.3f} … {difference.high:+.3f}]"
        print(f"  {NAMES[system]:32} {mean}{note}", flush=True)


def plot(table: Sequence[tuple[str, Scores, str]], file: Path) -> None:
    """One group of bars a set, one colour a system."""
    by_system: dict[str, dict[str, Estimate]] = {}
    for name, scores, measure in table:
        for system, of_system in scores.items():
            by_system.setdefault(system, {})[f"{name} {measure}"] = retrieval.summary(of_system)[measure]
    made = [Result("retrieval", "Retrieval", NAMES[s], metrics) for s, metrics in by_system.items()]
    results.plot(made, file)


@contextmanager
def searched(folder: Path | None) -> Generator[Assistant]:
    """Of the installation in `folder`, of which only the servers run, or of the configured one."""
    if folder is not None:
        with installation(folder, MODELS, working=False) as desk, desk.assistant() as assistant:
            yield assistant
    else:
        assistant = Assistant(config.load())
        try:
            yield assistant
        finally:
            assistant.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", type=Path, default=Path("peer/bin/python"))
    parser.add_argument("--limit", type=int, help="only so many queries of each set")
    parser.add_argument("--installation", type=Path, help="state folder whose servers are used")
    given = parser.parse_args()
    log.configure("WARNING")
    if not DATA.is_dir():
        raise SystemExit("skipped: the data folder is absent")
    table: list[tuple[str, Scores, str]] = []
    times: dict[str, Any] = {}
    with searched(given.installation) as assistant:
        for name, split in SETS:
            scores, times[name] = measured(assistant, name, split, given)
            table.append((Path(name).name, scores, "ndcg@10"))
            show(*table[-1])
    RESULTS.mkdir(exist_ok=True)
    plot(table, RESULTS / "retrieval.png")
    save(
        "retrieval",
        {
            "sets": {
                name: {
                    system: {m: str(e) for m, e in retrieval.summary(s).items()}
                    for system, s in scores.items()
                }
                for name, scores, _ in table
            },
            "hybrid_ahead": {
                name: {system: e and [e.value, e.low, e.high] for system, e in differences(scores, m).items()}
                for name, scores, m in table
            },
            "seconds": times,
        },
    )


if __name__ == "__main__":
    main()
