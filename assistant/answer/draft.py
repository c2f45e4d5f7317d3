"""A reply to a ticket, to be read and sent by an agent: only of what a customer may be told.

That is not left to the wording: it is asked with the public audience, so internal notes
and internal documents are out of reach, and of other customers only what helped them is
there, without names.
"""

from __future__ import annotations

from dataclasses import dataclass

from assistant.answer import cite
from assistant.answer.engine import DeskQueryEngine
from assistant.model import Answer

LETTERS = {
    "de": ("Hallo {name},", "Hallo,", "Viele Grüße"),
    "en": ("Hi {name},", "Hello,", "Kind regards"),
}
"""by language: greeting with and without a name, and the end"""
LONGEST = 4_000
"""characters of a ticket that are searched with"""


@dataclass(frozen=True, slots=True)
class Draft:
    """`text` is empty when the sources have no answer; `answer` has the sources either way."""

    text: str
    answer: Answer


def draft(
    engine: DeskQueryEngine, *, title: str, asked: str, requester: str = "", language: str = ""
) -> Draft:
    """A reply to what was `asked`, with `engine` made for the public audience.

    Raises `QuestionRejected` for a ticket without words.
    """
    answer = engine.answer(f"{title}\n\n{asked}"[:LONGEST])
    if answer.refusal:
        return Draft("", answer)
    named, nameless, end = LETTERS.get(language[:2], LETTERS["en"])
    first = requester.split()[0] if requester and "@" not in requester else ""
    hello = named.format(name=first) if first else nameless
    body, _ = cite.split_markers(answer.text)
    return Draft(f"{hello}\n\n{body.strip()}\n\n{end}", answer)
