"""What fine-tuning the embedder gains on the desk's own questions and costs on others', through the real store.

    python -m tests.bench.bench_retriever [--installation STATE/calm] [--thin N] [--candidate NAME]
        [--set NAME=VALUE]

Trains on the train splits of Thunderbird's kb_retrieval and ticket_retrieval (or takes a version that is
trained already), then ranks with the untrained embedder and with this one: nDCG@10 of kb_retrieval dev,
SciFact and StackFAQ test, and over a copy of the installation that `bench_sync STATE` left recall@10 of
ticket_retrieval dev, as of each ticket's day. That copy is embedded anew in the background while it is asked, and
goes over: the time, the disk and how questions fared meanwhile are told. `--thin N` keeps every N-th of
the tickets that no question asks for. Needs the extras [tune] and [eval]. Writes results/retriever.json and .png.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psycopg
from pydantic import SecretStr

from assistant import log, servers
from assistant.app import Assistant
from assistant.evaluate import beir, results, retrieval, scratch
from assistant.evaluate.results import Result
from assistant.evaluate.statistics import Estimate, estimate
from assistant.ingest import embed, reembed
from assistant.ingest.embed import Embedder
from assistant.model import Principal
from assistant.retrieve.fusion import Legs
from assistant.retrieve.scope import Scope
from assistant.store import spaces, versions
from assistant.tune import retriever
from tests.bench.bench_retrieval import NAMES, SETS, quiet, searched
from tests.bench.bench_sync import SUPPORT
from tests.bench.bench_tickets import TICKETS, tickets
from tests.bench.output import RESULTS, save
from tests.installation import REALM
from tests.paths import DATA
from tests.thunderbird import TICKETS as EXPORT

KB = DATA / "thunderbird/bench/kb_retrieval"
BEFORE, AFTER = "untrained", "trained"
COPY = "bench_retriever"
BOTH = (Legs.HYBRID, Legs.DENSE)
Scores = Mapping[str, Mapping[str, float]]


@contextmanager
def ticket_set() -> Generator[Path]:
    """ticket_retrieval with a corpus: what its train questions link to, and every tenth ticket beside."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "ticket_retrieval"
        shutil.copytree(DATA / TICKETS, folder)
        wanted = {name for grades in beir.task(folder, split="train").relevant.values() for name in grades}
        with (
            gzip.open(DATA / EXPORT, "rt", encoding="utf-8") as lines,
            (folder / "corpus.jsonl").open("w") as out,
        ):
            for number, line in enumerate(lines):
                ticket = json.loads(line)
                if str(ticket["id"]) in wanted or number % 10 == 0:
                    text = " ".join(re.sub(r"<[^>]+>", " ", ticket["html"]).split())
                    record = {
                        "_id": str(ticket["id"]),
                        "title": ticket["subject"],
                        "text": text or ticket["subject"],
                    }
                    out.write(json.dumps({**record, "metadata": {"created": ticket["created"]}}) + "\n")
        yield folder


def train(assistant: Assistant, values: Mapping[str, str]) -> str:
    """Name of the version."""
    with ticket_set() as tickets:
        how = retriever.recipe({"pairs": [str(KB), str(tickets)], **values})
        version = retriever.request(assistant, how, by="bench")
        ended = retriever.start(assistant.settings, version).wait()
    with assistant.database.writer() as connection:
        version = versions.get(connection, version.name)
    print(f"  {version.name}: {version.state} (exit {ended}) {version.reason}", flush=True)
    print(json.dumps(version.metrics, indent=2, default=str), flush=True)
    if version.state != "candidate":
        raise SystemExit("nothing to compare")
    return version.name


def ranked(
    assistant: Assistant, name: str, split: str, embedder: Embedder, limit: int | None
) -> dict[str, Scores]:
    folder = DATA / name
    task = beir.task(folder, split=split, limit=limit)
    with scratch.indexed(assistant, folder, embedder=embedder, progress=quiet) as store:
        return {
            legs.value: retrieval.run(
                store, task, legs=legs, principal=Principal("bench"), progress=quiet
            ).scores
            for legs in (Legs.HYBRID, Legs.DENSE)
        }


# ── the installation ─────────────────────────────────────────────────────────


@contextmanager
def copied(assistant: Assistant) -> Generator[Assistant]:
    """The same installation on a copy of its database, dropped at the end."""
    url = servers.database_url(assistant.settings)
    name = urlsplit(url).path.strip("/")
    assistant.database.close()
    with psycopg.connect(urlsplit(url)._replace(path="/postgres").geturl(), autocommit=True) as server:
        server.execute(f'drop database if exists "{COPY}" with (force)'.encode())
        server.execute(f'create database "{COPY}" template "{name}"'.encode())
        at = urlsplit(url)._replace(path=f"/{COPY}").geturl()
        made = Assistant(assistant.settings.model_copy(update={"database_url": SecretStr(at)}))
        try:
            yield made
        finally:
            made.close()
            server.execute(f'drop database if exists "{COPY}" with (force)'.encode())


def thin(assistant: Assistant, keep: int) -> None:
    """Every `keep`-th ticket, and those that a question is about or asks for."""
    task = beir.task(DATA / TICKETS, split="dev")
    wanted = {*task.relevant, *(name for grades in task.relevant.values() for name in grades)}
    with assistant.database.owner() as connection:
        connection.execute(
            b"delete from document where kind = 'ticket' and id %% %s <> 0 and external_id <> all (%s)",
            (keep, sorted(wanted)),
        )
    with assistant.database.connect("deskhand_owner") as connection:
        connection.execute("vacuum full chunk")
        connection.execute("vacuum (analyze) document, chunk")


def size(assistant: Assistant) -> dict[str, int]:
    """MB on disk."""
    with assistant.database.owner() as connection:
        row = connection.execute(
            "select pg_database_size(current_database()) / 1048576 as database,"
            " pg_relation_size('chunk') / 1048576 as chunks, (select count(*) from chunk) as count"
        ).fetchone()
        indexes = connection.execute(
            "select c.relname as name, pg_relation_size(c.oid) / 1048576 as mb from pg_class c"
            " where c.relname ~ '^chunk_embedding_'"
        ).fetchall()
    assert row is not None
    return {**row, **{one["name"]: one["mb"] for one in indexes}}


class Asking:
    """Questions without a pause, and how long each took."""

    def __init__(self, assistant: Assistant, principal: Principal) -> None:
        self.milliseconds: list[float] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._texts = [query.text for query in beir.task(KB, split="dev").queries]
        self._assistant, self._principal = assistant, principal
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.5):
            number += 1
            started = time.perf_counter()
            try:
                found = self._assistant.retriever.passages(self._texts[number % 480], Scope(self._principal))
                if not found:
                    self.failures.append("nothing found")
            except Exception as error:
                self.failures.append(str(error))
            self.milliseconds.append(1000 * (time.perf_counter() - started))

    def stop(self) -> dict[str, Any]:
        self._stop.set()
        self._thread.join()
        p50, p95, longest = (round(float(np.percentile(self.milliseconds, q)), 1) for q in (50, 95, 100))
        told = {"asked": len(self.milliseconds), "failed": len(self.failures)}
        return {**told, "p50": p50, "p95": p95, "longest": longest}


def go_over(assistant: Assistant, embedder: Embedder) -> dict[str, Any]:
    """Embed the whole installation anew while it is asked; then back and forth once more."""
    principal = Principal("bench", frozenset({f"{REALM}/{SUPPORT}"}))
    other = Assistant(assistant.settings)
    told: dict[str, Any] = {"before": size(assistant)}
    calm = Asking(other, principal)
    time.sleep(20)
    told["questions_before"] = calm.stop()
    asking = Asking(other, principal)
    for step in ("forth", "back", "forth_again"):
        started = time.monotonic()
        with assistant.database.writer() as connection:
            if step == "back":
                spaces.back(connection, base=assistant.settings.embedder, by="bench")
            else:
                spaces.want(
                    connection,
                    name=embedder.name,
                    revision=embedder.revision,
                    dimension=embedder.dimension,
                    by="bench",
                )
        while reembed.run(assistant.database, assistant.embedders, seconds=600):
            pass
        told[f"seconds_{step}"] = round(time.monotonic() - started, 1)
        print(f"  {step}: {told[f'seconds_{step}']} s, live {assistant.live()[0].name}", flush=True)
    told["questions_meanwhile"] = asking.stop()
    told["after"] = size(assistant)
    other.close()
    return told


# ── results ──────────────────────────────────────────────────────────────────


def difference(before: Scores, after: Scores, measure: str) -> Estimate | None:
    return estimate([after[query][measure] - of_query[measure] for query, of_query in before.items()])


def told(name: str, measure: str, scores: Mapping[str, Mapping[str, Scores]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for legs in scores[BEFORE]:
        gain = difference(scores[BEFORE][legs], scores[AFTER][legs], measure)
        row[legs] = {
            **{when: str(retrieval.summary(of[legs])[measure]) for when, of in scores.items()},
            "gain": gain and [round(x, 4) for x in (gain.value, gain.low, gain.high)],
        }
        print(f"  {name:20} {NAMES[legs]:18} {row[legs]}", flush=True)
    return {"measure": measure, **row}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--installation", type=Path, help="state folder with the synced tickets")
    parser.add_argument("--thin", type=int, default=1, help="keep every so many-th ticket")
    parser.add_argument("--candidate", default="", help="a version that is trained already")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a value of the recipe"
    )
    parser.add_argument("--limit", type=int, help="only so many queries of each set")
    given = parser.parse_args()
    log.configure("WARNING")
    if not DATA.is_dir():
        raise SystemExit("skipped: the data folder is absent")
    retriever.check_installed()
    table: dict[str, Any] = {}
    plotted: dict[str, dict[str, Estimate]] = {BEFORE: {}, AFTER: {}}
    with searched(given.installation) as assistant:
        name = given.candidate or train(assistant, dict(value.split("=", 1) for value in given.set))
        both = {BEFORE: assistant.embedder, AFTER: embed.tuned(assistant.settings, name)}
        with assistant.database.writer() as connection:
            version = versions.get(connection, name)
        found: dict[str, tuple[str, dict[str, dict[str, Scores]]]] = {
            Path(folder).name: (
                "ndcg@10",
                {when: ranked(assistant, folder, split, one, given.limit) for when, one in both.items()},
            )
            for folder, split in SETS
        }
        switch = None
        if given.installation:
            with copied(assistant) as copy:
                if given.thin > 1:
                    thin(copy, given.thin)
                before = tickets(copy, given.limit, by=BOTH)
                switch = go_over(copy, both[AFTER])
                found["ticket_retrieval"] = (
                    "recall@10",
                    {BEFORE: before, AFTER: tickets(copy, given.limit, by=BOTH)},
                )
    for of, (measure, scores) in found.items():
        table[of] = told(of, measure, scores)
        for when, legs in scores.items():
            plotted[when][f"{of} {measure}"] = retrieval.summary(legs["hybrid"])[measure]
    RESULTS.mkdir(exist_ok=True)
    results.plot(
        [Result("retrieval", "Retriever", w, m) for w, m in plotted.items()], RESULTS / "retriever.png"
    )
    training = {"recipe": version.recipe, "metrics": version.metrics}
    save("retriever", {"sets": table, "training": training, "switch": switch, "thin": given.thin})


if __name__ == "__main__":
    main()
