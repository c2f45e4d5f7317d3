"""What happened in a thread: its own words, line by line, for somebody who may read them anyhow.

Nothing is rephrased and nothing kept. A thread is read like a ticket: who began it asks, the others try.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assistant.errors import ConfigError, NotThere
from assistant.ingest.digest import digest
from assistant.model import Section
from assistant.surfaces import drafting
from assistant.surfaces.slack import blocks, text
from assistant.surfaces.slack.blocks import Block
from assistant.surfaces.slack.place import FAILED, Where, problem
from assistant.surfaces.slack.who import Who

if TYPE_CHECKING:
    from assistant.surfaces.slack.bot import Bot

MESSAGES = 200
"""of a thread that are read"""
LINK = re.compile(r"/archives/([CDG][A-Z0-9]+)/p(\d{10})(\d{6})(?:\?\S*?thread_ts=(\d+\.\d+))?")
Page = tuple[str, list[Block]]
Said = Mapping[str, Any]


async def of(bot: Bot, where: Where, who: Who, said: str) -> Page:
    """A thread by a link to one of its messages, or a ticket."""
    if not said:
        raise ConfigError("Say what to summarise: a link to a message of the thread, or a ticket's number.")
    link = LINK.search(said)
    if link:
        channel, ts = link[1], link[4] or f"{link[2]}.{link[3]}"
        if channel != where.channel and not await bot.people.member(where, channel):
            raise NotThere("You are not in that channel, or I am not. Nothing was read.")
        return await thread(where, channel, ts)
    if not who.known:
        raise NotThere("Tickets are shown to people that Deskhand knows. Nothing was looked up.")
    found = (await bot.run(drafting.ticket, bot.assistant, who.principal, said)).past
    return found.title, blocks.ticket(found, lines=20)


async def thread(where: Where, channel: str, ts: str) -> Page:
    """Raises `NotThere` where the thread can't be read."""
    try:
        answer = await where.client.conversations_replies(channel=channel, ts=ts, limit=MESSAGES)
    except FAILED as error:
        raise NotThere(
            f"I could not read that thread ({problem(error)}). Invite me to its channel, then try again."
        ) from error
    messages: list[Said] = [one for one in answer["messages"] or [] if one.get("text")]
    if not messages:
        raise NotThere("There is nothing to read in that thread.")
    lines = told(messages, where.workspace.bot_user)
    title = text.short(text.plain(str(messages[0]["text"])), 100)
    note = f"{len(messages)} message(s); their own words"
    return f"Summary: {title}", [blocks.section(f"*{text.escape(title)}*"), *lines, blocks.context(note)]


def told(messages: Sequence[Said], bot_user: str) -> list[Block]:
    """A line or two of each message that tells something."""
    first = messages[0].get("user")
    people = [one for one in messages if one.get("user") != bot_user]
    sections = [
        Section(
            text.plain(str(one["text"]), bot=bot_user),
            author=str(one.get("user") or ""),
            role="customer" if one.get("user") == first else "agent",
            created_at=dt.datetime.fromtimestamp(float(one["ts"]), dt.UTC),
        )
        for one in people
    ]
    found = digest("", sections)
    by_time = {section.created_at: section.author for section in sections}
    made = [
        blocks.section(
            f"{line.at:%m-%d %H:%M} <@{by_time[line.at]}>: {text.mrkdwn(line.text)}"
            if line.at and by_time.get(line.at)
            else text.mrkdwn(line.text)
        )
        for line in found.lines
    ]
    return made[: blocks.MESSAGE_BLOCKS - 3] or [
        blocks.section("Nothing in it tells more than its first words.")
    ]
