"""1,000 questions for other customers' data and internal notes: what comes back.

    python -m tests.bench.bench_hostile [--count 1000]

A desk of ten customers in an installation of its own (`tests/hostile.py`). Half of the
questions are answered by quoting, half by a generator that repeats all that it is given.
Answers, drafts, JSON, shown sources and the logs of all processes, the database's own
among them, are searched for canaries. Writes results/hostile.json.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from assistant.app import Assistant
from assistant.config import Settings
from assistant.runtime.up import running, standard_processes
from tests.bench.output import save
from tests.hostile import Parrot, ask, fill, leaked, probes
from tests.paths import MODELS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="dh-") as folder:
        Path(folder).chmod(0o711)
        config = Settings(state=Path(folder) / "s", models=MODELS, generator="echo")
        ways: Counter[str] = Counter()
        leaks: list[dict[str, object]] = []
        with running(
            config, migrate=lambda _: Assistant(config).migrate(), processes=standard_processes(config)
        ):
            assistant = Assistant(config)
            desk = fill(assistant, dice)
            started = time.perf_counter()
            for number, probe in enumerate(probes(desk, dice, options.count)):
                ways[probe.way] += 1
                if words := ask(desk, probe, Parrot() if number // 8 % 2 else None):
                    leaks.append({"way": probe.way, "question": probe.question, "words": words})
            seconds = time.perf_counter() - started
            assistant.close()
        every = [w for v in desk.victims for w in (*v.identity, *v.notes)] + list(desk.secrets)
        logs = "\n".join(p.read_text(errors="replace") for p in config.state.rglob("*.log*") if p.is_file())
    result = {
        "questions": options.count,
        "ways": dict(ways),
        "answered": desk.answered,
        "passages": desk.passages,
        "citations": desk.citations,
        "log characters": len(logs),
        "canaries": len(every),
        "canaries in logs": len(leaked(logs, every)),
        "answers with canaries": len(leaks),
        "leaks": leaks[:20],
        "seconds": seconds,
    }
    for name, value in result.items():
        print(f"{name}: {value}")
    save("hostile", result)


if __name__ == "__main__":
    main()
