"""The workers' memory while a long import goes on: it must stay flat.

    python -m tests.bench.bench_memory STATE [--tickets 50000]

A ticket export of so many short tickets is imported into a new installation in STATE, which
stays for `bench_history_cost`; a tenth of the tickets, those with replies, are of one
customer. Every two seconds the memory of each of its processes is
taken, children included, shared pages counted once. `growth` is the slope of a line
through the second half, in MB for ten thousand tickets. Writes results/memory.json and .png.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil

from assistant.runtime.supervisor import read_status
from tests.bench.output import plotted, save
from tests.installation import Installation, installation
from tests.paths import MODELS

THINGS = ("printer", "scanner", "router", "licence", "folder", "calendar", "backup", "certificate", "screen")
WRONG = ("stopped", "is slow", "asks for a password", "shows nothing", "came back", "is full", "froze")
LARGE = "large"
"""id of the customer with a tenth of the tickets"""
REMEDY = ("restart it", "renew it", "empty it", "reinstall it", "reset it", "replace it", "update it")


def reply(number: int, thing: str, at: dt.datetime, dice: random.Random) -> dict[str, object]:
    return {
        "id": number + 1,
        "author": "Desk",
        "role": "agent",
        "public": True,
        "created": (at + dt.timedelta(hours=1)).isoformat(),
        "body": f"Please {dice.choice(REMEDY)} and write again if the {thing} does it once more.",
    }


def export(place: Path, count: int) -> None:
    dice = random.Random(3)
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    with place.open("w", encoding="utf-8") as lines:
        for number in range(count):
            thing, wrong = dice.choice(THINGS), dice.choice(WRONG)
            company = LARGE if number % 10 == 0 else f"c{dice.randrange(700)}"
            at = start + dt.timedelta(minutes=13 * number)
            ticket = {
                "id": number + 1,
                "subject": f"{thing.title()} {number % 997} {wrong}",
                "body": f"Our {thing} number {number} {wrong} since {at:%d %B}. What can we do?",
                "created": at.isoformat(),
                "updated": at.isoformat(),
                "status": "solved",
                "requester": {
                    "name": f"Person {number % 4000}",
                    "email": f"p{number % 4000}@{company}.example",
                },
                "organisation": {
                    "id": company,
                    "name": f"Company {company}",
                    "domain": f"{company}.example",
                },
                "replies": [reply(number, thing, at, dice)] if company == LARGE else [],
            }
            lines.write(json.dumps(ticket) + "\n")


def sizes(desk: Installation) -> dict[str, float]:
    """MB of each process that `deskhand up` runs, with its children."""
    status = read_status(desk.settings.state)
    found: dict[str, float] = {}
    for process in status.processes if status else ():
        total = 0.0
        try:
            top = psutil.Process(process.pid or -1)
            for one in (top, *top.children(recursive=True)):
                total += one.memory_full_info().pss / 2**20
        except (psutil.Error, ValueError):
            continue
        found[process.name] = total
    return found


def growth(points: list[tuple[int, float]]) -> float:
    """MB for ten thousand tickets, by a line through the second half."""
    half = points[len(points) // 2 :]
    tickets, mb = np.array([n for n, _ in half], dtype=float), np.array([m for _, m in half])
    return float(np.polyfit(tickets, mb, 1)[0] * 10_000) if len(half) > 2 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("state", type=Path)
    parser.add_argument("--tickets", type=int, default=50_000)
    options = parser.parse_args()
    place, count = options.state, options.tickets
    place.mkdir(mode=0o755, parents=True)
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    export(place / "tickets.jsonl", count)
    with installation(place / "installation", MODELS) as desk:
        values = {"path": str(place / "tickets.jsonl"), "preset": "deskhand", "access": ["everyone"]}
        desk.add("tickets", "ticket-export", values)
        started = told = time.monotonic()
        while (done := desk.indexed()) < count:
            for name, mb in sizes(desk).items():
                points[name].append((done, round(mb, 1)))
            if time.monotonic() - told > 60:
                told = time.monotonic()
                print(f"  {told - started:6.0f} s  {done:6} tickets", flush=True)
            time.sleep(2)
        seconds = time.monotonic() - started
    workers = {
        name: {"peak_mb": max(m for _, m in many), "growth": round(growth(many), 2)}
        for name, many in points.items()
    }
    for name, figures in workers.items():
        print(f"{name}: {figures}")
    save("memory", {"tickets": count, "seconds": seconds, "processes": workers})
    with plotted("memory") as axes:
        for name, many in points.items():
            axes.plot([n for n, _ in many], [m for _, m in many], label=name)
        axes.set(xlabel="tickets indexed", ylabel="MB", title=f"Memory of each process, {count:,} tickets")
        axes.set_ylim(0)
        axes.legend(fontsize=7, ncols=2)
        axes.grid(alpha=0.3)


if __name__ == "__main__":
    main()
