"""A first sync of a real desk, a second one, and one under fire that must end the same.

    python -m tests.bench.bench_sync STATE [--storm] [--storm-tickets N]

Reads the Thunderbird file share and its 30,427 tickets. STATE keeps the calm
installation, so that other benchmarks can use its database afterwards; a second
call finds it there and only syncs the other one. With `--storm` that one is synced
while its workers, its broker and its database are killed in turn; N tickets instead
of all are compared with the same tickets of the calm one. Writes results/sync.json and .png.
"""

from __future__ import annotations

import argparse
import gzip
import json
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from assistant.store import sources
from tests.bench.output import plotted, save
from tests.installation import Installation, State, differences, installation, wait
from tests.paths import DATA, MODELS
from tests.thunderbird import TICKETS, ticket_export

SUPPORT = "group:support"
"""who may read the tickets"""
HOUR = 3600.0
Progress = list[tuple[float, int]]
"""seconds since the start and documents indexed by then"""


def add_sources(desk: Installation, tickets: Path) -> None:
    share = {"path": str(DATA / "thunderbird/fileshare"), "access": "everyone"}
    desk.add("fileshare", "directory", share)
    desk.add("tickets", "ticket-export", ticket_export(tickets, SUPPORT))


class Watch:
    """The processes' memory while something runs: resident MB, summed and of the largest, at their peak."""

    def __init__(self, desk: Installation) -> None:
        self.peak = {"all": 0.0, "largest_worker": 0.0}
        self._desk = desk
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(2.0):
            sizes: list[tuple[str, float]] = []
            for process in psutil.Process().children(recursive=True):
                try:
                    # Shared pages counted once: PostgreSQL's processes share their buffers.
                    sizes.append((process.name(), process.memory_full_info().pss / 2**20))
                except (psutil.Error, AttributeError):
                    continue
            self.peak["all"] = max(self.peak["all"], sum(size for _, size in sizes))
            workers = [size for name, size in sizes if "postgres" not in name and "valkey" not in name]
            self.peak["largest_worker"] = max([self.peak["largest_worker"], *workers])

    def stop(self) -> dict[str, float]:
        self._stop.set()
        self._thread.join()
        return self.peak


def settle(desk: Installation, *, what: str) -> tuple[float, Progress]:
    """Wait until all is read and indexed; the seconds it took, and how it went on, by the minute."""
    started = time.monotonic()
    told: Progress = [(0.0, 0)]

    def done() -> bool:
        if (seconds := time.monotonic() - started) - told[-1][0] > 60:
            told.append((round(seconds, 1), desk.indexed()))
            print(f"  {told[-1][0]:6.0f} s  {told[-1][1]:6} documents", flush=True)
        time.sleep(0.5)
        return desk.finished()

    wait(done, what=what, seconds=3 * HOUR)
    seconds = time.monotonic() - started
    return seconds, [*told, (round(seconds, 1), desk.indexed())]


def counts(desk: Installation) -> dict[str, int]:
    with desk.assistant() as assistant, assistant.database.writer() as connection:
        row = connection.execute(
            "select (select count(*) from document where kind = 'document') as documents,"
            " (select count(*) from ticket) as tickets, (select count(*) from chunk) as chunks,"
            " (select coalesce(max(id), 0) from chunk) as newest, (select count(*) from failure) as failures,"
            " (select pg_database_size(current_database()) / 1048576) as database_mb"
        ).fetchone()
    assert row is not None
    return {key: int(value) for key, value in row.items()}


def again(desk: Installation) -> float:
    """Sync both sources once more; seconds."""
    with desk.assistant() as assistant, assistant.database.writer() as connection:
        for source in sources.everything(connection):
            sources.request_all(connection, source)
    return settle(desk, what="the second sync")[0]


def storm(desk: Installation, total: int) -> list[str]:
    """Kill in turn what does the work, each time after another eighth of it."""
    blows = ["ingest", "valkey", "postgres", "ingest", "sync", "postgres", "valkey"]
    for number, name in enumerate(blows, 1):
        target = total * number // (len(blows) + 1)
        wait(lambda n=target: desk.indexed() >= n, what=f"{target} documents", seconds=3 * HOUR)
        print(f"  kill -9 {name} at {target} documents", flush=True)
        desk.kill(name)
    return blows


def first_tickets(source: Path, count: int, place: Path) -> Path:
    """A file of the first `count` tickets."""
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        place.write_text("".join(islice(lines, count)), encoding="utf-8")
    return place


def calm(state: Path, tickets: Path) -> tuple[dict[str, Any], State]:
    """Figures of an undisturbed first and second sync, and what they left."""
    done = state / "calm.json"
    with installation(state / "calm", MODELS) as desk:
        if done.exists():
            return json.loads(done.read_text()), desk.state()
        watch = Watch(desk)
        add_sources(desk, tickets)
        seconds, progress = settle(desk, what="the first sync")
        first = {"seconds": seconds, **counts(desk), "peak_mb": watch.stop(), "progress": progress}
        seconds = again(desk)
        second = {
            "seconds": seconds,
            "share_of_first": seconds / first["seconds"],
            "embedded": counts(desk)["newest"] - first["newest"],
        }
        result = {"first": first, "second": second}
        done.write_text(json.dumps(result))
        return result, desk.state()


def stormy(state: Path, tickets: Path, expected: State, *, part: bool) -> dict[str, Any]:
    """A first sync under fire, compared with `expected`: with all of it, or where both have the document."""
    with installation(state / "stormy", MODELS) as desk:
        add_sources(desk, tickets)
        started = time.monotonic()
        total = len({key[:2] for key in expected if isinstance(key, tuple)})
        if part:
            total = min(total, 1400 + sum(1 for _ in tickets.open(encoding="utf-8")))
        kills = storm(desk, total)
        settle(desk, what="the sync under fire")
        seconds = time.monotonic() - started
        found = desk.state()
    if part:
        documents = {key[:2] for key in found if isinstance(key, tuple)}
        expected = {k: v for k, v in expected.items() if isinstance(k, tuple) and k[:2] in documents}
    unlike = differences(found, expected)
    print(unlike[:5])
    return {"seconds": seconds, "kills": kills, "rows_compared": len(expected), "differences": len(unlike)}


def plot(first: dict[str, Any]) -> None:
    with plotted("sync") as axes:
        axes.plot([s / 60 for s, _ in first["progress"]], [n for _, n in first["progress"]])
        axes.set(xlabel="minutes", ylabel="documents and tickets indexed", title="A first sync")
        axes.grid(alpha=0.3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("state", type=Path)
    parser.add_argument("--storm", action="store_true")
    parser.add_argument("--storm-tickets", type=int, help="disturb a sync of the first N tickets instead")
    options = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit("skipped: the data folder is absent")
    tickets = DATA / TICKETS
    result, expected = calm(options.state, tickets)
    print(json.dumps(result), flush=True)
    if options.storm or options.storm_tickets:
        part = options.storm_tickets is not None
        if part:
            tickets = first_tickets(tickets, options.storm_tickets, options.state / "tickets.jsonl")
        result["storm"] = stormy(options.state, tickets, expected, part=part)
        print(json.dumps(result["storm"]), flush=True)
    if "progress" in result["first"]:  # not in a state folder that an earlier version left
        plot(result["first"])
    save("sync", result)


if __name__ == "__main__":
    main()
