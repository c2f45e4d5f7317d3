"""Fits and reports the abstention's logistic: who is declined who had an answer, and who should have been.

    DESKHAND_TEST_DATA=../shared/data python -m tests.bench.bench_abstain

Question sets with known answerability, each over an index in memory (cosine of the
configured embedder plus 0.3 BM25, both z-scored; chunks of ~150 words; mtrag as the
retriever does it):

- thunderbird: tickets whose linked article is in the knowledge base; questions about
  another product of the same maker have none. 600 tickets, 500 questions.
- stackfaq: paraphrases of FAQ questions; for half of them the thread is taken out.
- clapnq: questions over all passages; the unanswerable half has a passage on its topic.
- mtrag: turns of conversations over their reference passages, those that can't be
  understood counted among the unanswerable.
- taken-out (reported only, never fitted): the same tickets, with the linked articles
  left out of what was found. Labels are sparse, so some can still be answered.

A question belongs to the development half when the SHA-256 of its id is even. Only
that half is fitted, each set and class with equal weight; what is shipped was fitted on
the sample company's questions as well. Writes results/abstain.json and .png.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from assistant.answer import abstain, extract, rewrite
from assistant.config import Settings
from assistant.evaluate.memory import MemoryRetriever
from assistant.evaluate.questions import Question
from assistant.ingest import embed
from assistant.ingest.chunk import Chunker
from assistant.model import Kind, Passage, Turn
from assistant.retrieve.nodes import from_node
from assistant.text.sentences import stems
from tests.bench import convert
from tests.bench.output import plotted, save
from tests.paths import DATA

SETS = ("thunderbird", "stackfaq", "clapnq", "mtrag")
FEATURES = tuple(field.name for field in fields(abstain.Features))
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def hashed(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


@dataclass
class Asked:
    """A question with what was found for it."""

    set: str
    id: str
    answerable: bool
    features: tuple[float, ...]

    @property
    def development(self) -> bool:
        return hashed(self.id) % 2 == 0


class Index:
    """Dense and BM25 search over (document, title, text) in memory."""

    def __init__(self, documents: Iterable[tuple[str, str, str]], embedder: embed.Embedder) -> None:
        self.embedder = embedder
        self.chunks = [(doc, title, text) for doc, title, body in documents for text in pieces(body)]
        self.vectors = embedder.encode([f"{title}\n{text}" for _, title, text in self.chunks])
        counts = [Counter(stems(f"{title} {text}")) for _, title, text in self.chunks]
        frequency = Counter(word for count in counts for word in count)
        total = len(self.chunks)
        self.idf = {w: math.log(1 + (total - f + 0.5) / (f + 0.5)) for w, f in frequency.items()}
        lengths = np.array([sum(count.values()) for count in counts])
        self.damping = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
        self.postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for place, count in enumerate(counts):
            for word, times in count.items():
                self.postings[word].append((place, times))

    def find(self, question: str, *, without: Iterable[str] = (), limit: int = 8) -> list[Passage]:
        bm25 = np.zeros(len(self.chunks))
        for word in set(stems(question)):
            for place, times in self.postings.get(word, ()):
                bm25[place] += self.idf[word] * times * 2.2 / (times + self.damping[place])
        cosine = self.vectors @ self.embedder.encode_query(question)
        scores = zscored(cosine) + 0.3 * zscored(bm25)
        left = [place for place in np.argsort(-scores) if self.chunks[place][0] not in set(without)][:limit]
        return [
            Passage(
                int(p), 0, self.chunks[p][2], self.chunks[p][1], "", Kind.DOCUMENT, float(cosine[p]),
                cosine=float(cosine[p]), bm25=float(bm25[p]),
            )
            for p in left
        ]  # fmt: skip

    def ask(self, set_: str, id_: str, question: str, answerable: bool, without: Iterable[str] = ()) -> Asked:
        question = " ".join(question.split()[:120])
        passages = self.find(question, without=without)
        return asked(set_, id_, question, answerable, passages, self.embedder)


def asked(
    set_: str,
    id_: str,
    question: str,
    answerable: bool,
    passages: Sequence[Passage],
    embedder: embed.Embedder,
) -> Asked:
    candidates = extract.read(question, passages, encode=embedder.encode)
    return Asked(set_, id_, answerable, astuple(abstain.features(question, passages, candidates)))


def pieces(text: str, words: int = 150) -> list[str]:
    """Paragraphs gathered up to ~150 words."""
    found: list[list[str]] = [[]]
    for paragraph in text.split("\n"):
        if sum(len(part.split()) for part in found[-1]) + len(paragraph.split()) > words and found[-1]:
            found.append([])
        found[-1].append(paragraph)
    return [joined for part in found if (joined := "\n".join(part)).strip()]


def zscored(values: Any) -> Any:
    return (values - values.mean()) / (values.std() + 1e-9)


def thunderbird(embedder: embed.Embedder) -> Iterable[Asked]:
    corpus = [
        d
        for d in read("thunderbird/bench/kb_retrieval/corpus.jsonl")
        if d["metadata"]["product"] != "firefox"
    ]
    index = Index(((d["_id"], d["title"], d["text"]) for d in corpus), embedder)
    linked: dict[str, set[str]] = defaultdict(set)
    for line in (DATA / "thunderbird/bench/kb_retrieval/qrels/train.tsv").read_text().splitlines()[1:]:
        ticket, article, _ = line.split("\t")
        if any(article == d["_id"] for d in corpus):
            linked[ticket].add(article)
    tickets = [q for q in read("thunderbird/bench/kb_retrieval/queries.jsonl") if q["_id"] in linked]
    for ticket in sorted(tickets, key=lambda q: hashed("s" + q["_id"]))[:600]:
        yield index.ask("thunderbird", ticket["_id"], ticket["text"], True)
        yield index.ask("taken-out", ticket["_id"], ticket["text"], False, linked[ticket["_id"]])
    for row in read("firefox_questions/out_of_scope_500.jsonl"):
        text = html.unescape(re.sub(r"<[^>]+>", " ", row["html"]))
        yield index.ask("thunderbird", "ff" + row["id"], f"{row['subject']}\n{text}", False)


def stackfaq(embedder: embed.Embedder) -> Iterable[Asked]:
    corpus = read("stackfaq/corpus.jsonl")
    index = Index(((d["_id"], d["title"], d["text"]) for d in corpus), embedder)
    threads: dict[int, list[str]] = defaultdict(list)
    for row in corpus:
        threads[row["metadata"]["thread"]].append(row["_id"])
    for row in read("stackfaq/queries.jsonl"):
        draw = hashed("a" + row["_id"])
        if draw % 10 < 6:
            answerable = draw % 2 == 0
            without = () if answerable else threads[row["metadata"]["thread"]]
            yield index.ask("stackfaq", row["_id"], row["text"], answerable, without)


def clapnq(embedder: embed.Embedder) -> Iterable[Asked]:
    rows = read("clapnq/dev_full.jsonl")
    index = Index(((r["id"], r["passages"][0]["title"], r["passages"][0]["text"]) for r in rows), embedder)
    for row in rows:
        yield index.ask("clapnq", row["id"], row["input"], bool(row["answerable"]))


def mtrag(embedder: embed.Embedder) -> Iterable[Asked]:
    chunker = Chunker(embedder.tokenizer_file)
    for row in convert.mtragun(DATA):
        question = Question.model_validate(row)
        turns = [Turn(turn.role, turn.content) for turn in question.history]
        text = rewrite.carry_over(question.question, turns)
        found = MemoryRetriever(question.passages or (), embedder=embedder, chunker=chunker).retrieve(text)
        if passages := [from_node(node) for node in found]:
            yield asked("mtrag", question.id, text, question.answerable, passages, embedder)


def fit(asked: list[Asked]) -> tuple[Any, float]:
    """Weighted logistic regression by Newton's method; every set and class counts the same."""
    x = np.array([a.features for a in asked])
    y = np.array([a.answerable for a in asked], float)
    weight = weighted(asked)
    mean, spread = x.mean(0), x.std(0)
    z = np.c_[(x - mean) / spread, np.ones(len(x))]
    ridge = np.r_[np.full(x.shape[1], 1e-3), 1e-9]
    b = np.zeros(z.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-z @ b))
        gradient = z.T @ (weight * (p - y)) + ridge * b
        b -= np.linalg.solve((z * (weight * p * (1 - p))[:, None]).T @ z + np.diag(ridge), gradient)
    coefficients = b[:-1] / spread
    return coefficients, float(b[-1] - coefficients @ mean)


def curve(asked: list[Asked], confidence: Any) -> dict[str, Any]:
    """Per threshold: share declined of those with an answer (false) and of those without (correct)."""
    report: dict[str, Any] = {}
    for half in ("development", "test"):
        chosen = [(a, confidence(a)) for a in asked if a.development == (half == "development")]
        for name in ("all", *SETS, "taken-out"):
            of = [(a, c) for a, c in chosen if a.set == name or (name == "all" and a.set in SETS)]
            rows: dict[str, Any] = {}
            for t in THRESHOLDS:
                yes = [c < t for a, c in of if a.answerable]
                no = [c < t for a, c in of if not a.answerable]
                rows[str(t)] = [round(float(np.mean(part)), 3) if part else None for part in (yes, no)]
            report.setdefault(name, {})[half] = rows
    return report


def weighted(asked: Sequence[Asked]) -> Any:
    """Weights under which every set and class counts the same: as many questions with an answer as without."""
    groups = Counter((a.set, a.answerable) for a in asked)
    weight = np.array([1 / groups[a.set, a.answerable] for a in asked])
    return weight / weight.sum()


def calibration(asked: list[Asked], confidence: Any) -> dict[str, Any]:
    """Whether a confidence is the share of questions that have an answer, and what each setting then means.

    On the test half. `error` is the expected calibration error over ten bins (Guo et al. 2017).
    """
    half = [a for a in asked if not a.development and a.set in SETS]
    c, y, weight = (
        np.array([confidence(a) for a in half]),
        np.array([a.answerable for a in half]),
        weighted(half),
    )
    bins: list[dict[str, float]] = []
    for low in np.arange(0, 1, 0.1):
        held = (c >= low) & (c < low + 0.1)
        if held.any():
            share = weight[held] / weight[held].sum()
            bins.append(
                {
                    "confidence": round(float(share @ c[held]), 3),
                    "answerable": round(float(share @ y[held]), 3),
                    "questions": int(held.sum()),
                    "weight": round(float(weight[held].sum()), 4),
                }
            )
    error = sum(b["weight"] * abs(b["confidence"] - b["answerable"]) for b in bins)
    settings = {name: abstain.threshold(name) for name in (*abstain.WORDS, "50 %", "80 %", "95 %")}
    meaning: dict[str, Any] = {}
    for name, threshold in sorted(settings.items(), key=lambda item: item[1]):
        answered = c >= threshold
        meaning[name] = {
            "threshold": threshold,
            "answered of answerable": round(float(weight[answered & y].sum() / weight[y].sum()), 3),
            "answered of unanswerable": round(float(weight[answered & ~y].sum() / weight[~y].sum()), 3),
            "answerable of answered": round(float(weight[answered & y].sum() / weight[answered].sum()), 3),
        }
    return {"error": round(float(error), 3), "bins": bins, "settings": meaning}


def plot(curves: dict[str, Any], calibrated: dict[str, Any]) -> None:
    """Of each set's test half, the unanswerable declined over the answerable declined; and the calibration."""
    with plotted("abstain", columns=2, size=(12, 5)) as (axes, right):
        right.plot([0, 1], [0, 1], color="grey", linewidth=1)
        bins = calibrated["bins"]
        right.plot([b["confidence"] for b in bins], [b["answerable"] for b in bins], "o-")
        right.set(xlabel="confidence", ylabel="share that has an answer", xlim=(0, 1), ylim=(0, 1))
        right.set_title(f"Calibration, test half: error {calibrated['error']}")
        right.grid(alpha=0.3)
        for name in (*SETS, "all"):
            rows = [row for row in curves[name]["test"].values() if None not in row]
            axes.plot([row[0] for row in rows], [row[1] for row in rows], "o-", label=name)
        axes.set(xlabel="answerable, declined", ylabel="unanswerable, declined", xlim=(0, 1), ylim=(0, 1))
        axes.set_title(f"Declining, by threshold {THRESHOLDS[0]} … {THRESHOLDS[-1]}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")


def main() -> None:
    if not DATA.is_dir():
        raise SystemExit("skipped: the data folder is absent")
    models = os.environ.get("DESKHAND_MODELS")
    embedder = embed.load(Settings(models=Path(models) if models else None))
    found: list[Asked] = []
    for source in (thunderbird, stackfaq, clapnq, mtrag):
        found += source(embedder)
        print(f"{source.__name__}: {len(found)} questions so far", flush=True)
    coefficients, intercept = fit([a for a in found if a.development and a.set in SETS])
    fitted = dict(zip(FEATURES, (round(float(c), 2) for c in coefficients), strict=True))
    shipped = curve(found, lambda a: abstain.confidence(abstain.Features(*a.features)))
    calibrated = calibration(found, lambda a: abstain.confidence(abstain.Features(*a.features)))
    plot(shipped, calibrated)
    print(json.dumps(calibrated, indent=1))
    print(json.dumps({"intercept": round(intercept, 2), **fitted}))
    for name, halves in shipped.items():
        for half, rows in halves.items():
            print(f"{name:12s} {half:12s}", "  ".join(f"{t}: {a}/{b}" for t, (a, b) in rows.items()))
    save(
        "abstain",
        {
            "questions": Counter(f"{a.set} {'' if a.answerable else 'un'}answerable" for a in found),
            "fitted": {"intercept": round(intercept, 2), **fitted},
            "shipped threshold": abstain.THRESHOLD,
            "declined of answerable, of unanswerable, by threshold (shipped coefficients)": shipped,
            "calibration": calibrated,
        },
    )


if __name__ == "__main__":
    main()
