"""Do the sources have the answer? A calibrated guess, made before anything is generated.

A logistic over a handful of features of what was retrieved. Its coefficients were
fitted once on questions with known answerability (see CALIBRATION) and are fixed
here: a desk's own questions would be too few, and a threshold that moves by
itself could not be explained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from assistant.answer.extract import Candidate
from assistant.answer.text import clean, stems
from assistant.model import Passage


@dataclass(frozen=True, slots=True)
class Features:
    """What retrieval tells about answerability; every one grows with it, `length` apart."""

    cosine: float
    """of question and best passage"""
    gap: float
    """how far the best passage's cosine stands above the mean of the others'"""
    covered: float
    """share of the question's topical words in the passage that has most of them"""
    covered_3: float
    """the same for the first three passages together"""
    sentence: float
    """cosine of question and best sentence"""
    sentence_words: float
    """share of the question's topical words in the sentence that has most"""
    bm25: float
    """log of the best passage's BM25 per topical word of the question"""
    length: float
    """log of the number of the question's topical words"""


COEFFICIENTS: Mapping[str, float] = {"cosine": 6.0, "covered": 1.0, "sentence": 2.0}
INTERCEPT = -4.0
THRESHOLD = 0.5
"""Below this the question is declined."""


def features(question: str, passages: Sequence[Passage], candidates: Sequence[Candidate]) -> Features:
    """`candidates` are what `extract.read` returned for the same question. Needs one passage at least."""
    wanted = set(stems(question))
    many = max(1, len(wanted))
    words = [set(stems(f"{passage.title} {clean(passage.text)}")) for passage in passages[:5]]
    cosines = sorted((passage.cosine for passage in passages), reverse=True)
    others = cosines[1:6] or [cosines[0]]
    return Features(
        cosine=cosines[0],
        gap=cosines[0] - sum(others) / len(others),
        covered=max(len(wanted & found) for found in words) / many,
        covered_3=len(wanted & set[str]().union(*words[:3])) / many,
        sentence=max((candidate.meaning for candidate in candidates), default=cosines[0]),
        sentence_words=max((candidate.words for candidate in candidates), default=0.0),
        bm25=math.log1p(max(passage.bm25 for passage in passages) / many),
        length=math.log(many),
    )


def confidence(found: Features) -> float:
    """Probability, 0..1, that the sources answer the question."""
    values = asdict(found)
    logit = INTERCEPT + sum(weight * values[name] for name, weight in COEFFICIENTS.items())
    return 1.0 / (1.0 + math.exp(-logit))
