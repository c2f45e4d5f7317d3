"""How soon a change is searchable, and whether a huge source holds up small ones.

    python -m tests.bench.bench_schedule [--files 4000] [--edits 30]

One installation with its own servers and workers. `fresh`: seconds from writing a
file in a watched folder until its text can be found; `polled` the same for a ticket
export that is read every 15 seconds, where the interval is part of it. `turns`: nine
small folders are asked for together with one huge one; seconds until each small one is
indexed, beside the same nine without the huge one. Writes results/schedule.json and .png.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.output import RESULTS, save
from tests.installation import Installation, installation, wait
from tests.paths import MODELS

EVERY = 15
"""seconds between two looks at the polled source"""
SMALL = 9
FILES_OF_SMALL = 5


def note(number: int, word: str) -> str:
    return f"# Note {number}\n\nShelf {number * 37 % 101} holds cable type C{number}, batch {word}.\n"


def has(desk: Installation, word: str) -> bool:
    with desk.assistant() as assistant, assistant.database.writer() as connection:
        row = connection.execute("select 1 from chunk where text like %s limit 1", (f"%{word}%",)).fetchone()
        return row is not None


def quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 2),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 2),
        "largest": round(ordered[-1], 2),
    }


def fresh(desk: Installation, folder: Path, edits: int) -> dict[str, float]:
    """Seconds from a write to its being found, over so many edits."""
    name = folder.name
    folder.mkdir()
    (folder / "first.md").write_text(note(0, "first"))
    desk.add(name, "directory", {"path": str(folder), "access": "everyone"})
    wait(lambda: has(desk, "first"), what="the first sync")
    time.sleep(12)  # until the watch has looked for new folders
    taken: list[float] = []
    for number in range(edits):
        word = f"{name}{number:04}"
        began = time.monotonic()
        (folder / f"{number % 7}.md").write_text(note(number, word))
        wait(lambda w=word: has(desk, w), what="the edit", seconds=120)
        taken.append(time.monotonic() - began)
        time.sleep(0.7 * (number % 3))
    return quantiles(taken)


def polled(desk: Installation, file: Path, edits: int) -> dict[str, float]:
    """Seconds from a new ticket in the file to its being found; it is looked at every EVERY seconds."""

    def ticket(number: int, word: str) -> str:
        at = f"2026-05-01T{number // 60:02}:{number % 60:02}:00Z"
        body = f"Shelf {number} lacks cable type C{number}, batch {word}."
        facts = {"created": at, "updated": at, "status": "open"}
        return json.dumps({"id": number + 1, "subject": f"Cable {number}", "body": body, **facts}) + "\n"

    file.write_text(ticket(0, "firstticket"), encoding="utf-8")
    settings = {"path": str(file), "preset": "deskhand", "access": ["everyone"]}
    desk.add(file.stem, "ticket-export", settings, every=EVERY)
    wait(lambda: has(desk, "firstticket"), what="the first sync")
    dice = random.Random(4)
    taken: list[float] = []
    for number in range(1, edits + 1):
        word = f"{file.stem}{number:04}"
        time.sleep(EVERY * dice.random())
        began = time.monotonic()
        with file.open("a", encoding="utf-8") as lines:
            lines.write(ticket(number, word))
        wait(lambda w=word: has(desk, w), what="the ticket", seconds=120)
        taken.append(time.monotonic() - began)
    return quantiles(taken)


def indexed(desk: Installation, name: str) -> bool:
    with desk.assistant() as assistant, assistant.database.writer() as connection:
        row = connection.execute(
            "select count(*) as n from document d join source s on s.id = d.source_id"
            " where s.name = %s and d.revision is not null",
            (name,),
        ).fetchone()
        return row is not None and row["n"] == FILES_OF_SMALL


def turns(desk: Installation, place: Path, *, huge: int) -> dict[str, Any]:
    """Add nine small sources at once, after a huge one when `huge` files are given; seconds until each is there."""
    label = "beside" if huge else "alone"
    if huge:
        folder = place / "huge"
        folder.mkdir()
        for number in range(huge):
            (folder / f"{number:05}.md").write_text(note(number, "huge"))
        desk.add("huge", "directory", {"path": str(folder), "access": "everyone"})
        wait(lambda: desk.indexed() > 200, what="the huge one to be under way")
    for small in range(SMALL):
        folder = place / f"{label}-{small}"
        folder.mkdir()
        for number in range(FILES_OF_SMALL):
            (folder / f"{number}.md").write_text(note(number, f"{label}{small}"))
    began = time.monotonic()
    for small in range(SMALL):
        name = f"{label}-{small}"
        desk.add(name, "directory", {"path": str(place / name), "access": "everyone"})
    left = {f"{label}-{small}" for small in range(SMALL)}
    taken: list[float] = []

    def arrived() -> bool:
        for name in sorted(left):
            if indexed(desk, name):
                left.discard(name)
                taken.append(time.monotonic() - began)
        return not left

    wait(arrived, what="the small sources", seconds=900)
    still = desk.indexed() if huge else 0
    return {
        **quantiles(taken),
        "documents_of_the_huge_one_still_to_index": max(0, huge - still) if huge else 0,
    }


def plot(result: dict[str, Any], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axis = figure.add_subplot()
    names = [name for name in result if isinstance(result[name], dict) and "p50" in result[name]]
    axis.barh(names, [result[name]["p95"] for name in names], color="#9bb8d3", label="p95")
    axis.barh(names, [result[name]["p50"] for name in names], color="#2f6690", label="p50")
    axis.set_xlabel("seconds until it can be found")
    axis.legend()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=4000, help="of the huge source")
    parser.add_argument("--edits", type=int, default=30)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="deskhand-bench-"))
    place.chmod(0o755)
    result: dict[str, Any] = {"files": options.files, "edits": options.edits}
    try:
        with installation(place / "state", MODELS) as desk:
            steps: dict[str, Callable[[], dict[str, Any]]] = {
                "watched": lambda: fresh(desk, place / "watched", options.edits),
                "polled every 15 s": lambda: polled(desk, place / "polled.jsonl", options.edits),
                "small ones alone": lambda: turns(desk, place, huge=0),
                "small ones beside a huge one": lambda: turns(desk, place, huge=options.files),
            }
            for name, step in steps.items():
                result[name] = step()
                print(name, result[name], flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    save("schedule", result)
    plot(result, RESULTS / "schedule.png")


if __name__ == "__main__":
    main()
