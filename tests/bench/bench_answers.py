"""Quoted answers on public questions with known answers, by halves: one to develop on, one to judge by.

    DESKHAND_TEST_DATA=../shared/data python -m tests.bench.bench_answers [--half test]

Each question brings its own passages, cut, embedded and searched in memory as ingest
and the retriever do it; the engine quotes. `asked` is what a person gets, declined
questions included; `quoted` the answerable ones with the threshold at 0, so that the
choice of stretches is seen by itself. How an answer reads is counted as well: its words,
its stretches (sentences in a row with the same marker), whether each stretch `begins`
like a sentence or a command, and whether all of it is `clean` of greetings and thanks.
A question belongs to the development half when the SHA-256 of its id is even; nothing
may be chosen by the other one. Writes results/answers-<half>.json and .png.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from assistant import log
from assistant.answer import abstain, cite
from assistant.answer.engine import DeskQueryEngine, Strategy
from assistant.config import Settings
from assistant.evaluate import results
from assistant.evaluate.answers import ORDER
from assistant.evaluate.marks import marks
from assistant.evaluate.memory import MemoryRetriever
from assistant.evaluate.questions import Question
from assistant.evaluate.results import Result
from assistant.evaluate.statistics import Estimate, estimate
from assistant.generate.echo import EchoChat
from assistant.ingest import embed
from assistant.ingest.chunk import Chunker
from assistant.model import Answer, Turn
from assistant.text.sentences import sentences
from tests.bench import convert
from tests.bench.output import RESULTS, save
from tests.paths import DATA

SETS = {"clapnq": convert.clapnq, "mtragun": convert.mtragun}
EXTRA = ("words", "stretches", "begins", "clean", "read_seconds")

_BEGINS = re.compile(r"[\"'“‘«(\[]*[^\W\d_a-zß-ÿ]|[^\w\s]*\d|[-*•`/~]|\S*[\w-][_./=-]\w")
"""A capital, a number, a bullet, or a first word that is code."""
_POLITE = re.compile(
    r"^\W*(?:hi|hello|hey|dear|thanks|thank you|cheers|sorry|glad|good (?:morning|question|point)|"
    r"(?:kind |best )?regards)\b"
    r"|\b(?:I've|I have) (?:passed|noted)\b|you're welcome|:\)",
    re.I,
)


def development(question: Question) -> bool:
    return int(hashlib.sha256(question.id.encode()).hexdigest(), 16) % 2 == 0


def reading(answer: Answer) -> dict[str, float]:
    """How an answer reads, whatever it says."""
    parts = [cite.split_markers(part.text) for part in sentences(answer.text)]
    firsts = [
        text for (text, markers), before in zip(parts, [None, *parts], strict=False)
        if before is None or markers != before[1]
    ]  # fmt: skip
    return {
        "words": sum(len(text.split()) for text, _ in parts),
        "stretches": len(firsts),
        "begins": float(all(_BEGINS.match(text) for text in firsts)),
        "clean": float(not any(_POLITE.search(text) for text, _ in parts)),
    }


def measured(
    questions: Iterable[Question], embedder: embed.Embedder, *, threshold: float
) -> dict[str, Estimate]:
    """Each mark over the questions it applies to, how it reads over the answered, and the seconds of choosing."""
    chunker = Chunker(embedder.tokenizer_file)
    found: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        engine = DeskQueryEngine(
            MemoryRetriever(question.passages or (), embedder=embedder, chunker=chunker),
            EchoChat(),
            encode=embedder.encode,
            strategy=Strategy.QUOTE,
            threshold=threshold,
        )
        answer = engine.answer(question.question, history=[Turn(t.role, t.content) for t in question.history])
        for name, value in marks(question, answer, encode=embedder.encode).items():
            found[name].append(value)
        found["read_seconds"].append(answer.timings.get("read", 0.0))
        if not answer.refusal:
            for name, value in reading(answer).items():
                found[name].append(value)
    return {name: value for name in (*ORDER, *EXTRA) if (value := estimate(found[name])) is not None}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=("development", "test"), default="development")
    parser.add_argument("--limit", type=int, help="only so many questions of each set")
    given = parser.parse_args(arguments)
    log.configure("WARNING")
    if not DATA.is_dir():
        raise SystemExit("skipped: the data folder is absent")
    models = os.environ.get("DESKHAND_MODELS")
    embedder = embed.load(Settings(models=Path(models) if models else None))
    report: dict[str, dict[str, Estimate]] = {}
    for name, lines in SETS.items():
        every = [Question.model_validate(line) for line in lines(DATA)]
        chosen = [q for q in every if development(q) == (given.half == "development")][: given.limit]
        answerable = [q for q in chosen if q.answerable]
        for kind, asked, threshold in (
            ("asked", chosen, abstain.THRESHOLD),
            ("quoted", answerable, 0.0),
        ):
            row = report[f"{name}, {kind} ({len(asked)})"] = measured(asked, embedder, threshold=threshold)
            print(f"{name}, {kind}", "  ".join(f"{mark} {value}" for mark, value in row.items()), flush=True)
    RESULTS.mkdir(exist_ok=True)
    results.plot(
        [
            Result(
                "answers", f"Answers, {given.half} half", name, {m: e for m, e in row.items() if m in ORDER}
            )
            for name, row in report.items()
        ],
        RESULTS / f"answers-{given.half}.png",
    )
    save(
        f"answers-{given.half}",
        {
            "half": given.half,
            "measures": [name for name in (*ORDER, *EXTRA) if any(name in row for row in report.values())],
            "sets": {name: {mark: str(e) for mark, e in row.items()} for name, row in report.items()},
        },
    )


if __name__ == "__main__":
    main()
