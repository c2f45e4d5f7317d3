"""What knowing the customer costs an answer, and whether a long history makes it cost more.

    python -m tests.bench.bench_history_cost STATE [--questions 200]

Over the installation that `bench_memory STATE` left: the same questions are answered (by
quoting) for nobody in particular, for a customer with about sixty tickets, and for the
one with a tenth of all. The three take turns, so that whoever else uses the machine hits
all of them. Also `customer show` of both. Writes results/cost.json and .png.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from assistant.answer.engine import Strategy
from assistant.app import Assistant
from assistant.evaluate.statistics import Estimate, estimate, p50, p95
from assistant.model import Audience, Principal
from assistant.retrieve.scope import Scope
from assistant.store import history
from tests.bench.bench_memory import LARGE, THINGS, WRONG
from tests.bench.output import plotted, save
from tests.installation import installation
from tests.paths import MODELS

READER = Principal("bench")
SMALL = "c7"


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def shown(assistant: Assistant, ids: tuple[int, ...]) -> int:
    with assistant.database.reader(READER, Audience.INTERNAL) as connection:
        return history.history(connection, ids).tickets


def measure(assistant: Assistant, questions: int) -> dict[str, dict[str, Any]]:
    known = {name: assistant.customer(READER, name).ids for name in (SMALL, LARGE)}
    counts = {name: shown(assistant, ids) for name, ids in known.items()}
    engines = {
        "nobody in particular": assistant.engine(Scope(READER)),
        f"a customer with {counts[SMALL]:,} tickets": assistant.engine(Scope(READER, customer=known[SMALL])),
        f"a customer with {counts[LARGE]:,} tickets": assistant.engine(Scope(READER, customer=known[LARGE])),
    }
    for engine in engines.values():
        engine.strategy = Strategy.QUOTE
    dice = random.Random(5)
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(questions + 3):
        thing, wrong = dice.choice(THINGS), dice.choice(WRONG)
        question = f"their {thing} {dice.randrange(997)} {wrong} again, what did we tell them the last time?"
        for name, engine in engines.items():
            taken = timed(lambda e=engine, q=question: e.answer(q))
            if number >= 3:  # the first ones fill the caches
                seconds[name].append(taken)
        for name, ids in known.items():
            taken = timed(lambda i=ids: shown(assistant, i))
            if number >= 3:
                seconds[f"history of {counts[name]:,} tickets at a glance"].append(taken)
    found: dict[str, dict[str, Any]] = {}
    for name, values in seconds.items():
        both: dict[str, Estimate | None] = {"p50": estimate(values, p50), "p95": estimate(values, p95)}
        found[name] = {k: asdict(v) for k, v in both.items() if v is not None}
        print(name, {k: str(v) for k, v in both.items()})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("state", type=Path)
    parser.add_argument("--questions", type=int, default=200)
    options = parser.parse_args()
    with installation(options.state / "installation", MODELS) as desk, desk.assistant() as assistant:
        found = measure(assistant, options.questions)
    save("cost", {"questions": options.questions, "seconds": found})
    with plotted("cost", size=(7, 3)) as axes:
        names = [name for name in found if "glance" not in name]
        axes.barh(names, [found[name]["p95"]["value"] for name in names], color="#9bb8d3", label="p95")
        axes.barh(names, [found[name]["p50"]["value"] for name in names], color="#2f6690", label="p50")
        axes.set_xlabel("seconds an answer takes")
        axes.legend()


if __name__ == "__main__":
    main()
