"""Slack's markup: read as plain text, and written so that a source's text stays text.

What a source or a model says is never parsed: no mention of everybody, no link with another
address behind its words. So all text objects are `verbatim`, and links are made here.
"""

from __future__ import annotations

import html
import re

from assistant.text.sentences import safe_url

SECTION = 2_900
"""characters of one section; Slack takes 3,000, and escaping adds some"""
CODE = 2_000
"""characters of code in a message; longer code is attached as a snippet"""
_MARKUP = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")
_URL = re.compile(r"https?://[^\s<>|]+")
_BULLET = re.compile(r"^(\s*)- ", re.M)
_FENCE = re.compile(r"```[^\n`]*\n?(.*?)```", re.S)
_LINK = re.compile(r"\](?=\()")
_MENTION_OF_ALL = re.compile(r"(?<![\w.])@(?=(?:channel|here|everyone)\b)", re.I)


def plain(text: str, *, bot: str = "") -> str:
    """What somebody wrote, without Slack's markup; a mention of `bot` is left out."""

    def read(found: re.Match[str]) -> str:
        kind, what, label = found[1], found[2], found[3] or ""
        if kind == "@":
            return "" if what == bot else f"@{label or what}"
        if kind == "#":
            return f"#{label or what}"
        if kind == "!":
            return label
        address = what.removeprefix("mailto:")
        return address if not label or label in address else f"{label} {address}"

    return html.unescape(_MARKUP.sub(read, text)).strip()


def mentions(text: str, bot: str) -> bool:
    return bool(bot) and f"<@{bot}" in text


def escape(text: str) -> str:
    """Text that Slack shows as it is, in any place."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MENTION_OF_ALL.sub("@\u2060", text)


def mrkdwn(text: str) -> str:
    """An answer's text for a section: addresses as links, lists with bullets, nothing else parsed."""
    pieces = _URL.split(text)
    addresses = [_address(url) for url in _URL.findall(text)]
    said = [_BULLET.sub(r"\1• ", escape(piece)) for piece in pieces]
    return "".join(a + b for a, b in zip(said, [*addresses, ""], strict=True))


def markdown(text: str) -> str:
    """The same for a stream, which takes Markdown: words are no links to somewhere else."""
    return _LINK.sub("]\u2060", escape(text))


def link(title: str, url: str) -> str:
    """A title that leads to its address, if that is one to be shown."""
    words = escape(" ".join(title.split())).replace("|", "¦") or "untitled"
    return f"<{escape(safe_url(url))}|{words}>" if safe_url(url) else words


def split(text: str, room: int = SECTION) -> list[str]:
    """Pieces of at most `room` characters once escaped, cut between paragraphs, lines or words."""
    pieces: list[str] = []
    rest = text.strip()
    while rest and len(mrkdwn(rest)) > room:
        end = room
        while (length := len(mrkdwn(rest[:end]))) > room:
            end = max(1, min(end - 1, end * room // length))
        best = max(rest.rfind(mark, end // 2, end) for mark in ("\n\n", "\n", " "))
        cut = best if best > 0 else end
        pieces.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*pieces, rest] if rest else pieces


def snippets(text: str) -> tuple[str, list[str]]:
    """The text without its long pieces of code, and these."""
    long: list[str] = []

    def take(found: re.Match[str]) -> str:
        if len(found[1]) <= CODE:
            return found[0]
        long.append(found[1])
        return f"(code: snippet {len(long)})"

    return _FENCE.sub(take, text), long


def growing(text: str) -> str:
    """As much of an unfinished answer as can be shown: not a piece of code that is still being written."""
    if text.count("```") % 2:
        text = text[: text.rindex("```")]
    return snippets(text)[0].rstrip("\n")


def short(text: str, room: int) -> str:
    """On one line, cut between words."""
    text = " ".join(text.split())
    return text if len(text) <= room else text[: room - 2].rsplit(" ", 1)[0] + " …"


def _address(url: str) -> str:
    bare = url.rstrip(".,;:!?)'\"")
    end = escape(url[len(bare) :])
    return f"<{escape(bare)}>{end}" if safe_url(bare) else escape(url)
