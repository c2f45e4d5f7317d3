"""Do the sources have the answer? A calibrated guess, made before anything is generated.

A logistic over four features of what was retrieved, with fixed coefficients: a
desk's own questions would be too few to fit it, and a threshold that moves by
itself could not be explained. They hold for the default embedder; another one
has other cosines and needs them fitted again.

Fitted on the halves of four public sets whose hashed ids are even and on the questions
that come with the sample company, every set and class with equal weight; reported on the
other halves, which nothing was chosen by (`tests/bench/bench_abstain.py`, for three of the
sets). A gap to the next passages, the share of the question's words that the passages
cover, that of the best sentence and their BM25 score were tried as well and added nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.answer.cite import facts
from assistant.answer.extract import Candidate
from assistant.model import Passage
from assistant.text.sentences import stems

INTERCEPT = -8.67
COSINE = 7.57
SENTENCE = 5.39
LENGTH = 0.71
UNKNOWN = -1.27
SHORT = 12
"""Topical words of a short question. A longer one is a ticket and names versions, dates and amounts of its own."""
THRESHOLD = 0.4
"""Below this a question is declined. Of unseen questions over knowledge bases, FAQs and articles that was 9 %
of those with an answer and 67 % of those without; of unseen turns of conversations 28 % and 60 %. At 0.3 it is
6 % and 52 %, at 0.5 it is 11 % and 78 %. What it sees is another topic: where the right article of a topic is
missing among its neighbours, few questions are declined."""


WORDS = {"likely": THRESHOLD, "sure": 0.7, "very_sure": 0.8}
"""Settings in words → confidence. On unseen questions, as many with an answer as without, of those answered 72 %,
85 % and 93 % have one in the sources, and of those that have one 87 %, 64 % and 50 % are answered. A confidence is
itself the share that has one, within .06 on average (`tests/bench/bench_abstain.py`), so per cent need no table."""


@dataclass(frozen=True, slots=True)
class Features:
    """What retrieval tells about answerability."""

    cosine: float
    """of the question and the best passage"""
    sentence: float
    """of the question and the best sentence of the first passages"""
    length: float
    """log of the number of the question's topical words: long questions are never matched as closely"""
    unknown: float
    """share of the numbers and codes a short question names that no passage has, as an error code nobody knows"""


def features(question: str, passages: Sequence[Passage], candidates: Sequence[Candidate]) -> Features:
    """`candidates` are what `extract.read` returned for the same question. Needs one passage at least."""
    cosine = max(passage.cosine for passage in passages)
    topical = len(set(stems(question)))
    named = {fact for fact in facts(question) if re.search(r"\d", fact)} if topical <= SHORT else set[str]()
    unknown = named - facts("\n".join(f"{p.title}\n{p.text}" for p in passages)) if named else named
    return Features(
        cosine=cosine,
        sentence=max((candidate.meaning for candidate in candidates), default=cosine),
        length=math.log(max(1, topical)),
        unknown=len(unknown) / max(1, len(named)),
    )


def confidence(found: Features) -> float:
    """Probability, 0..1, that the sources answer the question."""
    logit = INTERCEPT + COSINE * found.cosine + SENTENCE * found.sentence + LENGTH * found.length
    logit += UNKNOWN * found.unknown
    return 1.0 / (1.0 + math.exp(-logit))


def moved(confidence: float, evidence: float) -> float:
    """The confidence after more evidence, a log-likelihood ratio; -inf leaves nothing of it."""
    logit = math.log(confidence / (1 - confidence)) + evidence
    return 1.0 / (1.0 + math.exp(-logit)) if logit > -700 else 0.0


def threshold(answer_when: str) -> float:
    """The confidence below which a question is declined, from a word of `WORDS` or per cent ("90 %")."""
    return WORDS[answer_when] if answer_when in WORDS else int(answer_when.rstrip("% ")) / 100
