"""How good a generator is: on a dataset's part that it was not trained on, through the runtime that answers.

Each prompt is answered once, greedily. What the model said is marked as it stands, and so
is what a person would have been shown of it: by the real engine, which declines what it is
not confident about and drops sentences that no source bears out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.language_models import BaseChatModel

from assistant.answer import cite
from assistant.answer.engine import Strategy
from assistant.answer.prompt import DECLINED
from assistant.app import Assistant
from assistant.evaluate import marks
from assistant.evaluate.scratch import Progress
from assistant.evaluate.statistics import Estimate, balanced, estimate, p50, p95
from assistant.generate import base
from assistant.generate.echo import EchoChat
from assistant.generate.local import LocalChat
from assistant.model import Answer
from assistant.store import versions
from assistant.store.datasets import Dataset
from assistant.store.db import Conn
from assistant.store.versions import Version
from assistant.text.sentences import sentences
from assistant.tune import perplexity, tone
from assistant.tune.cases import AT_ONCE, Case, Given, by_kind, scored

ORDER = (
    "exact_match",
    "f1",
    "rouge_l",
    "citation_precision",
    "citation_recall",
    "grounded",
    "format",
    "declined_unanswerable",
    "declined_answerable",
    "shown_f1",
    "shown_declined_unanswerable",
    "shown_declined_answerable",
)
"""marks of single replies; `score` and those of all replies together come on top"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a generator made of a case."""

    case: Case
    text: str
    """as it said it"""
    shown: Answer
    """as it is shown"""
    seconds_first: float
    seconds_total: float
    marks: Mapping[str, float]


def run(
    assistant: Assistant, model: BaseChatModel, cases: Sequence[Case], *, progress: Progress
) -> list[Reply]:
    """Ask every case, `AT_ONCE` at a time, so that the times are a busy desk's. Raises what the generator raises."""
    encode = assistant.embedder.encode
    found: list[Reply] = []

    def one(case: Case) -> Reply:
        text, first, total = _said(model, case)
        shown = _shown(assistant, model, case, text)
        return Reply(case, text, shown, first, total, marked(case, text, shown, encode=encode))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for reply in pool.map(one, cases):
            found.append(reply)
            progress(base.name(model), len(found), len(cases))
    return found


def marked(case: Case, text: str, shown: Answer, *, encode: cite.Encode | None = None) -> dict[str, float]:
    """The marks that apply: of wording and citing to answerable cases, of declining to all."""
    kept = text.partition(DECLINED)[0].strip()
    declined, refused = not kept, bool(shown.refusal)
    found = {"format": float(well_formed(text, len(case.passages)))}
    if not declined:
        found["grounded"] = marks.grounded(Answer(kept, (), 1.0, passages=case.passages), encode=encode)
    if not case.answerable:
        return found | {
            "declined_unanswerable": float(declined),
            "shown_declined_unanswerable": float(refused),
        }
    gold, right = cite.split_markers(case.gold)
    said, cited = cite.split_markers(kept)
    found |= {
        "declined_answerable": float(declined),
        "shown_declined_answerable": float(refused),
        "exact_match": float(marks.exact_match(said, gold)),
        "f1": marks.token_f1(said, gold),
        "rouge_l": marks.rouge_l(said, [gold]),
        "shown_f1": marks.token_f1("" if refused else cite.split_markers(shown.text)[0], gold),
    }
    if not declined:
        hits = len(set(cited) & set(right))
        found["citation_precision"] = hits / len(cited) if cited else 0.0
        found["citation_recall"] = hits / len(right) if right else 0.0
        found["length_ratio"] = len(said.split()) / max(1, len(gold.split()))
    return found


def well_formed(text: str, sources: int) -> bool:
    """Whether it is what was asked for and nothing else: sentences that each cite a source there is, or DECLINED."""
    text = text.strip()
    if text == DECLINED:
        return True
    parts = [cite.split_markers(part.text) for part in sentences(text)]
    return (
        bool(parts)
        and DECLINED not in text
        and all(said and cited and all(1 <= m <= sources for m in cited) for said, cited in parts)
    )


def summary(replies: Sequence[Reply]) -> dict[str, Estimate]:
    """The mean of each mark over the replies it applies to; score, tone and times."""
    by_mark = {name: [r.marks[name] for r in replies if name in r.marks] for name in (*ORDER, "length_ratio")}
    answered = [r for r in replies if "length_ratio" in r.marks]
    samples: dict[str, Estimate | None] = {"score": balanced(score_parts(replies))}
    samples |= {name: estimate(by_mark[name]) for name in ORDER}
    samples["length_ratio"] = estimate(by_mark["length_ratio"], np.median)
    samples |= tone.compare(
        [cite.split_markers(r.text.partition(DECLINED)[0])[0] for r in answered],
        [cite.split_markers(r.case.gold)[0] for r in answered],
    )
    for name, values in (
        ("seconds_first", [r.seconds_first for r in replies]),
        ("seconds_total", [r.seconds_total for r in replies]),
    ):
        samples |= {f"{name}_p50": estimate(values, p50), f"{name}_p95": estimate(values, p95)}
    return {name: value for name, value in samples.items() if value is not None}


def score_parts(replies: Sequence[Reply]) -> list[list[float]]:
    """What the score is the balanced mean of: F1 of what is shown where there is an answer, declining where not.

    A declined answer has an F1 of 0, so false abstention costs as much as saying nothing right.
    """
    return [
        [r.marks["shown_f1"] for r in replies if r.case.answerable],
        [r.marks["shown_declined_unanswerable"] for r in replies if not r.case.answerable],
    ]


def by_kinds(replies: Sequence[Reply]) -> dict[str, dict[str, Estimate]]:
    """The same for each kind of example."""
    kinds = by_kind(r.case for r in replies)
    return {kind: summary([r for r in replies if r.case.kind == kind]) for kind in kinds}


def forgetting(model: BaseChatModel, general: Path | None, progress: Progress) -> dict[str, Estimate]:
    """Perplexity on a file of general text; nothing without one, or of a generator whose weights aren't here."""
    if general is None or not isinstance(model, LocalChat):
        return {}
    text = general.read_text(encoding="utf-8", errors="replace")
    return {"perplexity": perplexity.perplexity(model, text, progress)}


def key(dataset: Dataset, part: str) -> str:
    """What results on a part of a dataset are called."""
    return f"tune-{dataset.hash[:12]}-{part}"


def details(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    """Each reply for the file of results."""
    return [
        {
            "kind": reply.case.kind,
            "question": reply.case.question,
            "gold": reply.case.gold,
            "said": reply.text,
            "shown": reply.shown.text,
            "declined": reply.shown.refusal,
            "confidence": round(reply.shown.confidence, 4),
            "seconds": [round(reply.seconds_first, 3), round(reply.seconds_total, 3)],
            "marks": reply.marks,
        }
        for reply in replies
    ]


def keep(connection: Conn, version: Version, measured: Mapping[str, Mapping[str, Any]]) -> None:
    """Put measurements, by what they were measured on, among the version's own."""
    known = dict(versions.get(connection, version.name).metrics.get("evaluated", {}))
    versions.measured(connection, version, {"evaluated": {**known, **measured}})


def plain(metrics: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """Estimates as JSON has them."""
    return {name: {key: round(value, 5) for key, value in asdict(e).items()} for name, e in metrics.items()}


def _said(model: BaseChatModel, case: Case) -> tuple[str, float, float]:
    """Text, and seconds until its first piece and its last."""
    started, first, text = time.perf_counter(), 0.0, ""
    for chunk in model.stream(list(case.messages)):
        if chunk.text and not text:
            first = time.perf_counter() - started
        text += chunk.text
    total = time.perf_counter() - started
    return text, first or total, total


def _shown(assistant: Assistant, model: BaseChatModel, case: Case, text: str) -> Answer:
    """What the engine shows when the generator says `text`; of one that quotes, the quotes."""
    said = EchoChat(
        reply=text or "\n", model_name=base.name(model), quotes=base.quotes(model), trust=base.trust(model)
    )
    passages = Given(scored(case, assistant.embedder))
    strategy = Strategy.QUOTE if base.quotes(model) else Strategy.WRITE
    return assistant.answering_with(said).engine_over(passages, strategy=strategy).answer(case.question)
