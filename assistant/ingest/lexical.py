"""Words of a text as a lexical index keeps them, and their BM25 weights.

A document's side of BM25 (Robertson and Zaragoza 2009, "The Probabilistic
Relevance Framework") is settled when it is indexed; a question's side is its
terms' idf. The score is their dot product.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable

from assistant.text.stem import stem

K1, B = 0.9, 0.4
"""a word's presence counts for more than its repetition, and length for little; as in Anserini"""
AVERAGE_LENGTH = 65.0
"""tokens of a typical chunk; fixed, so that a chunk's weights never depend on when it was indexed"""

# Runs of letters and digits, joined by what joins error codes, settings, paths and addresses.
_WORD = re.compile(r"[^\W_]+(?:[._\-/:@+'’][^\W_]+|_+[^\W_]+)*")
_JOINT = re.compile(r"[.\-/:@+]")
_SYSTEM = ("proc/", "sys/", "dev/", "etc/", "usr/")
_PART = re.compile(r"[^\W_]+")
_APOSTROPHE = re.compile(r"['’](?:s|t|m|d|re|ve|ll)\b|(?<=n)['’]t\b")
_LONGEST = 64
_FIRST_IDEOGRAPH = "\u2e80"
# Beside function words, what tickets open and close with: it lifts BM25 alone by a fifth on them.
_STOP = frozenset(
    """a about after again all also am an and any anyone are as at be because been before being both but by can
    cannot could did do does doing don done down each few for from further get got had has have having he hello
    help her here hers hi him his how i if im in into is it its itself just ll m me more most my no nor not of on
    once only or other our ours out over own please re s same she should so some such t than thank thanks that
    the their theirs them then there these they this those through to too under until up us ve very was we were
    what when where which while who whom why will with would you your yours d""".split()  # noqa: SIM905 - 120 quotes fewer
)


def tokenise(text: str) -> list[str]:
    """Terms of `text` in order: case-folded English stems without stop words.

    What is joined by punctuation (`FS-1042`, `mail.server.default`) stays whole
    and comes in its parts as well. Scripts without spaces come as pairs of characters.
    """
    terms: list[str] = []
    for word in _WORD.findall(text.casefold()):
        if word.isalnum():
            _add(terms, word)
            continue
        if "'" in word or "’" in word:
            word = _APOSTROPHE.sub("", word)
        parts = _PART.findall(word)
        if len(parts) > 1 and len(word) <= _LONGEST:
            terms.append(word)
        for part in parts:
            _add(terms, part)
    return terms


def identifiers(text: str) -> dict[str, int]:
    """Words that name one thing, as hosts, accounts, files, keys and codes do → their term's id.

    Names of settings and paths of the operating system are none: every installation has them.
    """
    found: dict[str, int] = {}
    for word in _WORD.findall(text):
        joined = len(_JOINT.findall(word))
        if (
            any(c.isalpha() for c in word)
            and (any(c.isdigit() for c in word) or joined > 1)
            and len(word) > 3
        ):
            terms = tokenise(word)
            if terms and not word.startswith(_SYSTEM):
                found[word] = term_id(terms[0])
    return found


def _add(terms: list[str], word: str) -> None:
    if word in _STOP:
        return
    if word[0] >= _FIRST_IDEOGRAPH and len(word) > 2:
        terms += [word[i : i + 2] for i in range(len(word) - 1)]
    elif len(word) <= _LONGEST:
        terms.append(stem(word))
    else:
        terms.append(word[:_LONGEST])


def term_id(term: str) -> int:
    """A stable number from 1 to 10⁹, pgvector's limit. Of 100,000 terms five pairs share one: too few to matter."""
    return zlib.crc32(term.encode("utf-8", "replace")) % 1_000_000_000 + 1


def weights(
    tokens: Iterable[str], *, avg_length: float = AVERAGE_LENGTH, k1: float = K1, b: float = B
) -> dict[int, float]:
    """Term id → tf · (k1 + 1) / (tf + k1 · (1 − b + b · length / avg_length))."""
    counts = Counter(map(term_id, tokens))
    norm = k1 * (1 - b + b * counts.total() / avg_length)
    return {term: tf * (k1 + 1) / (tf + norm) for term, tf in counts.items()}
