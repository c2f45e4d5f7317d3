"""What an assistant should have said: sentences that the shown sources bear out, each with its marker.

The people's own wording where the sources support it, so that the desk's tone is learnt;
else the sources' sentences that come nearest to what people wrote (an extractive oracle, as
in Nallapati et al. 2017, "SummaRuNNer", section 4); else, where only the right
source is known, its sentences nearest to the question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from assistant.answer import cite, extract
from assistant.model import Passage
from assistant.text.sentences import clean, sentences, stems
from assistant.text.shape import filler, quotable, without_greeting

LINES = 5
"""sentences of an answer at most"""
SUPPORTED = 0.6
"""share of people's words that must hold for their wording to be kept"""
OVERLAP, LIKE = 0.25, 0.6
"""What the oracle's sentences must share with what people wrote: F1 of their stems, and cosine."""
PLACEHOLDERS = ("(e-mail address)", "(address)", "(number)", "(key)", "(name)", "the customer", "the user")
"""what masks put in place; an assistant is not to learn to say it"""


def target(
    question: str,
    shown: Sequence[Passage],
    references: Sequence[str],
    *,
    encode: cite.Encode,
    right: Sequence[int] = (),
) -> str:
    """The completion, one line a sentence; empty when the shown passages do not answer.

    `references`: what people answered. `right`: numbers (1-based) of the passages that are
    known to have the answer, used when nobody answered in words.
    """
    for reference in references:
        if lines := _supported(reference, shown, encode):
            return "\n".join(lines)
    for reference in references:
        if lines := _oracle(reference, shown, encode):
            return "\n".join(lines)
    if not references and right:
        return "\n".join(_quoted(question, shown, right, encode))
    return ""


def borne_out(completion: str, passage: Passage, *, encode: cite.Encode) -> bool:
    """Whether a passage supports one of the completion's sentences."""
    lines = [cite.split_markers(line)[0] for line in completion.split("\n")]
    source = cite.Source(passage.text, passage.title)
    return any(cite.support(line, source, encode=encode).holds for line in lines)


def _supported(reference: str, shown: Sequence[Passage], encode: cite.Encode) -> list[str]:
    """The reference's sentences that hold, if those are most of it."""
    said = [without_greeting(part.readable) for part in sentences(clean(reference)) if not filler(part)]
    said = [text for text in said if len(stems(text)) > 2]
    sources = [cite.Source(passage.text, passage.title) for passage in shown]
    lines: list[str] = []
    held = 0
    for text in said:
        verified = cite.verify(text, sources, encode=encode)
        if verified and not any(word in verified[0] for word in PLACEHOLDERS):
            held += len(text.split())
            lines.append(verified[0])
    enough = held >= SUPPORTED * sum(len(text.split()) for text in said)
    return lines[:LINES] if lines and enough else []


def _oracle(reference: str, shown: Sequence[Passage], encode: cite.Encode) -> list[str]:
    """The sources' sentences that together are most like the reference."""
    wanted = Counter(stems(clean(reference)))
    if not wanted:
        return []
    found: list[tuple[int, int, str, Counter[str]]] = []
    for marker, passage in enumerate(shown, 1):
        text = sentences(clean(passage.text))
        for index, part in enumerate(text):
            if quotable(text, index) and not part.text.endswith(":"):
                said = without_greeting(part.readable)
                if not any(word in said for word in PLACEHOLDERS):
                    found.append((marker, index, said, Counter(stems(said))))
    chosen: list[tuple[int, int, str, Counter[str]]] = []
    best, words = 0.0, Counter[str]()
    while found and len(chosen) < LINES - 1:
        score, place = max((_f1(words + one[3], wanted), -n) for n, one in enumerate(found))
        if score <= best + 0.02:
            break
        best = score
        words += found[-place][3]
        chosen.append(found.pop(-place))
    if best < OVERLAP:
        return []
    chosen.sort(key=lambda one: one[:2])
    rows = encode([clean(reference), " ".join(one[2] for one in chosen)])
    if float(rows[0] @ rows[1]) < LIKE:
        return []
    return [cite.with_markers(said, [marker]) for marker, _, said, _ in chosen]


def _quoted(question: str, shown: Sequence[Passage], right: Sequence[int], encode: cite.Encode) -> list[str]:
    known = [shown[marker - 1] for marker in right]
    candidates = extract.read(question, known, encode=encode)
    lines = [
        cite.with_markers(said, [right[stretch.marker - 1]])
        for stretch in extract.choose(candidates, question=question)
        for said in stretch.sentences
        if len(stems(said)) > 2  # "Yes." says nothing without the question
    ]
    return lines[:LINES]


def _f1(said: Counter[str], wanted: Counter[str]) -> float:
    common = (said & wanted).total()
    return 2 * common / (said.total() + wanted.total())
