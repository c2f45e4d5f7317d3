"""What happened in a ticket, line by line: made when it is indexed, so that a history costs no reading.

Nothing is rephrased. Of each message the sentences that tell most are kept: of the first
what is wrong, of an agent's what to do, of a customer's what came of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.model import Audience, Line, Section, Step
from assistant.text.sentences import Sentence, clean, sentences
from assistant.text.shape import CODE, filler, quotable, without_greeting

PROBLEM, DONE, REPLY = 240, 200, 120
"""characters of a line: what is wrong, what was tried or helped, what a customer said of it"""
LINES = 40
"""of one ticket, its first and its last ones"""
CODES = 12

_CODE = re.compile(
    r"\b(?:(?!(?:UTF|ISO|SHA|RFC|AES|TLS|SSL|IPV|USB|WIN|MD|RSA)\b)[A-Z]{2,10}-\d{2,6}|0x[0-9A-Fa-f]{4,8}"
    r"|(?:[A-Z][A-Z0-9]{2,}_)+[A-Z0-9]{3,})\b"
)
"""FS-1042, 0x80070005, NS_ERROR_NET_RESET"""
_DO = re.compile(
    r"(?:please |then |first |now |and )*(?:add|allow|change|check|choose|clear|click|close|copy|create|delete|disable"
    r"|download|edit|enable|go|install|look|move|open|paste|pin|put|raise|remove|rename|replace|restart|restore|roll"
    r"|run|select|send|set|start|stop|switch|try|turn|uncheck|uninstall|update|upgrade|use)\b",
    re.I,
)
"""Beginnings of instructions."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A ticket's lines in the order of its messages, and the error codes that it names."""

    lines: tuple[Line, ...] = ()
    codes: tuple[str, ...] = ()


def digest(title: str, sections: Sequence[Section]) -> Digest:
    """A ticket's digest; `sections` are its messages, in order."""
    lines: list[Line] = []
    codes: dict[str, None] = dict.fromkeys(error_codes(title))
    asked = False
    for section in sections:
        text = clean(section.text)
        if section.audience is Audience.PUBLIC and section.access is None:
            codes |= dict.fromkeys(error_codes(text))
        step = _step(section, asked)
        asked = asked or step is Step.PROBLEM
        if said := _gist(text, step):
            lines.append(Line(step, said, section.created_at, section.role, section.audience, section.access))
    if len(lines) > LINES:
        lines = lines[: LINES // 2] + lines[-LINES // 2 :]
    return Digest(tuple(lines), tuple(codes)[:CODES])


def error_codes(text: str) -> tuple[str, ...]:
    """Those that a text names, in order."""
    return tuple(_CODE.findall(text))


def _step(section: Section, asked: bool) -> Step:
    if section.is_solution:
        return Step.SOLUTION
    if section.role == "agent":
        return Step.TRIED
    return Step.REPLY if asked else Step.PROBLEM


def _gist(text: str, step: Step) -> str:
    """The one or two neighbouring sentences that tell most, or nothing."""
    found = sentences(text)
    if step is Step.REPLY:
        said = next((s for s in found if len(without_greeting(s.readable)) > 3), None)
        return _short(without_greeting(said.readable), REPLY) if said else ""
    worth = [i for i in range(len(found)) if quotable(found, i)]
    if not worth:
        worth = [i for i, s in enumerate(found) if not filler(s)]
    if not worth:
        return ""
    room = PROBLEM if step is Step.PROBLEM else DONE
    best = worth[0] if step is Step.PROBLEM else max(worth, key=lambda i: (_tells(found[i]), -i))
    said = without_greeting(found[best].readable)
    following = best + 1
    if following in worth and len(said) + len(found[following].readable) < room:
        said = f"{said} {found[following].readable}"
    return _short(said, room)


def _tells(sentence: Sentence) -> int:
    said = without_greeting(sentence.readable)
    return 2 * bool(_DO.match(said)) + bool(CODE.search(said)) + sentence.step


def _short(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    return text[:room].rsplit(" ", 1)[0].rstrip(",;:") + " …"
