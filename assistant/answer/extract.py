"""Answers in the sources' own words: the stretches of the passages that answer a question best.

A small model invents; a quotation cannot. What is chosen is at most a few short
stretches: a paragraph, a sentence with its neighbour, a row of a table, or a whole
list of steps with the line that introduces it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace

from assistant.answer.cite import Encode, facts
from assistant.answer.text import Sentence, clean, sentences, stems
from assistant.model import Passage

PASSAGES = 20
"""Only the best passages are searched for sentences."""
SENTENCES = 24
"""At most so many are embedded: the wording decides which; 48 chose the same and take twice as long."""
STEPS = 12
LENGTH = 900
"""Characters one stretch may have."""
PARAGRAPH = 280
"""Characters of a paragraph that is quoted whole: its other half may say the opposite."""
WORDS = 120
"""Words of an answer, beyond which nothing is added to it."""

_HOW = re.compile(
    r"\bhow (do|can|could|should|would|to|does)\b|\b(steps?|procedure|instructions|guide)\b", re.I
)
_DATE = (
    r"\b\d{4}-\d\d-\d\d\b|\b(?:19|20)\d\d\b|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* \d"
)
_NUMBER = r"\b\d+(?:[.,:]\d+)*\b"
_CODE = r"`[^`]+`|\b\w+_\w+|(?<!\w)--\w+|\w+\.(?:toml|ini|conf|json|yaml|yml)\b|\w = \S"
_CUES = (
    (re.compile(r"\bwhen\b|\b(which|what) (date|day|year)\b", re.I), re.compile(_DATE, re.I)),
    (
        re.compile(
            r"\b(which|what)\b[\w ]{0,20}\b(port|versions?|release|size|limit|number|time|percentage)\b|"
            r"\bhow (many|much|long|often|quickly|fast|big|large|old|soon)\b|\b(minimum|maximum|at most)\b",
            re.I,
        ),
        re.compile(_NUMBER),
    ),
    (re.compile(r"\b(command|setting|option|attribute|parameter|called)\b", re.I), re.compile(_CODE)),
)
"""What a question asks for, and what an answer to it must then show."""
_VERSION = re.compile(r"(?<![\w.-])v?(\d+\.\d+)(?:\.\w+)*\b")
_GREETING = re.compile(
    r"(hi|hello|hey|dear|hallo|thanks|thank you|cheers|regards|kind regards|best regards|moin)\b.{0,40}$",
    re.I,
)
_NOISE = re.compile(
    r"(?:[A-Z][a-z]{2} +\d+ +)?\d\d:\d\d:\d\d\b|\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\s*at [\w.$]+\(|Traceback |"
    r"(?:Subject|From|To|Cc|Date|Sent): |.{0,60}\bLast updated: |[{}\[\]]\s*$"
)
"""Beginnings of lines of logs, traces and mail headers."""
_OPEN = re.compile(r"(?::|[^\W\d_])$")
"""Goes on in the next line."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive sentences of one passage, numbered as it will be cited."""

    marker: int
    sentences: tuple[str, ...]
    """as the answer says them"""
    score: float
    steps: bool = False
    quotes: tuple[str, ...] = ()
    """as the passage has them; differs for rows of a table"""


@dataclass(frozen=True, slots=True)
class Features:
    """How near a sentence comes to the question; one weight each."""

    meaning: float = 0.0
    """cosine similarity with the question; that of the passage where sentences are not embedded"""
    words: float = 0.0
    """share of the question's topical words in it, rare ones counting more; half in its surroundings; 0..1"""
    facts: float = 0.0
    """share of the numbers, versions and codes the question names that stand in it or around it"""
    other: float = 0.0
    """1 where it is about other versions only"""
    cue: float = 0.0
    """1 where it shows what the question asks for, as a number for "how many" """
    steps: float = 0.0
    """1 for a step, or the line before steps, where the question asks how"""
    passage: float = 0.0
    """how far its passage's score lies below the best one's, 0 or less"""
    thread: float = 0.0
    """1 for a reply in the ticket that was found first: it need not repeat what was asked there"""
    customer: float = 0.0
    """1 for what a customer wrote: it resembles the question most and rarely answers it"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence of a passage and how near it comes to the question."""

    marker: int
    text: tuple[Sentence, ...]
    """all sentences of its passage"""
    index: int
    """which of them it is"""
    features: Features

    @property
    def sentence(self) -> Sentence:
        return self.text[self.index]

    @property
    def meaning(self) -> float:
        return self.features.meaning

    def score(self, weights: Weights) -> float:
        return sum(w * f for w, f in zip(astuple(weights.of), astuple(self.features), strict=True))


@dataclass(frozen=True, slots=True)
class Weights:
    """How a sentence's score is put together, and what joins it.

    Chosen one after the other, by the answers the sample's questions have and by token F1 with
    people's answers on the development halves of two public sets (`tests/bench/bench_answers.py`).
    That a chunk was marked as the solution was tried and added nothing: it often is a "Will do."
    """

    of: Features = field(
        default_factory=lambda: Features(
            meaning=1.0, words=0.2, facts=0.3, other=-0.15, cue=0.05, steps=0.1, passage=1.0, thread=0.3, customer=-0.5
        )
    )  # fmt: skip
    neighbour: float = 0.9
    """the following sentence joins when it scores this share of the best"""
    another: float = 0.7
    """so does a further stretch"""
    stretches: int = 4
    novel: float = 0.5
    """share of a further stretch's words that the ones before must not have"""


WEIGHTS = Weights()


def read(question: str, passages: Sequence[Passage], *, encode: Encode | None = None) -> list[Candidate]:
    """Every sentence of the first PASSAGES passages that could be quoted, compared with the question.

    With `encode`, the SENTENCES most promising ones are embedded.
    """
    texts = [tuple(sentences(clean(passage.text))) for passage in passages[:PASSAGES]]
    asked = _Question(question, texts)
    top = max((passage.score for passage in passages), default=0.0)
    found: list[Candidate] = []
    for marker, (passage, text) in enumerate(zip(passages, texts, strict=False), 1):
        around = f"{clean(passage.title)}\n{' '.join(passage.headings)}"
        best, near = passage.score, 0.0
        if passage.role == "agent":
            # An answer in a thread is about what was asked there, and found by it.
            thread = [p for p in passages if p.document_id == passage.document_id]
            best = max(p.score for p in thread)
            around = "\n".join([around, *(clean(p.text) for p in thread if p.role == "customer")])
            near = float(passage.document_id == passages[0].document_id)
        for index, heading in enumerate(_headings(text)):
            if _quotable(text, index):
                features = asked.features(text, index, around, heading, passage)
                found.append(
                    Candidate(marker, text, index, replace(features, passage=best - top, thread=near))
                )
    if encode is None or not found:
        return found
    found = sorted(found, key=lambda candidate: -candidate.score(WEIGHTS))[:SENTENCES]
    rows = encode([question, *(candidate.sentence.readable for candidate in found)])
    meanings = rows[1:] @ rows[0]
    return [
        replace(candidate, features=replace(candidate.features, meaning=float(m)))
        for candidate, m in zip(found, meanings, strict=True)
    ]


class _Question:
    """What a question asks for, against the sentences that may answer it."""

    def __init__(self, question: str, texts: Sequence[Sequence[Sentence]]) -> None:
        self.wanted = set(stems(question))
        self.facts = facts(question)
        self.versions = set(_VERSION.findall(question))
        self.asks_how = bool(_HOW.search(question))
        self.cue = next((shows for asks, shows in _CUES if asks.search(question)), None)
        every = [set(stems(s.readable)) for text in texts for s in text]
        held = Counter(word for words in every for word in words & self.wanted)
        self.idf = {w: math.log(1 + (len(every) + 1) / (held[w] + 0.5)) for w in self.wanted}
        # A long ticket is never covered by one sentence: its twelve rarest words are all that counts.
        self.mass = sum(sorted(self.idf.values(), reverse=True)[:12]) or 1.0

    def features(
        self, text: Sequence[Sentence], index: int, around: str, heading: str, passage: Passage
    ) -> Features:
        said = text[index].readable
        before = text[index - 1].readable if index and text[index - 1].block == text[index].block else ""
        near = f"{around}\n{heading}\n{before}"
        own = set(stems(said)) & self.wanted
        beside = set(stems(near)) & self.wanted - own
        words = sum(self.idf[w] for w in own) + 0.5 * sum(self.idf[w] for w in beside)
        new = facts(said) - self.facts
        shows = bool(self.cue and self.cue.search(said) and (new or self.cue is _CUES[2][1]))
        versions = set(_VERSION.findall(said)) or set(_VERSION.findall(near))
        return Features(
            meaning=passage.cosine,
            words=min(1.0, words / self.mass),
            facts=len(self.facts & facts(f"{near}\n{said}")) / max(1, len(self.facts)),
            other=float(bool(self.versions and versions) and not self.versions & versions),
            cue=float(shows),
            steps=float(self.asks_how and (text[index].step or _introduces(text, index))),
            customer=float(passage.role == "customer"),
        )


def choose(candidates: Sequence[Candidate], *, weights: Weights | None = None) -> list[Stretch]:
    """The stretches to quote, best first; empty when there is nothing to quote."""
    weights = weights or WEIGHTS
    scores = {(c.marker, c.index): c.score(weights) for c in candidates}
    # Without embeddings there may be thousands, of which the first few decide.
    ranked = sorted(candidates, key=lambda c: -scores[c.marker, c.index])[:SENTENCES]
    chosen: list[Stretch] = []
    said: set[str] = set()
    length = 0
    for candidate in ranked:
        value = scores[candidate.marker, candidate.index]
        if (
            len(chosen) == weights.stretches
            or value < weights.another * scores[ranked[0].marker, ranked[0].index]
        ):
            break
        if chosen and not candidate.features.words:
            continue
        stretch = _widen(candidate, scores, weights)
        size = len(" ".join(stretch.sentences).split())
        words = set(stems(" ".join(stretch.quotes)))
        if len(words - said) >= weights.novel * len(words) and (not chosen or length + size <= WORDS):
            said |= words
            length += size
            chosen.append(stretch)
    return chosen


def _quotable(text: Sequence[Sentence], index: int) -> bool:
    """Not a heading, a question, a greeting, a line of a log, or a scrap."""
    sentence = text[index]
    if sentence.cells:
        return sentence.cells != sentence.head and sum(map(bool, sentence.cells)) > 1
    if _introduces(text, index):
        return bool(stems(sentence.text))
    if _NOISE.match(sentence.text) or _GREETING.match(sentence.text):
        return False
    ends = sentence.step or bool(re.search(r"[.!:;)]$", sentence.text))
    return len(stems(sentence.text)) >= (3 if ends else 6) and not sentence.text.endswith("?")


def _widen(candidate: Candidate, scores: dict[tuple[int, int], float], weights: Weights) -> Stretch:
    """A sentence with what belongs to it: its list and the line before, its paragraph or what follows."""
    text = candidate.text
    value = scores[candidate.marker, candidate.index]
    first = last = candidate.index
    block = candidate.sentence.block
    whole = [i for i, s in enumerate(text) if s.block == block]
    if candidate.sentence.cells:
        pass
    elif candidate.features.steps or _introduces(text, candidate.index):
        first, last = _list(text, candidate.index)
    elif not candidate.sentence.step and text[whole[-1]].end - text[whole[0]].start <= PARAGRAPH:
        first, last = whole[0], whole[-1]
    elif (
        last + 1 < len(text)
        and text[last + 1].block == block
        and scores.get((candidate.marker, last + 1), -1.0) >= weights.neighbour * value
    ):
        last += 1
    if last + 1 < len(text) and _OPEN.search(text[last].text) and not text[last + 1].cells:
        last += 1
    while last > first and text[last].end - text[first].start > LENGTH:
        last -= 1
    part = text[first : last + 1]
    return Stretch(
        candidate.marker,
        tuple(s.readable for s in part),
        value,
        steps=any(s.step for s in part),
        quotes=tuple(s.text if s.cells else s.readable for s in part),
    )


def _list(text: Sequence[Sentence], index: int) -> tuple[int, int]:
    """First and last of the list that `index` is in or introduces, with the line before it."""
    block = text[index if text[index].step else index + 1].block
    members = [i for i, sentence in enumerate(text) if sentence.block == block]
    first, last = members[0], members[-1]
    if last - first >= STEPS:
        first = max(first, min(index, last) - STEPS // 2)
        last = min(last, first + STEPS - 1)
    if first > 0 and _introduces(text, first - 1):
        first -= 1
    return first, last


def _headings(text: Sequence[Sentence]) -> list[str]:
    """For each sentence the nearest line above it that is a heading, or nothing."""
    blocks = Counter(sentence.block for sentence in text)
    above, nearest = list[str](), ""
    for line in text:
        above.append(nearest)
        short = blocks[line.block] == 1 and len(line.text) < 80 and line.text[-1].isalnum()
        if short and not line.cells and not line.step:
            nearest = line.text
    return above


def _introduces(text: Sequence[Sentence], index: int) -> bool:
    """Whether a line ends in a colon and a list follows it."""
    return text[index].text.endswith(":") and index + 1 < len(text) and text[index + 1].step
