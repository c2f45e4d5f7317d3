"""Quoted answers on public questions with known answers, by halves: one to develop on, one to judge by.

    DESKHAND_TEST_DATA=../shared/data python -m tests.bench.bench_answers [--half test]

Each question brings its own passages, cut, embedded and searched in memory as ingest
and the retriever do it; the engine quotes. `asked` is what a person gets, declined
questions included; `quoted` the answerable ones with the threshold at 0, so that the
choice of stretches is seen by itself. How an answer reads is counted as well: its words,
its stretches (sentences in a row with the same marker), whether each stretch `begins`
like a sentence or a command, and whether all of it is `clean` of greetings and thanks.
A question belongs to the development half when the SHA-256 of its id is even; nothing
may be chosen by the other one. Writes results/answers-<half>.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from assistant.answer import abstain, cite
from assistant.answer.engine import DeskQueryEngine, Strategy
from assistant.answer.text import sentences
from assistant.config import Settings
from assistant.evaluate.marks import marks
from assistant.evaluate.memory import MemoryRetriever
from assistant.evaluate.questions import Question
from assistant.generate.echo import EchoChat
from assistant.ingest import embed
from assistant.ingest.chunk import Chunker
from assistant.model import Answer, Turn
from tests.bench import convert
from tests.paths import DATA

RESULTS = Path(__file__).parent / "results"
SETS = {"clapnq": convert.clapnq, "mtragun": convert.mtragun}

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


def mean_marks(
    questions: Iterable[Question], embedder: embed.OnnxEmbedder, *, threshold: float
) -> dict[str, float]:
    """Mean of each mark over the questions it applies to, and of how it reads over the answered."""
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
    return {name: round(statistics.fmean(values), 4) for name, values in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=("development", "test"), default="development")
    half = parser.parse_args(arguments).half
    if not DATA.is_dir():
        sys.exit(f"Skipped: there is no folder {DATA}; set DESKHAND_TEST_DATA.")
    models = os.environ.get("DESKHAND_MODELS")
    embedder = embed.load(Settings(models=Path(models) if models else None))
    report: dict[str, dict[str, float]] = {}
    for name, lines in SETS.items():
        every = [Question.model_validate(line) for line in lines(DATA)]
        chosen = [q for q in every if development(q) == (half == "development")]
        answerable = [q for q in chosen if q.answerable]
        report[f"{name}, asked ({len(chosen)})"] = mean_marks(chosen, embedder, threshold=abstain.THRESHOLD)
        report[f"{name}, quoted ({len(answerable)})"] = mean_marks(answerable, embedder, threshold=0.0)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"answers-{half}.json").write_text(json.dumps(report, indent=1) + "\n")
    for name, row in report.items():
        print(f"{name:24s}", "  ".join(f"{mark} {value}" for mark, value in row.items()))


if __name__ == "__main__":
    main()
