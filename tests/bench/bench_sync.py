"""A first sync of a real desk, a second one, and one under fire that must end the same.

    python -m tests.bench.bench_sync STATE [--storm] [--tickets N]

Reads the Thunderbird file share and its 30,427 tickets. STATE keeps the calm
installation, so that other benchmarks can use its database afterwards. With
`--storm` a second installation is synced while its worker, its broker and its
database are killed in turn. Writes
results/sync.json.
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
from tests.bench.output import save
from tests.installation import Installation, State, differences, installation, wait
from tests.paths import DATA, MODELS

MAPPING: dict[str, Any] = {
    "id": "id",
    "title": "subject",
    "text": "html",
    "url": "url",
    "created": "created",
    "updated": "updated",
    "status": "solved",
    "product": "product",
    "tags": "tags",
    "language": "locale",
    "requester": "customer",
    "customer": {"id": "customer"},
    "replies": {
        "list": "replies",
        "text": "html",
        "author": "author",
        "role": "role",
        "created": "created",
        "is_solution": "is_solution",
    },
}
HOUR = 3600.0


def add_sources(desk: Installation, tickets: Path) -> None:
    share = {"path": str(DATA / "thunderbird/fileshare"), "access": "everyone"}
    desk.add("fileshare", "directory", share)
    export = {
        "path": str(tickets),
        "access": ["group:support"],
        "text_media_type": "text/html",
        "status_values": {"true": "solved", "false": "open", "null": "open"},
        "mapping": MAPPING,
    }
    desk.add("tickets", "ticket-export", export)


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


def progress(desk: Installation, started: float) -> None:
    print(f"  {time.monotonic() - started:6.0f} s  {desk.indexed():6} documents", flush=True)


def settle(desk: Installation, *, what: str) -> float:
    """Wait until all is read and indexed; seconds it took."""
    started = time.monotonic()
    told = [started]

    def done() -> bool:
        if time.monotonic() - told[0] > 60:
            told[0] = time.monotonic()
            progress(desk, started)
        time.sleep(0.5)
        return desk.finished()

    wait(done, what=what, seconds=3 * HOUR)
    return time.monotonic() - started


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
            sources.request(connection, source)
    return settle(desk, what="the second sync")


def storm(desk: Installation, total: int) -> list[str]:
    """Kill in turn what does the work, each time after another eighth of it."""
    blows = ["ingest", "valkey", "postgres", "ingest", "sync", "postgres", "valkey"]
    for number, name in enumerate(blows, 1):
        target = total * number // (len(blows) + 1)
        wait(lambda n=target: desk.indexed() >= n, what=f"{target} documents", seconds=3 * HOUR)
        print(f"  kill -9 {name} at {target} documents", flush=True)
        desk.kill(name)
    return blows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("--storm", action="store_true")
    parser.add_argument("--tickets", type=int, help="only the first N tickets")
    options = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit("skipped: the data folder is absent")
    tickets = DATA / "thunderbird/tickets/tickets_2024-2025.jsonl.gz"
    if options.tickets:
        part = options.state.parent / "tickets.jsonl"
        part.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(tickets, "rt") as lines:
            part.write_text("".join(islice(lines, options.tickets)))
        tickets = part
    result: dict[str, Any] = {}
    expected: State = {}
    with installation(options.state / "calm", MODELS) as desk:
        watch = Watch(desk)
        add_sources(desk, tickets)
        seconds = settle(desk, what="the first sync")
        first = counts(desk)
        result["first"] = {"seconds": seconds, **first, "peak_mb": watch.stop()}
        print(json.dumps(result["first"]), flush=True)
        seconds = again(desk)
        second = counts(desk)
        result["second"] = {
            "seconds": seconds,
            "share_of_first": seconds / result["first"]["seconds"],
            "embedded": second["newest"] - first["newest"],
        }
        print(json.dumps(result["second"]), flush=True)
        expected = desk.state()
    if options.storm:
        with installation(options.state / "stormy", MODELS) as desk:
            add_sources(desk, tickets)
            started = time.monotonic()
            blows = storm(desk, first["documents"] + first["tickets"])
            settle(desk, what="the sync under fire")
            found = differences(desk.state(), expected)
            result["storm"] = {
                "seconds": time.monotonic() - started,
                "kills": blows,
                "rows_compared": len(expected),
                "differences": len(found),
            }
            print(json.dumps(result["storm"]), found[:5], flush=True)
    save("sync", result)


if __name__ == "__main__":
    main()
