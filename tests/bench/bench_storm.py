"""A first sync of 5,000 files of a Samba server while everything that works at it is killed with -9.

    python -m tests.bench.bench_storm [--files 5000] [--every 4]

Every few seconds one of the workers, the scheduler, the broker or the database dies, chosen at
random, until all is indexed. Then what was indexed is compared with the files on the server, text
by text, and what the workers say they embedded with the number of chunks: a chunk embedded
twice would have to be in a batch that a kill took back. Needs root and the servers of
`make test-servers`. Writes results/storm.json and .png.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.output import plotted, save
from tests.conformance.test_smb import EVERYONE, running
from tests.installation import Installation, installation, wait
from tests.paths import MODELS
from tests.servers.samba import PASSWORD, READ, READER, Samba, Visitor

VICTIMS = ("ingest", "sync", "tick", "beat", "valkey", "postgres")


def fill(samba: Samba, count: int) -> dict[str, str]:
    """Write the files; name → text."""
    dice = random.Random(5)
    words = [
        f"{a}{b}"
        for a in ("har", "lan", "wal", "cop", "mea", "fal", "gla")
        for b in ("bour", "tern", "nut", "per")
    ]
    texts: dict[str, str] = {}
    for number in range(count):
        name = f"d{number % 50}/{number}.md"
        texts[name] = (
            f"# Note {number}\n\nThe {dice.choice(words)} {number} needs the {dice.choice(words)}.\n"
        )
        place = samba.share / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(texts[name])
    return texts


def storm(desk: Installation, count: int, every: float) -> tuple[list[str], list[tuple[float, int]]]:
    """Kill until `count` documents are indexed; who died, and the progress in seconds and documents."""
    dice, began = random.Random(7), time.monotonic()
    kills: list[str] = []
    told = [(0.0, 0)]
    while (done := desk.indexed()) < count:
        assert time.monotonic() - began < 3600, f"{done} of {count} after an hour"
        if done >= 0:
            told.append((time.monotonic() - began, done))
        time.sleep(every * dice.uniform(0.5, 1.5))
        victim = dice.choice(VICTIMS)
        try:
            desk.kill(victim)
        except Exception as error:  # it is dead already, and about to be restarted
            print(f"  {victim}: {type(error).__name__}")
            continue
        kills.append(victim)
        print(f"  {time.monotonic() - began:5.0f} s  {done:5} documents, kill -9 {victim}", flush=True)
    told.append((time.monotonic() - began, count))
    return kills, told


def compare(desk: Installation, texts: dict[str, str]) -> dict[str, Any]:
    with desk.assistant() as assistant, assistant.database.writer() as connection:
        rows = connection.execute(
            "select d.external_id, string_agg(c.text, '' order by c.ordinal) as text, count(c.id) as chunks"
            " from document d left join chunk c on c.document_id = d.id group by d.external_id"
        ).fetchall()
    found = {row["external_id"]: row for row in rows}
    wrong = [
        name
        for name, text in texts.items()
        if text.split("\n")[2] not in (found.get(name) or {"text": ""})["text"]
    ]
    embedded = 0
    for line in (desk.settings.state / "logs" / "ingest.log").read_text(encoding="utf-8").splitlines():
        if '"indexed"' in line:
            embedded += json.loads(line)["embedded"]
    chunks = sum(row["chunks"] for row in rows)
    return {
        "documents": len(found),
        "unknown to the source": len(set(found) - set(texts)),
        "missing or different": len(wrong),
        "chunks": chunks,
        "embedded and committed": embedded,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--every", type=float, default=4.0, help="seconds between kills, on average")
    options = parser.parse_args()
    os.environ["DESKHAND_ALLOWED_HOSTS"] = "127.0.0.1"  # for the workers
    with running() as samba, tempfile.TemporaryDirectory(prefix="dh-") as folder:
        Path(folder).chmod(0o711)
        texts = fill(samba, options.files)
        with Visitor(samba, READER) as owner:
            owner.protect("", [(True, EVERYONE, READ, 0x3)])
        with installation(Path(folder) / "s", MODELS) as desk:
            values = {
                "host": f"127.0.0.1:{samba.port}",
                "share": "docs",
                "username": READER,
                "password": PASSWORD,
                "share_readers": "Everyone",
                "lists_alone": True,
            }
            desk.add("samba", "smb", values)
            kills, told = storm(desk, options.files, options.every)
            wait(desk.finished, what="the end of the sync", seconds=600)
            result = {"files": options.files, "seconds": told[-1][0], "kills": kills, **compare(desk, texts)}
    print(json.dumps(result))
    save("storm", {**result, "progress": told})
    with plotted("storm") as axes:
        axes.plot([s for s, _ in told], [n for _, n in told])
        axes.set(xlabel="seconds", ylabel="documents indexed", title=f"A first sync and {len(kills)} kill -9")


if __name__ == "__main__":
    main()
