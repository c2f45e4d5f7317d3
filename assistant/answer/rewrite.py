"""A follow-up as a question that can be searched by itself.

A small model rewrites badly, so by rule: when the question leans on what was said
before, the topical words of the last turns are carried over. A larger model is
asked instead (`prompt.condensing`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from assistant.errors import QuestionRejected
from assistant.model import Turn
from assistant.text.sentences import STOPWORDS, WORD, stems

CARRIED = 10
"""Words taken over at most."""
SHORT = 20
"""Words: a longer question stands by itself."""

_LEANS = re.compile(
    r"^\W*(and|but|so|or|also|then|ok(ay)?|what about|how about|what if|why( not)?\W*$|which one)\b|"
    r"\b(it|its|that|this|these|those|they|them|their|he|she|one|ones|same|there|above|former|latter|else|instead|"
    r"again|another|other)\b",
    re.I,
)


def checked(question: str, most: int) -> str:
    """The question without what surrounds it. Raises `QuestionRejected` for none, or more than `most` characters."""
    question = question.strip()
    if not any(character.isalnum() for character in question):
        raise QuestionRejected("There was no question. Nothing was sent; write one and ask again.")
    if len(question) > most:
        raise QuestionRejected(
            f"The question has {len(question):,} characters and at most {most:,} are read. Nothing was sent; "
            "shorten it and ask again."
        )
    return question


def leans(question: str) -> bool:
    """Whether a question is too elliptical to be searched without what was said before it."""
    if len(WORD.findall(question)) > SHORT:
        return False
    return len(set(stems(question))) < 3 or bool(_LEANS.search(question))


def carry_over(question: str, history: Sequence[Turn]) -> str:
    """The question, followed by the topical words of the conversation where it needs them.

    The user's last turns come first, newest first; the words of the question itself are not repeated.
    """
    if not history or not leans(question):
        return question
    known = set(stems(question))
    carried: list[str] = []
    for turn in [turn for turn in reversed(history) if turn.role == "user"][:2]:
        for word in WORD.findall(turn.content):
            if word.lower().replace("'", "") in STOPWORDS or set(stems(word)) <= known:
                continue
            known |= set(stems(word))
            carried.append(word)
    return f"{question} ({' '.join(carried[:CARRIED])})" if carried else question
