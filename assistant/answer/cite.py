"""Does a sentence follow from the passage it cites? What does not is never sent as fact.

The test is lexical on purpose: it can be read, it costs microseconds and it errs
towards refusing. A sentence is supported by a stretch of at most three
consecutive sentences of one passage when

1. every hard fact in it (number, version, error code, path, address) stands there,
2. neither turns the other's sense round (a negation or an opposite on one side only), nor does it
   state as a fact what stands there as a condition ("when the disk is full"), or join a "so that" or a
   "which" to other words than it follows there,
3. enough of its topical words stand there, or fewer when embeddings agree as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from assistant.text.sentences import WORD, Sentence, clean, sentences, stems, without_bullet

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""texts -> one L2-normalised row each"""

ENOUGH = 0.7
"""Share of a sentence's topical words that must stand in the quote."""
ENOUGH_WITH_MEANING = 0.5
"""The same where the embeddings of sentence and quote agree to MEANING."""
MEANING = 0.7
WINDOW = 3
"""Sentences a quote may span."""

_MARKERS = re.compile(r"\s*\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_FACT = re.compile(
    r"https?://[^\s<>\"')\]]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?:[A-Za-z]:\\|~?/|\.{1,2}/)[\w.\\/~-]+|"
    r"\b[\w-]+(?:\.[\w-]+)+\b|\b[A-Za-z]+_\w+\b|\b[A-Z][A-Z0-9]*-\d[\w-]*\b|\b0x[0-9A-Fa-f]+\b|"
    r"\b\w*\d\w*(?:[.,:]\d+)*\b"
)
_NAME = re.compile(r"(?<=[\w,;)] )[A-ZÀ-Þ]\w{2,}")
_CLAUSE = re.compile(r"[;,]\s+(?=(?:but|and|or|so|which|while|although)\b)|\s+\(")
_NUMBERS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10
}  # fmt: skip
_NEGATING = """
    not no never without none nothing neither nor cannot nobody unable impossible isnt arent wasnt werent dont
    doesnt didnt cant couldnt wont wouldnt shouldnt hasnt havent hadnt mustnt unsupported unavailable
"""
_NEGATIONS = frozenset(_NEGATING.split())
_OPPOSITES = {
    word: pair
    for pair in (
        ("enable", "disable"), ("allow", "block"), ("increase", "decrease"), ("before", "after"),
        ("above", "below"), ("always", "never"), ("more", "less"), ("online", "offline"), ("on", "off"),
        ("lock", "unlock"), ("install", "uninstall"), ("minimum", "maximum"), ("start", "stop"),
        ("import", "export"), ("check", "uncheck"), ("select", "deselect"), ("required", "optional"),
        ("upgrade", "downgrade"), ("incoming", "outgoing"), ("free", "paid"), ("public", "private"),
    )
    for word in pair
}  # fmt: skip

_CONDITION = re.compile(r"\b(?:if|when|whenever|unless|until|once|in case)\b([^,;:.!?()\n]+)", re.IGNORECASE)
"""what follows its first word"""
_CONDITIONING = """
    if when whenever unless until once while with after before case should where only
"""
_CONDITIONAL = frozenset(_CONDITIONING.split())
_JOINT = re.compile(
    r"(\w+)\W+((?:so|because|since|which|who|whose|that|but|although|therefore|otherwise|instead|then|unless|until)"
    r"\W+\w+)"
)
"""the word before a clause that leans on what was said, and the two with which it begins"""
_ASIDE = re.compile(r"\s*\([^()]*\)")


@dataclass(frozen=True, slots=True)
class Support:
    """How well a passage bears out a sentence."""

    score: float
    """share of the sentence's topical words in the quote, 0..1"""
    quote: str
    """the stretch of the (cleaned) passage that supports it best"""
    reason: str = ""
    """empty when supported, else what is missing"""

    @property
    def holds(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Source:
    """What may be cited: a passage's raw text, read once for all sentences that are compared with it.

    Names and numbers may also stand in the document's `title`.
    """

    passage: str
    title: str = ""

    @cached_property
    def text(self) -> str:
        return clean(self.passage)

    @cached_property
    def parts(self) -> list[tuple[Sentence, set[str]]]:
        """Its sentences, and the words of each. A row says what its columns are called, too."""
        return [(part, set(stems(" ".join((part.text, *part.head))))) for part in sentences(self.text)]

    @cached_property
    def facts(self) -> set[str]:
        return facts(self._with_title)

    @cached_property
    def words(self) -> set[str]:
        return _words(self._with_title) | set(stems(self._with_title))

    @property
    def _with_title(self) -> str:
        return f"{clean(self.title)}\n{self.text}"


def split_markers(sentence: str) -> tuple[str, tuple[int, ...]]:
    """A sentence without its markers, and the markers: "So it is [1, 3]." -> ("So it is.", (1, 3))."""
    found = [int(number) for group in _MARKERS.findall(sentence) for number in re.findall(r"\d+", group)]
    return _MARKERS.sub("", sentence).strip(), tuple(dict.fromkeys(found))


def unmarked(text: str) -> list[str]:
    """The sentences of a text that no marker follows."""
    found: list[Sentence] = []
    end = 0
    for marker in _MARKERS.finditer(text):
        found += sentences(text[end : marker.start()])[:-1]
        end = marker.end()
    return [part.readable for part in (*found, *sentences(text[end:]))]


def renumbered(text: str, numbers: Mapping[int, int]) -> str:
    """A text whose marker n is `numbers[n]`. Raises `KeyError` for a marker that has no number there."""

    def instead(found: re.Match[str]) -> str:
        new = dict.fromkeys(numbers[int(number)] for number in re.findall(r"\d+", found[1]))
        return found[0].replace(found[1], ", ".join(map(str, new)))

    return _MARKERS.sub(instead, text)


def support(sentence: str, source: Source, *, encode: Encode | None = None) -> Support:
    """Whether the source supports `sentence` (without markers), and with which words."""
    sentence = without_bullet(sentence)
    wanted = set(stems(sentence))
    if not wanted:
        return Support(0.0, "", "it says nothing")
    quote, score = _best_window(wanted, source)
    if missing := (facts(sentence) - source.facts) | _strange_names(sentence, source.words):
        return Support(score, quote, f"not in the source: {', '.join(sorted(missing))}")
    if _turned(sentence, quote):
        return Support(score, quote, "the source says the opposite")
    if _unconditional(sentence, quote, wanted):
        return Support(score, quote, "the source says so of a condition")
    if _misjoined(sentence, quote):
        return Support(score, quote, "the source says so of something else")
    if score >= ENOUGH:
        return Support(score, quote)
    if encode is not None and score >= ENOUGH_WITH_MEANING:
        pair = encode([sentence, quote])
        if float(pair[0] @ pair[1]) >= MEANING:
            return Support(score, quote)
    return Support(score, quote, "too few of its words are in the source")


def verify(
    sentence: str, sources: Sequence[Source], *, encode: Encode | None = None
) -> tuple[str, tuple[tuple[int, str], ...]] | None:
    """The sentence with the markers that hold, and (marker, quote) for each; None when none does.

    The sources it cites are tried first. If none of them supports it, the one that does
    is cited instead: a small model gets the fact right more often than the number.
    """
    bare, cited = split_markers(sentence)
    bare = clean(bare).strip()
    if not bare or bare.endswith("?"):
        return None

    def tried(markers: Iterable[int]) -> list[tuple[int, Support]]:
        found = [m for m in markers if 1 <= m <= len(sources)]
        results = [(m, support(bare, sources[m - 1], encode=encode)) for m in found]
        return [(m, result) for m, result in results if result.holds]

    held = tried(cited)
    if not held:
        others = tried(m for m in range(1, len(sources) + 1) if m not in cited)
        held = sorted(others, key=lambda pair: -pair[1].score)[:1]
    if not held:
        return None
    return with_markers(bare, [m for m, _ in held]), tuple((m, result.quote) for m, result in held)


def with_markers(sentence: str, markers: Sequence[int]) -> str:
    """The sentence followed by its markers, each in its own brackets."""
    return f"{sentence} " + "".join(f"[{marker}]" for marker in markers)


def facts(text: str) -> set[str]:
    """What must be exact in a text: numbers, versions, codes, identifiers, paths, addresses, links."""
    found = {re.sub(r"^v(?=\d)", "", match.rstrip(".,:;").lower()) for match in _FACT.findall(text)}
    words = {word.lower() for word in WORD.findall(text)}
    return {fact for fact in found if fact} | {str(_NUMBERS[word]) for word in words & _NUMBERS.keys()}


def _best_window(wanted: set[str], source: Source) -> tuple[str, float]:
    """The shortest stretch of at most WINDOW sentences with the most of the wanted words."""
    parts = source.parts
    best, best_score = "", -1.0
    for first in range(len(parts)):
        held: set[str] = set()
        for last in range(first, min(first + WINDOW, len(parts))):
            held |= parts[last][1]
            score = len(wanted & held) / len(wanted) - 0.01 * (last - first)
            if score > best_score:
                best, best_score = source.text[parts[first][0].start : parts[last][0].end], score
    return best, max(best_score, 0.0)


def _turned(sentence: str, quote: str) -> bool:
    """Whether one of the two denies what the other says."""
    said, source = _words(sentence), _words(quote)
    # A denial elsewhere in a longer quote neither harms nor helps; the clause that matches best decides.
    if bool(said & _NEGATIONS) != bool(_words(_nearest(sentence, quote)) & _NEGATIONS):
        return True
    return any(
        (other := pair[1] if word == pair[0] else pair[0]) in source
        and word not in source
        and other not in said
        for word, pair in _OPPOSITES.items()
        if word in said
    )


def _unconditional(sentence: str, quote: str, wanted: set[str]) -> bool:
    """Whether it states as a fact what the quote makes a condition."""
    if _words(sentence) & _CONDITIONAL:
        return False
    conditions = (set(stems(found[1])) for found in _CONDITION.finditer(quote))
    return any(condition and condition <= wanted for condition in conditions)


def _misjoined(sentence: str, quote: str) -> bool:
    """Whether a clause that leans on the one before it leans on another one in the quote."""
    said, source = (_JOINT.findall(_ASIDE.sub("", text).lower()) for text in (sentence, quote))
    clauses = {clause for _, clause in source}
    return any(clause in clauses and (before, clause) not in source for before, clause in said)


def _nearest(sentence: str, quote: str) -> str:
    """The clause of the quote that shares most words with the sentence."""
    wanted = set(stems(sentence))
    clauses = [clause for part in sentences(quote) for clause in _CLAUSE.split(part.text)]
    return max(clauses, key=lambda clause: len(wanted & set(stems(clause))), default="")


def _strange_names(sentence: str, known: set[str]) -> set[str]:
    """Capitalised words inside the sentence that are not known: names of something else."""
    inner = {match.lower() for match in _NAME.findall(sentence)}
    return {name for name in inner if name not in known and not set(stems(name)) <= known}


def _words(text: str) -> set[str]:
    return {word.lower().replace("’", "").replace("'", "") for word in WORD.findall(text)}
