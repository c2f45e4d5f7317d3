"""Which replies teach nothing, or what they should not."""

from __future__ import annotations

import re
from enum import StrEnum

from assistant.text.sentences import clean, sentences, stems
from assistant.text.shape import filler, without_greeting


class Reason(StrEnum):
    """Why no example was made of something."""

    THANKS = "the reply only thanks or greets"
    ASKS = "the reply asks back"
    SPAM = "spam"
    INSTRUCTIONS = "instructions to a model"
    DUPLICATE = "nearly the same question as another"
    UNSUPPORTED = "no source supports the reply"
    NOTHING_FOUND = "nothing was found for the question"
    OTHER_PART = "its customer is in another part"
    SURPLUS = "more declined questions than wanted"
    EMPTY = "no question in words"
    CONTRADICTORY = "judged good and bad"
    PRIVATE = "it rests on what not everybody may read, or on what is gone"
    NO_ROOM = "a source it cites has no room in the prompt"


QUOTED = re.compile(r"^\s*(?:>|On .{5,80} wrote:|-{3,} ?Original|Am .{5,80} schrieb|_{8,})")
"""Beginnings of lines that repeat what somebody else wrote."""
SIGNATURE = re.compile(r"^\s*(?:--\s*$|(?:kind |best |warm )?regards\b|mit freundlichen|viele gr)", re.I)
"""What follows is not the answer."""
_INSTRUCTIONS = re.compile(
    r"(?:ignore|disregard|forget|override)\b.{0,40}\b(?:instruction|prompt|rule|above|previous)|"
    r"\bsystem prompt\b|\byou are now\b|\bact as (?:an? )?(?:ai|assistant|admin|dan)\b|<\|?(?:im_start|system|inst)",
    re.I,
)
_ASKED_BACK = 0.5
"""share of a reply's sentences that are questions, from which on it is one itself"""


def written(text: str) -> str:
    """A message without what it repeats of others, and without its signature."""
    kept: list[str] = []
    for line in text.splitlines():
        if SIGNATURE.match(line) and kept:
            break
        if not QUOTED.match(line):
            kept.append(line)
    return "\n".join(kept).strip()


def instructs(text: str) -> bool:
    """Whether a text talks to a language model rather than to people."""
    return bool(_INSTRUCTIONS.search(text))


def useless(reply: str) -> Reason | None:
    """Why a reply (`written`) teaches nothing, if so."""
    if instructs(reply):
        return Reason.INSTRUCTIONS
    found = sentences(clean(reply))
    said = [without_greeting(part.readable) for part in found]
    asks = sum(text.endswith("?") for text in said)
    telling = [t for part, t in zip(found, said, strict=True) if not filler(part) and len(stems(t)) > 2]
    if asks and asks >= _ASKED_BACK * (asks + len(telling)):
        return Reason.ASKS
    return None if telling else Reason.THANKS
