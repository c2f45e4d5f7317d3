"""The marks one answer gets: words against the gold answers, citations, grounding."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from assistant.answer import cite
from assistant.evaluate.questions import Question
from assistant.model import Answer, Kind, Passage
from assistant.text.sentences import sentences

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_WORD = re.compile(r"\w+")


def marks(question: Question, answer: Answer, *, encode: cite.Encode | None = None) -> dict[str, float]:
    """The marks that apply: those of wording to answerable questions, those of citing to answers.

    A declined question that has an answer gets 0 for its wording.
    """
    declined = bool(answer.refusal)
    if not question.answerable:
        found = {"declined_unanswerable": float(declined)}
    else:
        found = {"declined_answerable": float(declined)}
        if question.answers:
            text = "" if declined else cite.split_markers(answer.text)[0]
            found["f1"] = max(token_f1(text, gold) for gold in question.answers)
            found["rouge_l"] = rouge_l(text, question.answers)
            found["contains_gold"] = float(any(contains(text, gold) for gold in question.answers))
        if relevant := _relevant(question, answer):
            found["retrieved_relevant"] = float(
                any(matches(p, name) for p in answer.passages for name in relevant)
            )
            # A refusal that tells the right ticket's lines helped all the same.
            found["told_relevant"] = float(
                any(matches(c.passage, name) for c in answer.citations for name in relevant)
            )
            if not declined:
                found |= _citing(answer, relevant)
    if not declined:
        found["grounded"] = grounded(answer, encode=encode)
    return found


def token_f1(text: str, gold: str) -> float:
    """Token F1 as SQuAD's evaluation has it (Rajpurkar et al. 2016)."""
    said, wanted = Counter(_squad(text)), Counter(_squad(gold))
    common = (said & wanted).total()
    if not common:
        return float(said == wanted)
    precision, recall = common / said.total(), common / wanted.total()
    return 2 * precision * recall / (precision + recall)


def exact_match(text: str, gold: str) -> bool:
    """Whether both are the same but for case, punctuation and articles, as SQuAD's evaluation has it."""
    return _squad(text) == _squad(gold)


def rouge_l(text: str, golds: Sequence[str]) -> float:
    """ROUGE-L F-measure (Lin 2004), stemmed, with the gold answer that fits best."""
    return float(_scorer().score_multi(list(golds), text)["rougeL"].fmeasure)


def contains(text: str, gold: str) -> bool:
    """Whether the words of `gold` stand in `text` one after the other; case and punctuation don't count."""
    wanted = _words(gold)
    return bool(wanted) and f" {wanted} " in f" {_words(text)} "


def grounded(answer: Answer, *, encode: cite.Encode | None = None) -> float:
    """Share of the answer's sentences that one of the passages they cite bears out."""
    parts = [cite.split_markers(part.text) for part in sentences(answer.text)]
    sources = [cite.Source(passage.text, passage.title) for passage in answer.passages]
    held = sum(
        any(
            cite.support(text, sources[m - 1], encode=encode).holds for m in markers if 1 <= m <= len(sources)
        )
        for text, markers in parts
    )
    return held / len(parts) if parts else 0.0


def matches(passage: Passage, name: str) -> bool:
    """Whether a passage is of the document that `name` means: an id, a title, a path or `ticket:<id>`."""
    if name.startswith("ticket:"):
        return passage.kind is Kind.TICKET and passage.external_id == name.removeprefix("ticket:")
    return name in (passage.external_id, passage.title) or passage.url.endswith(f"/{name}")


def _relevant(question: Question, answer: Answer) -> tuple[str, ...]:
    """What should be cited; of own passages without a statement, those that hold a gold answer."""
    if question.relevant or question.passages is None:
        return question.relevant
    return tuple(
        text.id or str(number)
        for number, text in enumerate(question.passages)
        if any(contains(text.text, gold) for gold in question.answers)
    )


def _citing(answer: Answer, relevant: Sequence[str]) -> dict[str, float]:
    cited = {c.passage.document_id: c.passage for c in answer.citations}.values()
    right = sum(any(matches(passage, name) for name in relevant) for passage in cited)
    hit = sum(any(matches(passage, name) for passage in cited) for name in relevant)
    return {
        "citation_precision": right / len(cited) if cited else 0.0,
        "citation_recall": hit / len(relevant),
    }


def _squad(text: str) -> list[str]:
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return _ARTICLES.sub(" ", bare).split()


def _words(text: str) -> str:
    return " ".join(_WORD.findall(_ARTICLES.sub(" ", _THOUSANDS.sub("", text.lower()))))


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)
