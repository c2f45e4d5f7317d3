"""Answers in the sources' own words: the stretches of the passages that answer a question best.

A small model invents; a quotation cannot. What is chosen is at most three
stretches: a sentence with its neighbour, or a whole list of steps with the line
that introduces it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assistant.answer.cite import Encode
from assistant.answer.text import Sentence, clean, sentences, stems
from assistant.model import Passage

PASSAGES = 4
"""Only the best passages are searched for sentences."""
SENTENCES = 60
"""At most so many are embedded: 60 take a fifth of a second on two cores."""
STEPS = 12
LENGTH = 900
"""Characters one stretch may have."""
PARAGRAPH = 280
"""Characters of a paragraph that is quoted whole: its other half may say the opposite."""
CUSTOMER = 1.0
"""Taken off the cosine of what a customer wrote: it resembles the question most and rarely answers it."""


_HOW = re.compile(
    r"\bhow (do|can|could|should|would|to|does)\b|\b(steps?|procedure|instructions|guide)\b", re.I
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive sentences of one passage, numbered as it will be cited."""

    marker: int
    sentences: tuple[str, ...]
    score: float
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence of a passage and how near it comes to the question."""

    marker: int
    text: tuple[Sentence, ...]
    """all sentences of its passage"""
    index: int
    """which of them it is"""
    meaning: float
    """cosine similarity with the question; that of the passage where sentences are not embedded"""
    words: float
    """share of the question's topical words in it, 0..1"""
    steps: float
    """1 for a step, or the line before steps, where the question asks how"""
    passage: float
    """how far its passage's cosine lies below the best one's, 0 or less; see CUSTOMER"""

    @property
    def sentence(self) -> Sentence:
        return self.text[self.index]

    def score(self, weights: Weights) -> float:
        return (
            weights.meaning * self.meaning
            + weights.words * self.words
            + weights.steps * self.steps
            + weights.passage * self.passage
        )


@dataclass(frozen=True, slots=True)
class Weights:
    """How a sentence's score is put together.

    Chosen on 141 answerable questions by token F1 with people's answers: 0.49 (0.49 on 136
    others), where the small generator's own sentences reach 0.24, and 0.10 once those that
    no source supports are dropped.
    """

    meaning: float = 1.0
    words: float = 0.1
    """little, where sentences are embedded; it decides where they are not"""
    steps: float = 0.1
    passage: float = 0.75
    neighbour: float = 0.75
    """the following sentence joins when it scores this share of the best"""
    another: float = 0.8
    """so does a further stretch"""
    stretches: int = 3


WEIGHTS = Weights()


def read(question: str, passages: Sequence[Passage], *, encode: Encode | None = None) -> list[Candidate]:
    """Every sentence of the first PASSAGES passages that could be quoted, compared with the question.

    With `encode`, the SENTENCES most promising ones are embedded.
    """
    wanted = set(stems(question))
    asks_how = bool(_HOW.search(question))
    top = max((passage.cosine for passage in passages), default=0.0)
    found: list[Candidate] = []
    for marker, passage in enumerate(passages[:PASSAGES], 1):
        text = tuple(sentences(clean(passage.text)))
        for index, sentence in enumerate(text):
            if _quotable(text, index):
                # A long ticket is never covered by one sentence: twelve words shared are all that counts.
                words = len(wanted & set(stems(sentence.text))) / max(1, min(len(wanted), 12))
                below = passage.cosine - top - (CUSTOMER if passage.role == "customer" else 0.0)
                steps = float(asks_how and (sentence.step or _introduces(text, index)))
                found.append(Candidate(marker, text, index, passage.cosine, min(words, 1.0), steps, below))
    if encode is None or not found:
        return found
    found = sorted(found, key=lambda candidate: -candidate.words - candidate.passage)[:SENTENCES]
    rows = encode([question, *(candidate.sentence.text for candidate in found)])
    meanings = rows[1:] @ rows[0]
    return [replace(candidate, meaning=float(m)) for candidate, m in zip(found, meanings, strict=True)]


def choose(candidates: Sequence[Candidate], *, weights: Weights | None = None) -> list[Stretch]:
    """The stretches to quote, best first; empty when there is nothing to quote."""
    weights = weights or WEIGHTS
    ranked = sorted(candidates, key=lambda candidate: -candidate.score(weights))
    scores = {(c.marker, c.index): c.score(weights) for c in candidates}
    chosen: list[Stretch] = []
    said: set[str] = set()
    for candidate in ranked:
        value = candidate.score(weights)
        if len(chosen) == weights.stretches or value < weights.another * ranked[0].score(weights):
            break
        stretch = _widen(candidate, scores, weights)
        words = set(stems(" ".join(stretch.sentences)))
        if len(words - said) >= 0.5 * len(words):
            said |= words
            chosen.append(stretch)
    return chosen


def _quotable(text: Sequence[Sentence], index: int) -> bool:
    """Not a heading, a question, or a scrap."""
    sentence = text[index]
    if _introduces(text, index):
        return bool(stems(sentence.text))
    ends = sentence.step or bool(re.search(r"[.!:;)]$", sentence.text))
    return len(stems(sentence.text)) >= (3 if ends else 6) and not sentence.text.endswith("?")


def _widen(candidate: Candidate, scores: dict[tuple[int, int], float], weights: Weights) -> Stretch:
    """A sentence with what belongs to it: its list and the line before, or the sentence after."""
    text = candidate.text
    value = scores[candidate.marker, candidate.index]
    first = last = candidate.index
    block = candidate.sentence.block
    if candidate.sentence.step or _introduces(text, candidate.index):
        if not candidate.sentence.step:
            block = text[candidate.index + 1].block
        members = [i for i, sentence in enumerate(text) if sentence.block == block]
        first, last = members[0], members[-1]
        if last - first >= STEPS:
            first = max(first, min(candidate.index, last) - STEPS // 2)
            last = min(last, first + STEPS - 1)
        if first > 0 and _introduces(text, first - 1):
            first -= 1
    elif (
        text[(whole := [i for i, s in enumerate(text) if s.block == block])[-1]].end - text[whole[0]].start
        <= PARAGRAPH
    ):
        first, last = whole[0], whole[-1]
    elif (
        last + 1 < len(text)
        and text[last + 1].block == block
        and scores.get((candidate.marker, last + 1), -1.0) >= weights.neighbour * value
    ):
        last += 1
    while last > first and text[last].end - text[first].start > LENGTH:
        last -= 1
    quoted = tuple(" ".join(sentence.text.split()) for sentence in text[first : last + 1])
    return Stretch(candidate.marker, quoted, value, steps=any(s.step for s in text[first : last + 1]))


def _introduces(text: Sequence[Sentence], index: int) -> bool:
    """Whether a line ends in a colon and a list follows it."""
    return text[index].text.endswith(":") and index + 1 < len(text) and text[index + 1].step
