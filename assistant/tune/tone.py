"""How much one set of texts sounds like another: by the words that carry no topic.

Function words are what authors are told apart by (Mosteller & Wallace 1963, J. Am. Stat. Assoc.
58: 275-309), and how people are addressed is in them, too. Two sets are compared by the
Jensen-Shannon distance of their distributions (Lin 1991; a metric: Endres & Schindelin 2003):
0 for the same, 1 for nothing in common. Small sets differ by chance, so what two halves of
the same texts differ by is told beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from assistant.evaluate.statistics import Estimate

RESAMPLES = 500
_MOSTELLER_WALLACE = """
    a all also an and any are as at be been but by can do down even every for from had has have her his if in
    into is it its may more must my no not now of on one only or our shall should so some such than that the
    their then there things this to up upon was were what when which who will with would your
"""
_ADDRESS = "i me you yours we us please thank thanks sorry dear hi hello let lets dont cant"
WORDS = {word: place for place, word in enumerate(f"{_MOSTELLER_WALLACE} {_ADDRESS}".split())}
_WORD = re.compile(r"[a-z]+")

Counts = NDArray[np.float64]
"""texts × words"""


def counts(texts: Sequence[str]) -> Counts:
    """How often each of `WORDS` stands in each text."""
    found = np.zeros((len(texts), len(WORDS)))
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower().replace("’", "").replace("'", "")):
            if (place := WORDS.get(word)) is not None:
                found[row, place] += 1
    return found


def distance(one: Counts, other: Counts) -> float:
    """Jensen-Shannon distance of two sets of texts, 0..1; 1 where one has none of the words."""
    a, b = one.sum(axis=0), other.sum(axis=0)
    if not a.sum() or not b.sum():
        return 1.0
    a, b = a / a.sum(), b / b.sum()
    mean = (a + b) / 2
    return float(np.sqrt(max(0.0, (_divergence(a, mean) + _divergence(b, mean)) / 2)))


def compare(said: Sequence[str], wanted: Sequence[str]) -> dict[str, Estimate]:
    """`tone_distance` of pairs of texts, with its interval, and `tone_floor`, that of two halves of `wanted`."""
    if len(said) < 2:
        return {}
    one, other = counts(said), counts(wanted)
    chance = np.random.default_rng(0)
    rows = chance.integers(len(said), size=(RESAMPLES, len(said)))
    low, high = np.percentile([distance(one[draw], other[draw]) for draw in rows], (2.5, 97.5))
    floor = distance(other[::2], other[1::2])
    return {
        "tone_distance": Estimate(distance(one, other), float(low), float(high), len(said)),
        "tone_floor": Estimate(floor, floor, floor, len(said)),
    }


def _divergence(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Kullback-Leibler, in bits."""
    held = a > 0
    return float(np.sum(a[held] * np.log2(a[held] / b[held])))
