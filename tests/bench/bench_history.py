"""What the customer's history and others' tickets add to answers about the sample company.

    python -m tests.bench.bench_history [--half test]

One installation of its own is filled with the sample. Each question is asked four times:
with documents alone, with documents and the tickets of nobody in particular, with the
customer known as well (`history`), and with the customer's tickets but nobody else's.
`right source` is the share of questions with an answer that cite a source which has it;
`told` the same with those that were declined and whose refusal tells the right source's lines;
`gold` the share whose answer holds the gold phrase. A question belongs to the development
half when the SHA-256 of its id is even. Writes results/history-<half>.json and .png.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from assistant.app import Assistant
from assistant.config import Settings
from assistant.evaluate import answers
from assistant.evaluate.answers import Asked
from assistant.evaluate.questions import Question, load
from assistant.evaluate.statistics import Estimate, estimate, p50, p95
from assistant.model import Kind
from assistant.retrieve.scope import Scope
from assistant.runtime.up import running, standard_processes
from assistant.store.search import Filters
from assistant.surfaces.cli_sources import follow
from assistant.surfaces.demo import ASKER, add_sample
from tests.bench.output import plotted, save
from tests.paths import MODELS

SYSTEMS = ("documents", "tickets", "history", "history alone")
NEEDS = ("document", "ticket", "history")


def half(question: Question) -> str:
    return "test" if hashlib.sha256(question.id.encode()).digest()[-1] % 2 else "development"


def ask(assistant: Assistant, questions: Sequence[Question], system: str) -> list[Asked]:
    """`answers.run` with the engine that `system` stands for."""
    asker = assistant.principal(ASKER)
    found: list[Asked] = []
    for question in questions:
        known = assistant.customer(asker, question.customer) if question.customer else None
        ids = known.ids if known else None
        filters = Filters(
            kinds=(Kind.DOCUMENT,) if system == "documents" else None,
            customers=ids if system == "history alone" else None,
            before=question.as_of,
        )
        about = ids if system.startswith("history") else None
        engine = assistant.engine(Scope(asker, filters=filters, customer=about))
        found.append(answers.ask(assistant, engine, question, asker.id))
    return found


def rates(asked: Sequence[Asked]) -> dict[str, dict[str, Any]]:
    """By what a question needs."""
    result: dict[str, dict[str, Any]] = {}
    for needs in NEEDS:
        these = [one for one in asked if one.question.needs == needs]
        marks = [one.marks for one in these]
        result[needs] = {
            "questions": len(these),
            "right source": estimate([float(m.get("citation_recall", 0) > 0) for m in marks]),
            "told": estimate([m["told_relevant"] for m in marks]),
            "gold": estimate([m["contains_gold"] for m in marks]),
        }
    none = [one for one in asked if one.question.needs == "none"]
    result["none"] = {
        "questions": len(none),
        "declined": estimate([one.marks["declined_unanswerable"] for one in none]),
    }
    seconds = [one.seconds_total for one in asked]
    result["seconds"] = {"p50": estimate(seconds, p50), "p95": estimate(seconds, p95)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=("development", "test", "all"), default="development")
    chosen = parser.parse_args().half
    with (
        tempfile.TemporaryDirectory(prefix="dh-") as folder,
        as_file(files("assistant") / "sample") as sample,
    ):
        Path(folder).chmod(0o711)
        config = Settings(state=Path(folder) / "s", models=MODELS, generator="local")
        questions = [q for q in load(sample / "questions.jsonl") if chosen in ("all", half(q))]
        with running(
            config, migrate=lambda _: Assistant(config).migrate(), processes=standard_processes(config)
        ):
            assistant = Assistant(config)
            for runs in add_sample(assistant, sample):
                follow(assistant, runs)
            found = {system: rates(ask(assistant, questions, system)) for system in SYSTEMS}
            assistant.close()
    for system, result in found.items():
        print(system, {k: {n: str(v) for n, v in values.items()} for k, values in result.items()})
    plain = {
        system: {
            name: {key: asdict(v) if isinstance(v, Estimate) else v for key, v in values.items()}
            for name, values in result.items()
        }
        for system, result in found.items()
    }
    save(f"history-{chosen}", {"half": chosen, "systems": plain})
    plot(chosen, found)


def plot(chosen: str, found: dict[str, dict[str, Any]]) -> None:
    with plotted(f"history-{chosen}") as axes:
        for number, (system, result) in enumerate(found.items()):
            places = [n + (number - 1.5) * 0.2 for n in range(len(NEEDS))]
            axes.bar(places, [result[n]["right source"].value for n in NEEDS], width=0.2, label=system)
        axes.set_xticks(
            range(len(NEEDS)), [f"needs a {n}" if n != "history" else "needs the history" for n in NEEDS]
        )
        axes.set_ylabel("answers that cite a right source")
        axes.set_ylim(0, 1)
        axes.legend(fontsize=8)


if __name__ == "__main__":
    main()
