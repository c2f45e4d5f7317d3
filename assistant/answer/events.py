"""What is told of an answer while it is made: the command line, the web, Slack and `answer` drain the same events."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.model import Answer, Citation, Passage


@dataclass(frozen=True, slots=True)
class Status:
    step: str
    """`searching`, `reading` or `answering`"""


@dataclass(frozen=True, slots=True)
class Sources:
    """What the answer may cite: marker n is the n-th."""

    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Verified text to append to what was sent before, and what it cites."""

    text: str
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    answer: Answer


Event = Status | Sources | TextDelta | Done
