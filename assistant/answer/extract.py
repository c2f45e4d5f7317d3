"""Answers in the sources' own words: the stretches of the passages that answer a question best.

A small model invents; a quotation cannot. What is chosen is at most a few short
stretches: a paragraph, a sentence with its neighbour, a row of a table, or a whole
list of steps with the line that introduces it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace

from assistant.answer.asked import Features, Question, asks_fact, asks_several
from assistant.answer.cite import Encode
from assistant.model import TIMELINE, Passage
from assistant.text.sentences import Sentence, clean, sentences, stems, without_bullet
from assistant.text.shape import (
    continues,
    cut,
    filler,
    headings,
    in_lines,
    introduces,
    is_code,
    leans,
    quotable,
    without_greeting,
)

PASSAGES = 20
"""Only the best passages are searched for sentences."""
SENTENCES = 24
"""At most so many are embedded: the wording decides which; 48 chose the same and take twice as long."""
STEPS = 12
LENGTH = 900
"""Characters one stretch may have."""
PARAGRAPH = 340
"""Characters of a paragraph that is quoted whole: its other half may say the opposite."""
WORDS = 120
"""Words of an answer, beyond which nothing is added to it."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive sentences of one passage, numbered as it will be cited."""

    marker: int
    sentences: tuple[str, ...]
    """as the answer says them"""
    quotes: tuple[str, ...]
    """as the passage has them; differs for rows of a table and after a greeting"""
    breaks: tuple[bool, ...]
    """whether each begins a line"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence of a passage and how near it comes to the question."""

    marker: int
    passage: Passage
    text: tuple[Sentence, ...]
    """all sentences of its passage"""
    index: int
    """which of them it is"""
    features: Features
    asked: Mapping[str, float] = field(default_factory=dict[str, float])
    """the question's topical words that it says, with their share of what is asked"""

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
    stretches: int = 2
    """at most so many; one more where several things are asked"""
    prose: float = 0.75
    """beyond them a sentence that takes an answer from prose further joins with this share"""
    near: float = 0.8
    """a sentence at an end of a paragraph in a ticket, or where a fact is asked, stays with this share"""
    asked: float = 0.1
    """share of what is asked that a further stretch must be the first to say"""
    novel: float = 0.5
    """share of a further stretch's words that the ones before must not have"""


WEIGHTS = Weights()


def read(question: str, passages: Sequence[Passage], *, encode: Encode | None = None) -> list[Candidate]:
    """Every sentence of the first PASSAGES passages that could be quoted, compared with the question.

    With `encode`, the SENTENCES most promising ones are embedded.
    """
    texts = [tuple(sentences(clean(passage.text))) for passage in passages[:PASSAGES]]
    asked = Question(question, texts)
    top = max((passage.score for passage in passages), default=0.0)
    found: list[Candidate] = []
    for marker, (passage, text) in enumerate(zip(passages, texts, strict=False), 1):
        if passage.role == TIMELINE:  # the messages it is made of are quoted themselves
            continue
        around = f"{clean(passage.title)}\n{' '.join(passage.headings)}"
        best, near = passage.score, 0.0
        if passage.role == "agent":
            # An answer in a thread is about what was asked there, and found by it.
            thread = [p for p in passages if p.document_id == passage.document_id]
            best = max(p.score for p in thread)
            around = "\n".join([around, *(clean(p.text) for p in thread if p.role == "customer")])
            near = float(passage.document_id == passages[0].document_id)
        for index, heading in enumerate(headings(text)):
            cut_off = not index and not passage.role and cut(text[0])
            if quotable(text, index) and not cut_off:
                features = asked.features(text, index, around, heading, passage)
                features = replace(features, passage=best - top, thread=near)
                said = asked.wanted.intersection(stems(text[index].readable))
                shares = {word: asked.idf[word] / asked.mass for word in said}
                found.append(Candidate(marker, passage, text, index, features, shares))
    if encode is None or not found:
        return found
    found = sorted(found, key=lambda candidate: -candidate.score(WEIGHTS))[:SENTENCES]
    rows = encode([question, *(candidate.sentence.readable for candidate in found)])
    meanings = rows[1:] @ rows[0]
    return [
        replace(candidate, features=replace(candidate.features, meaning=float(m)))
        for candidate, m in zip(found, meanings, strict=True)
    ]


@dataclass(slots=True)
class _Chosen:
    """Sentences of one passage that are to be shown."""

    candidate: Candidate
    indices: set[int]


def choose(
    candidates: Sequence[Candidate], *, weights: Weights | None = None, question: str = ""
) -> list[Stretch]:
    """The stretches to quote: the best document's first, those of a document in its order."""
    weights = weights or WEIGHTS
    scores = {(c.marker, c.index): c.score(weights) for c in candidates}
    # Without embeddings there may be thousands, of which the first few decide.
    ranked = sorted(candidates, key=lambda c: -scores[c.marker, c.index])[:SENTENCES]
    room = weights.stretches + asks_several(question)
    is_open = not asks_fact(question)
    chosen: list[_Chosen] = []
    said: set[str] = set()
    length = 0
    for candidate in ranked:
        goes_on = False
        if chosen:
            best = chosen[0].candidate
            share = candidate.score(weights) / best.score(weights)
            goes_on = share >= weights.prose and _goes_on(candidate, best, is_open=is_open)
            joins = room and share >= weights.another and _adds(candidate, best, said, weights)
            if not (goes_on or joins):
                continue
        indices = _widen(candidate, scores, weights, fact=not is_open)
        size = sum(len(candidate.text[i].readable.split()) for i in indices)
        words = {word for i in indices for word in stems(candidate.text[i].text)}
        new = len(words - said) >= weights.novel * len(words)
        if words and new and (not chosen or length + size <= WORDS):
            said |= words
            length += size
            room -= not goes_on
            chosen.append(_Chosen(candidate, indices))
    return _ordered(chosen)


def _goes_on(candidate: Candidate, best: Candidate, *, is_open: bool) -> bool:
    """Whether a sentence of prose takes the answer further: from the same page, or where no single fact is asked."""
    if (
        candidate.passage.role
        or best.passage.role
        or candidate.sentence.cells
        or not candidate.features.words
    ):
        return False
    return is_open or candidate.marker == best.marker


def _adds(candidate: Candidate, best: Candidate, said: set[str], weights: Weights) -> bool:
    """Whether a further stretch brings what the question asks for and was not said yet."""
    features = candidate.features
    if features.other > best.features.other:
        return False
    if features.cue > best.features.cue or features.thread > best.features.thread:
        return True
    if candidate.passage.document_id == best.passage.document_id:
        return True
    return sum(share for word, share in candidate.asked.items() if word not in said) >= weights.asked


def _ordered(chosen: Sequence[_Chosen]) -> list[Stretch]:
    """The documents as they were chosen, and what is quoted of each as it stands there."""
    documents = list(dict.fromkeys(one.candidate.passage.document_id for one in chosen))
    passages: dict[int, _Chosen] = {}
    for one in chosen:
        known = passages.setdefault(one.candidate.marker, _Chosen(one.candidate, set()))
        known.indices |= one.indices

    def place(one: _Chosen) -> tuple[int, float, int]:
        passage = one.candidate.passage
        written = passage.created_at.timestamp() if passage.created_at else 0.0
        return documents.index(passage.document_id), written, passage.chunk_id

    return [
        _stretch(one.candidate, run)
        for one in sorted(passages.values(), key=place)
        for run in _runs(sorted(one.indices))
    ]


def _runs(indices: Sequence[int]) -> list[list[int]]:
    """Numbers that follow one another, together."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def _stretch(candidate: Candidate, indices: Sequence[int]) -> Stretch:
    text = candidate.text
    alone = len(indices) == 1 and text[indices[0]].step
    shown, quotes, breaks = list[str](), list[str](), list[bool]()
    for before, index in zip([None, *indices], indices, strict=False):
        sentence = text[index]
        said = without_bullet(sentence.readable) if alone else without_greeting(in_lines(sentence))
        shown.append(said)
        quotes.append(sentence.text if sentence.cells else sentence.readable)
        breaks.append(before is None or _breaks(text[before], sentence))
    return Stretch(candidate.marker, tuple(shown), tuple(quotes), tuple(breaks))


def _breaks(before: Sentence, sentence: Sentence) -> bool:
    """Whether a sentence begins a line after the one shown before it."""
    return any(one.step or one.cells or is_code(one) for one in (before, sentence))


def _widen(
    candidate: Candidate, scores: Mapping[tuple[int, int], float], weights: Weights, *, fact: bool
) -> set[int]:
    """A sentence with what belongs to it: its list and the line before, its paragraph or what follows."""
    text, block = candidate.text, candidate.sentence.block
    first = last = candidate.index
    whole = [i for i, s in enumerate(text) if s.block == block]
    if candidate.sentence.cells:
        return {candidate.index}
    if candidate.features.steps or introduces(text, candidate.index):
        first, last = _list(text, candidate.index)
    elif not candidate.sentence.step and text[whole[-1]].end - text[whole[0]].start <= PARAGRAPH:
        first, last = whole[0], whole[-1]
        if fact or candidate.passage.role:
            first, last = _near(candidate, whole, scores, weights)
        if last > candidate.index and text[last].text.endswith(":") and not candidate.passage.role:
            last -= 1
    elif (
        last + 1 < len(text)
        and text[last + 1].block == block
        and scores.get((candidate.marker, last + 1), -1.0) >= weights.neighbour * candidate.score(weights)
    ):
        last += 1
    first = _beginning(candidate, first)
    while last + 1 < len(text) and continues(text, last + 1):
        last += 1
    while last > candidate.index and text[last].end - text[first].start > LENGTH:
        last -= 1
    while first < candidate.index and text[last].end - text[first].start > LENGTH:
        first += 1
    return _worth_showing(text, first, last)


def _near(
    candidate: Candidate, whole: Sequence[int], scores: Mapping[tuple[int, int], float], weights: Weights
) -> tuple[int, int]:
    """First and last of a paragraph, without what is about something else at its ends."""
    text, first, last = candidate.text, whole[0], whole[-1]
    least = weights.near * candidate.score(weights)

    def elsewhere(index: int) -> bool:
        near = scores.get((candidate.marker, index), -1.0) >= least
        return not (
            near or index == candidate.index or is_code(text[index]) or text[index].text.endswith(":")
        )

    while elsewhere(last):
        last -= 1
    while elsewhere(first):
        first += 1
    return first, last


def _worth_showing(text: Sequence[Sentence], first: int, last: int) -> set[int]:
    """Of these sentences those that are no greeting, no question, and no code which a question led to."""
    kept = set[int]()
    for i in range(first, last + 1):
        orphan = i > first and i - 1 not in kept and continues(text, i)
        if not filler(text[i]) and not orphan:
            kept.add(i)
    if len(kept) > 1 and text[max(kept)].text.endswith(":"):
        kept.remove(max(kept))
    return kept


def _beginning(candidate: Candidate, first: int) -> int:
    """Where the sentence or the code that stands at `first` begins."""
    text = candidate.text
    while first and continues(text, first):
        first -= 1
    if first and leans(text[first]) and text[first - 1].block == text[first].block:
        first -= 1
    if not first and candidate.index and not candidate.passage.role and cut(text[0]):
        return 1
    return first


def _list(text: Sequence[Sentence], index: int) -> tuple[int, int]:
    """First and last of the list that `index` is in or introduces, with the line before it."""
    block = text[index if text[index].step else index + 1].block
    members = [i for i, sentence in enumerate(text) if sentence.block == block]
    first, last = members[0], members[-1]
    if last - first >= STEPS:
        first = max(first, min(index, last) - STEPS // 2)
        last = min(last, first + STEPS - 1)
    if first > 0 and introduces(text, first - 1):
        first -= 1
    return first, last
