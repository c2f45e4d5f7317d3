"""Block Kit: an answer with its sources and buttons, lists of tickets, messages to one person."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from assistant.model import Answer, Audience, Line, Passage
from assistant.store.history import PastTicket
from assistant.surfaces.answers import KINDS
from assistant.surfaces.api.shapes import sure
from assistant.surfaces.slack import text

Block = dict[str, Any]
MESSAGE_BLOCKS, VIEW_BLOCKS = 45, 95
"""of a message and of a view; Slack takes 50 and 100"""
PAGE = 10_000
"""characters of one message"""
NOTIFIED = 600
"""characters that a notification begins with"""
SOURCES = 8
"""shown under an answer; the others are behind «Sources»"""
VALUE = 1_900
"""characters that a button can carry; Slack takes 2,000"""

CHANNEL, PERSON = "c", "p"
"""whose answer it is: the channel's, or the asking person's own"""


@dataclass(frozen=True, slots=True)
class Of:
    """An answer as a button names it. Who may see it is not decided by this, but by whose rights it is read with."""

    owner: str
    message: int

    def __str__(self) -> str:
        return f"{self.owner}:{self.message}"

    @classmethod
    def read(cls, value: str) -> Of:
        owner, _, message = value.partition(":")
        return cls(owner, int(message))


# ── the parts ────────────────────────────────────────────────────────────────


def words(said: str) -> Block:
    return {"type": "mrkdwn", "text": said, "verbatim": True}


def label(said: str, room: int = 75) -> Block:
    return {"type": "plain_text", "text": text.short(said, room), "emoji": False}


def section(said: str) -> Block:
    """`said` is Slack's markup already."""
    return {"type": "section", "text": words(said)}


def sections(said: str) -> list[Block]:
    return [section(text.mrkdwn(piece)) for piece in text.split(said)]


def context(*said: str) -> Block:
    return {"type": "context", "elements": [words(one) for one in said[:10]]}


def header(said: str) -> Block:
    return {"type": "header", "text": label(said, 150)}


def button(said: str, action: str, value: str, *, style: str = "", confirm: str = "") -> Block:
    made: Block = {"type": "button", "text": label(said), "action_id": action, "value": value}
    if style:
        made["style"] = style
    if confirm:
        made["confirm"] = {
            "title": label("Sure?"),
            "text": {"type": "plain_text", "text": text.short(confirm, 290)},
            "confirm": label(said),
            "deny": label("Leave it"),
        }
    return made


def actions(*buttons: Block) -> Block:
    return {"type": "actions", "elements": list(buttons)}


def retry(question: str, *, private: bool) -> list[Block]:
    """A button that asks again; none where it could not carry the question."""
    value = json.dumps({"q": question, "p": int(private)}, ensure_ascii=False)
    return [actions(button("Try again", "retry", value))] if len(value) <= VALUE else []


# ── an answer ────────────────────────────────────────────────────────────────


def tail(answer: Answer, of: Of, *, shareable: bool = False, ticket: str = "") -> list[Block]:
    """What stands under an answer: its sources, how sure it is, and what can be done with it."""
    declined = answer.refusal != ""
    rows = sources(answer)
    if not declined:
        rows.append(context(f"How sure: {sure(answer.confidence)}"))
    return [*rows, actions(*_buttons(of, declined=declined, shareable=shareable, ticket=ticket))]


def _buttons(of: Of, *, declined: bool, shareable: bool, ticket: str) -> Iterable[Block]:
    value = str(of)
    person = button("I need a person", "person", value, style="primary" if declined else "")
    if declined:
        yield person
    yield button("Helpful", "up", value)
    yield button("Not helpful", "down", value)
    if not declined:
        yield button("Sources", "sources", value)
    if ticket:
        yield button("Draft a reply", "draft", text.short(ticket, VALUE))
    if not declined:
        yield person
    if of.owner == CHANNEL:
        yield button("Only for me", "private", value)
    elif shareable:
        yield button("Share with the channel", "share", value)


def sources(answer: Answer) -> list[Block]:
    """A row for each source that is cited."""
    passages = {citation.marker: citation.passage for citation in answer.citations}
    rows = [context(source(marker, passage)) for marker, passage in sorted(passages.items())]
    more = len(rows) - SOURCES
    return [*rows[:SOURCES], context(f"and {more} more")] if more > 0 else rows


def source(marker: int, passage: Passage) -> str:
    """Kind, title, date and link on one line."""
    kind = "attachment" if passage.attached else KINDS[passage.evidence]
    parts = [
        kind + (f", {passage.outcome}" if passage.outcome else ""),
        text.link(passage.title, passage.url),
    ]
    if passage.page:
        parts.append(f"page {passage.page}")
    if passage.created_at:
        parts.append(f"{passage.created_at:%Y-%m-%d}")
    if passage.audience is Audience.INTERNAL:
        parts.append("internal")
    return f"*[{marker}]* " + " · ".join(parts)


def pages(said: str, tail: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """Messages, each with its text for notifications: within Slack's limits, the tail under the last."""
    found: list[tuple[str, list[Block]]] = []
    for piece in text.split(said, PAGE) or [""]:
        found.append((text.escape(text.short(piece, NOTIFIED)), sections(piece)))
    last, blocks = found[-1]
    if len(blocks) + len(tail) <= MESSAGE_BLOCKS:
        found[-1] = (last, [*blocks, *tail])
    else:
        found.append((last, list(tail)))
    return found


# ── tickets ──────────────────────────────────────────────────────────────────


def ticket(found: PastTicket, *, lines: int = 6) -> list[Block]:
    """A ticket as it went; the first and the last lines where there are many."""
    date = f"{found.created_at:%Y-%m-%d} · " if found.created_at else ""
    again = f", reopened {found.reopened}×" if found.reopened else ""
    head = f"{date}*{text.link(found.title, found.url)}* · {text.escape(found.status)}{again}"
    told = found.lines if len(found.lines) <= lines else (*found.lines[:1], *found.lines[1 - lines :])
    said = "\n".join(_line(one) for one in told)
    return [section(head), *([context(said[: text.SECTION - 900])] if said else [])]


def _line(line: Line) -> str:
    day = f"{line.at:%m-%d} " if line.at else ""
    note = " (internal note)" if line.audience is Audience.INTERNAL else ""
    return f"{day}_{line.step.value}_ {text.escape(text.short(line.text, 240))}{note}"
