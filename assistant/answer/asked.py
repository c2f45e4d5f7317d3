"""What a question asks for, and how near a sentence comes to it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.answer.cite import facts
from assistant.model import Evidence, Passage
from assistant.retrieve.cues import cues
from assistant.text.sentences import Sentence, stems
from assistant.text.shape import CODE, introduces

_HOW = re.compile(
    r"\bhow (do|can|could|should|would|to|does)\b|\b(steps?|procedure|instructions|guide)\b", re.I
)
_DATE = (
    r"\b\d{4}-\d\d-\d\d\b|\b(?:19|20)\d\d\b|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* \d"
)
_NUMBER = r"\b\d+(?:[.,:]\d+)*\b"
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
    (re.compile(r"\b(command|setting|option|attribute|parameter|called)\b", re.I), CODE),
)
"""What a question asks for, and what an answer to it must then show."""
_VERSION = re.compile(r"(?<![\w.-])v?(\d+\.\d+)(?:\.\w+)*\b")
_SEVERAL = re.compile(
    r"\?.*\?|\band,? (?:why|how|what|when|which|where|who|do|does|did|is|are|was|can)\b", re.I | re.S
)
"""Asks for more than one thing."""


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


class Question:
    """What a question asks for, against the sentences that may answer it."""

    def __init__(self, question: str, texts: Sequence[Sequence[Sentence]]) -> None:
        self.wanted = set(stems(question))
        self.facts = facts(question)
        self.versions = set(_VERSION.findall(question))
        self.asks_how = bool(_HOW.search(question))
        self.them = cues(question).them
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
        shows = bool(self.cue and self.cue.search(said) and (new or self.cue is CODE))
        versions = set(_VERSION.findall(said)) or set(_VERSION.findall(near))
        return Features(
            meaning=passage.cosine,
            words=min(1.0, words / self.mass),
            facts=len(self.facts & facts(f"{near}\n{said}")) / max(1, len(self.facts)),
            other=float(bool(self.versions and versions) and not self.versions & versions),
            cue=float(shows),
            steps=float(self.asks_how and (text[index].step or introduces(text, index))),
            # Asked about the customer, their own words in their own tickets are what is asked for.
            customer=float(
                passage.role == "customer" and not (self.them and passage.evidence is Evidence.HISTORY)
            ),
        )


def asks_fact(question: str) -> bool:
    """Whether a number, a date or a name answers it."""
    return any(asks.search(question) for asks, _ in _CUES)


def asks_several(question: str) -> bool:
    """Whether it asks for more than one thing: "Which port, and why?" """
    return bool(_SEVERAL.search(question))
