"""What a sentence is where it stands: an answer, a greeting, a scrap, the end of the sentence before.

Tickets are letters. What two people say to each other before and after the matter is
no part of an answer, and a line of code is none without the sentence that leads to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from assistant.text.sentences import Sentence, stems

WRAPPED = 50
"""Characters of a line that was broken because it was full."""
CODE = re.compile(
    r"`[^`]+`|\b\w+_\w+|(?<!\w)--\w+|\w+\.(?:toml|ini|conf|json|yaml|yml)\b|\w = \S|^\[\w[\w.-]*\](?=\s|$)"
)
_SALUTATION = re.compile(
    r"(?i:hi|hello|hey|dear|hallo|moin|good (?:morning|afternoon|evening))\b(?: (?:all|everyone|there|team|"
    r"(?:(?:Mr|Mrs|Ms|Dr)\.? )?[A-ZÀ-Þ][\w’'-]*(?: [A-ZÀ-Þ][\w’'-]*)?(?: people| folks| team)?))?\s*(?:[,:!.]+\s*|$)"
)
_LEAD = re.compile(r"(?:yes|really|sure|right|well|ok|okay|don['’]t panic)[:,] +", re.I)
"""Answers what somebody else asked."""
_FURNITURE = re.compile(r"[^.!?]{0,80}\bpage \d{1,4} (?:\d{1,2} )?(?=[A-Z])")
"""The foot of a printed page, and the number of a step after it."""
_CHATTER = re.compile(
    r"(?:many )?thanks\b(?! to )|thank you\b|cheers\b|(?:kind |best |warm )?regards\b|sorry\b|glad\b|welcome back\b|"
    r"good (?:question|point|catch|luck|idea|to (?:hear|know))\b|(?:good|great|perfect|done|agreed|ok|okay|fine)\W*$|"
    r"agreed\b|will do\b|you(?:'|’)re welcome\b|no problem\b|"
    r"(?:I|we)(?:'|’)?(?:ve| have) (?:passed|noted|forwarded|told)\b|"
    r"(?:I|we)(?:'|’)?(?:ll| will)? (?:keep (?:this|the|it)|let you know|look into)\b|(?:I|we)(?:'|’)m on it\b|"
    r"let (?:me|us) know\b|(?:there|here) it is\b|(?:I )?hope (?:this|that)\b|[:;]-?\)\W*",
    re.I,
)
"""Beginnings of what is said for politeness."""
_NOISE = re.compile(
    r"(?:[A-Z][a-z]{2} +\d+ +)?\d\d:\d\d:\d\d\b|\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\s*at [\w.$]+\(|Traceback |"
    r"(?:Subject|From|To|Cc|Date|Sent): |.{0,60}\bLast updated: |[{}\[\]]\s*$"
)
"""Beginnings of lines of logs, traces and mail headers."""
_OPEN = re.compile(r"(?::|[^\W\d_]|,)$")
"""Goes on in the next line."""
_LOWER = re.compile(r"[a-zß-ÿ(),;]")
_LEANING = re.compile(r"(?:otherwise|but|and|or|then|so|also|it|they|this|that|these|those|he|she)\b", re.I)
"""Beginnings that say nothing without the sentence before."""


def quotable(text: Sequence[Sentence], index: int) -> bool:
    """Not a heading, a question, a greeting, a line of a log, or a scrap."""
    sentence = text[index]
    if sentence.cells:
        return sentence.cells != sentence.head and sum(map(bool, sentence.cells)) > 1
    if introduces(text, index):
        return bool(stems(sentence.text))
    if filler(sentence):
        return False
    said = without_greeting(sentence.text)
    ends = sentence.step or bool(re.search(r"[.!:;][\"”)]*$", said))
    return len(stems(said)) >= (3 if ends else 6)


def filler(sentence: Sentence) -> bool:
    """A greeting, a thank-you, a question or a line of a log: never part of an answer."""
    if sentence.cells:
        return False
    said = without_greeting(sentence.text)
    return not said or said.endswith("?") or bool(_NOISE.match(said) or _CHATTER.match(said))


def without_greeting(said: str) -> str:
    """A sentence without the "Hi Ana," before it."""
    rest = said
    for front in (_FURNITURE, _SALUTATION, _LEAD):
        rest = rest[found.end() :] if (found := front.match(rest)) else rest
    if rest == said or CODE.search(" ".join(rest.split()[:4])):
        return rest
    return rest[:1].upper() + rest[1:]


def introduces(text: Sequence[Sentence], index: int) -> bool:
    """Whether a line ends in a colon and a list follows it."""
    return text[index].text.endswith(":") and index + 1 < len(text) and text[index + 1].step


def continues(text: Sequence[Sentence], index: int) -> bool:
    """Whether a sentence goes on with the one before it, or is code which that one leads to."""
    sentence, before = text[index], text[index - 1] if index else None
    if sentence.step or sentence.cells or (before and before.cells):
        return False
    if before and before.text.endswith(":"):
        return True
    if (
        before
        and _OPEN.search(before.text)
        and (before.block == sentence.block or not is_heading(text, index - 1))
    ):
        return True
    return bool(_LOWER.match(sentence.text)) or is_code(sentence)


def cut(first: Sentence) -> bool:
    """Whether the first sentence of a document's chunk has its beginning in the chunk before."""
    return bool(_LOWER.match(first.text)) and not CODE.search(" ".join(first.text.split()[:4]))


def is_code(sentence: Sentence) -> bool:
    """A line of a configuration or a command rather than prose."""
    return not sentence.step and bool(CODE.search(sentence.text)) and sentence.text[-1:] not in ".!?:"


def in_lines(sentence: Sentence) -> str:
    """Readable, with the line breaks before and within code."""
    if sentence.cells or "\n" not in sentence.text:
        return sentence.readable
    lines = [" ".join(line.split()) for line in sentence.text.split("\n") if line.strip()]
    shown = lines[0]
    for before, line in pairwise(lines):
        code = before.endswith(":") or (CODE.search(before) and CODE.search(line))
        shown += ("\n" if code else " ") + line
    return shown


def leans(sentence: Sentence) -> bool:
    """Whether a whole sentence says nothing without the one before it: "Otherwise it stops." """
    return not sentence.step and bool(_LEANING.match(sentence.text))


def is_heading(text: Sequence[Sentence], index: int) -> bool:
    line = text[index]
    alone = sum(other.block == line.block for other in text[max(0, index - 1) : index + 2]) == 1
    if index + 1 < len(text) and len(line.text) > WRAPPED and text[index + 1].start == line.end + 1:
        return False
    return alone and len(line.text) < 80 and line.text[-1].isalnum() and not line.cells and not line.step


def headings(text: Sequence[Sentence]) -> list[str]:
    """For each sentence the nearest line above it that is a heading, or nothing."""
    above, nearest = list[str](), ""
    for index, line in enumerate(text):
        above.append(nearest)
        if is_heading(text, index):
            nearest = line.text
    return above
