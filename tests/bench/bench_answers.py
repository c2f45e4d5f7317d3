"""Quoted answers on public questions with known answers, by halves: one to develop on, one to judge by.

    DESKHAND_TEST_DATA=../shared/data python -m tests.bench.bench_answers [--half test]

Each question brings its own passages, cut, embedded and searched in memory as ingest
and the retriever do it; the engine quotes. `asked` is what a person gets, declined
questions included; `quoted` the answerable ones with the threshold at 0, so that the
choice of stretches is seen by itself. A question belongs to the development half when
the SHA-256 of its id is even; nothing may be chosen by the other one. Writes
results/answers-<half>.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from assistant.answer import abstain
from assistant.answer.engine import DeskQueryEngine, Strategy
from assistant.config import Settings
from assistant.evaluate.marks import marks
from assistant.evaluate.memory import MemoryRetriever
from assistant.evaluate.questions import Question
from assistant.generate.echo import EchoChat
from assistant.ingest import embed
from assistant.ingest.chunk import Chunker
from assistant.model import Turn
from tests.bench import convert
from tests.paths import DATA

RESULTS = Path(__file__).parent / "results"
SETS = {"clapnq": convert.clapnq, "mtragun": convert.mtragun}


def development(question: Question) -> bool:
    return int(hashlib.sha256(question.id.encode()).hexdigest(), 16) % 2 == 0


def mean_marks(
    questions: Iterable[Question], embedder: embed.OnnxEmbedder, *, threshold: float
) -> dict[str, float]:
    """Mean of each mark over the questions it applies to, and of the words of what was answered."""
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
            found["words"].append(len(answer.text.split()))
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
