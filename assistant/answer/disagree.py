"""Where a document and a ticket say different numbers of the same thing: the document is right, and it is said.

A ticket tells what was true on its day. Two sentences disagree when they are about the same
(nearly all topical words of the shorter one, and its meaning) and give different values of
the same unit or setting. Sentences that turn each other round by a negation were tried as
well: of 18 such pairs none was a contradiction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from assistant.answer.cite import Encode
from assistant.model import Kind, Passage
from assistant.text.sentences import STOPWORDS, clean, sentences, stems
from assistant.text.shape import quotable

OVERLAP = 0.75
"""share of the shorter sentence's topical words, without values, that the other must have"""
LIKE = 0.6
"""cosine of the two"""
WORDS = 3
"""topical words that a sentence must have to be about something"""

_VALUE = re.compile(r"(?<![\w.,:/-])(\d+(?:[.,]\d+)*)[ \u00a0]?(%|[A-Za-zµ]{1,12})(?!\w)")
_SETTING = re.compile(r"\b([A-Za-z]\w*[_.]\w[\w.]*)\s*=\s*(\S+)")


def values(text: str) -> dict[str, set[str]]:
    """What a sentence says of each unit and setting: "waits 2 seconds" -> {"second": {"2"}}."""
    found: dict[str, set[str]] = {}
    for number, unit in _VALUE.findall(text):
        if unit.lower() not in STOPWORDS:
            found.setdefault(unit.lower().removesuffix("s"), set()).add(number.replace(",", ""))
    for name, value in _SETTING.findall(text):
        found.setdefault(name.lower(), set()).add(value.strip("`\"'.,;"))
    return found


def otherwise(
    said: Sequence[tuple[int, str]], passages: Sequence[Passage], *, encode: Encode
) -> list[tuple[int, str]]:
    """(marker, sentence) of the documents that say otherwise than what an answer quotes of tickets.

    `said`: (marker, sentence) of the answer; markers are 1-based places in `passages`.
    """
    told = [s for m, s in said if passages[m - 1].kind is Kind.TICKET and values(s)]
    against = [
        (marker, part.readable)
        for marker, passage in enumerate(passages, 1)
        if passage.kind is Kind.DOCUMENT
        for text in [sentences(clean(passage.text))]
        for index, part in enumerate(text)
        if quotable(text, index) and values(part.readable)
    ]
    pairs = [
        (sentence, marker, other)
        for sentence in told
        for marker, other in against
        if _differ(values(sentence), values(other)) and _same_matter(sentence, other)
    ]
    if not pairs:
        return []
    rows = encode([*(sentence for sentence, _, _ in pairs), *(other for _, _, other in pairs)])
    found = {
        other: marker
        for number, (_, marker, other) in reversed(list(enumerate(pairs)))
        if float(rows[number] @ rows[len(pairs) + number]) >= LIKE
    }
    return [(marker, other) for other, marker in found.items()]


def _differ(one: dict[str, set[str]], two: dict[str, set[str]]) -> bool:
    return any(not one[unit] & two[unit] for unit in one.keys() & two.keys())


def _same_matter(one: str, two: str) -> bool:
    first, second = _topic(one), _topic(two)
    shorter = min(len(first), len(second))
    return shorter >= WORDS and len(first & second) >= OVERLAP * shorter


def _topic(sentence: str) -> set[str]:
    return set(stems(_SETTING.sub(r"\1", re.sub(r"\d\S*", " ", sentence))))
