"""The earlier tickets that a helper linked, found by the fused search, by vectors and by BM25 alone.

    python -m tests.bench.bench_tickets STATE/calm [--limit N]

Over the installation that `bench_sync STATE` left, as of each ticket's day: ticket_retrieval dev, whose
questions nothing was fitted on. Writes results/tickets.json and .png.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from assistant import log
from assistant.app import Assistant
from assistant.evaluate import beir, retrieval
from assistant.model import Principal
from assistant.retrieve.fusion import Legs
from tests.bench.bench_retrieval import NAMES, differences, quiet, searched, show
from tests.bench.bench_sync import SUPPORT
from tests.bench.output import plotted, save
from tests.installation import REALM
from tests.paths import DATA

TICKETS = "thunderbird/bench/ticket_retrieval"
MEASURES = ("recall@10", "recall@100", "mrr@10")
Scores = Mapping[str, Any]


def tickets(assistant: Assistant, limit: int | None = None, *, by: Iterable[Legs] = Legs) -> Scores:
    """Marks of each question by what the search went by."""
    task = beir.task(DATA / TICKETS, split="dev", limit=limit)
    principal = Principal("bench", frozenset({f"{REALM}/{SUPPORT}"}))
    return {
        legs.value: retrieval.run(
            assistant,
            task,
            legs=legs,
            principal=principal,
            source="tickets",
            as_of_field="created",
            progress=quiet,
        ).scores
        for legs in by
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("installation", type=Path)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    log.configure("WARNING")
    if not DATA.is_dir():
        raise SystemExit("skipped: the data folder is absent")
    with searched(given.installation) as assistant:
        scores = tickets(assistant, given.limit)
    found = {NAMES[system]: retrieval.summary(of) for system, of in scores.items()}
    for measure in MEASURES:
        show("ticket_retrieval", scores, measure)
    ahead = {measure: differences(scores, measure)["bm25"] for measure in MEASURES}
    save(
        "tickets",
        {
            "questions": len(scores["hybrid"]),
            "systems": {system: {m: str(of[m]) for m in MEASURES} for system, of in found.items()},
            "ahead of BM25": {
                m: e and f"{e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" for m, e in ahead.items()
            },
        },
    )
    with plotted("tickets", columns=len(MEASURES), size=(9, 3)) as axes:
        for axis, measure in zip(axes, MEASURES, strict=True):
            axis.bar(list(found), [of[measure].value for of in found.values()], color="#2f6690")
            axis.set_title(measure, fontsize=9)
            axis.tick_params(axis="x", labelsize=7, labelrotation=15)


if __name__ == "__main__":
    main()
