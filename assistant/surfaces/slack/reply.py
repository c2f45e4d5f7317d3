"""How an answer comes into Slack: streamed, posted and edited, or whispered to one person.

What is told only grows, since each sentence was verified before. Where a stream is refused or breaks off,
its message, or a new one, is edited at the rate that Slack allows; what the reader saw stays.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import structlog
from slack_sdk.webhook.async_client import AsyncWebhookClient

from assistant.surfaces.slack import blocks, text
from assistant.surfaces.slack.blocks import Block
from assistant.surfaces.slack.place import FAILED, Pace, Where, problem

STATUS = {"searching": "is searching …", "reading": "is reading …", "answering": "is writing …"}
EDITED_SECONDS, APPENDED_SECONDS = 1.2, 0.7
"""between two edits of a message, and between two pieces of a stream"""
STREAM = blocks.PAGE
"""characters of one streamed message; what is longer goes on in further ones"""
WHISPERS = 3
"""messages by one response address at most; Slack takes five"""
UNREACHABLE = (
    "is_archived", "channel_not_found", "not_in_channel", "restricted_action", "restricted_action_read_only_channel",
)  # fmt: skip
"""what Slack says where nothing can be posted"""

log = structlog.get_logger()
Told = tuple[str, Sequence[Block]]
"""the text for notifications, and the blocks"""


class Reply(Protocol):
    """One answer's place. `done` and `fail` raise what `FAILED` lists where not even the last resort worked."""

    async def status(self, step: str) -> None:
        """What is being done, before there is anything to read."""
        ...

    async def grow(self, said: str) -> None:
        """All that there is so far; shown as soon and as often as may be."""
        ...

    async def done(self, said: str, tail: Sequence[Block]) -> list[str]:
        """The whole answer; returns the messages that it became, as far as they can be edited later."""
        ...

    async def fail(self, said: str, more: Sequence[Block]) -> None:
        """Say, to whoever asked, why there is no answer."""
        ...

    async def take_back(self) -> None:
        """The question is gone, or another one: so is what was said."""
        ...


class _As(StrEnum):
    """What a public reply is by now."""

    NOTHING = "nothing"
    STREAM = "stream"
    BROKEN = "broken"
    """a stream that takes no more"""
    MESSAGE = "message"


class Public:
    """Streamed where Slack allows it, else posted and edited: in a thread, for all who see it.

    `ts`: a message of ours that is edited instead of posting a new one.
    """

    def __init__(self, where: Where, pace: Pace, *, ts: str = "") -> None:
        self._where = where
        self._pace = pace
        self._as = _As.MESSAGE if ts else _As.NOTHING
        self._ts = ts
        self._sent = 0
        self._at = 0.0
        self._replies: list[str] = [ts] if ts else []

    async def status(self, step: str) -> None:
        if self._as is not _As.NOTHING or not self._where.thread:
            return
        try:
            await self._where.client.assistant_threads_setStatus(
                channel_id=self._where.channel,
                thread_ts=self._where.thread,
                status=STATUS.get(step, STATUS["searching"]),
            )
        except FAILED as error:  # a courtesy, and not every plan has it
            log.debug("slack.status", error=problem(error))
            await self._try(("Searching …", [blocks.context("_Searching …_")]))

    async def grow(self, said: str) -> None:
        if not said or self._as is _As.BROKEN:
            return
        if self._as in (_As.NOTHING, _As.STREAM) and self._where.thread:
            if self._as is _As.NOTHING or time.monotonic() - self._at > APPENDED_SECONDS:
                await self._stream(said[:STREAM])
            return
        if len(said) <= STREAM and time.monotonic() - self._at > EDITED_SECONDS:
            await self._try((text.escape(text.short(said, 300)), blocks.sections(said)))

    async def done(self, said: str, tail: Sequence[Block]) -> list[str]:
        rest = said[STREAM:]
        if self._as in (_As.STREAM, _As.BROKEN) and await self._end(said[:STREAM], () if rest else tail):
            for page in blocks.pages(rest, tail) if rest else ():
                await self._post(page)
            return self._replies
        first, *others = blocks.pages(said, tail)
        await self._show(first)
        for page in others:
            await self._post(page)
        return self._replies

    async def fail(self, said: str, more: Sequence[Block]) -> None:
        page = (text.escape(said), [blocks.section(text.mrkdwn(said)), *more])
        if self._as in (_As.STREAM, _As.BROKEN) and await self._end("", page[1]):
            return
        if self._ts:
            await self._edit(page)
        elif self._where.alone:
            await self._post(page)
        else:
            await whisper(self._where, page)

    async def take_back(self) -> None:
        for ts in self._replies:
            try:
                await self._where.client.chat_delete(channel=self._where.channel, ts=ts)
            except FAILED as error:  # it may be gone already
                log.info("slack.take_back", error=problem(error))
        self._as, self._ts, self._replies = _As.NOTHING, "", []

    async def _stream(self, said: str) -> None:
        """Send what is new. Where no stream can be begun, messages are edited from then on."""
        new = text.markdown(said[self._sent :])
        if not new:
            return
        where, client = self._where, self._where.client
        try:
            if self._as is _As.STREAM:
                await client.chat_appendStream(channel=where.channel, ts=self._ts, markdown_text=new)
            else:
                started = await client.chat_startStream(
                    channel=where.channel,
                    thread_ts=where.thread,
                    markdown_text=new,
                    recipient_team_id=where.team,
                    recipient_user_id=where.user,
                )
                self._as, self._ts = _As.STREAM, str(started["ts"])
                self._replies.append(self._ts)
            self._sent, self._at = len(said), time.monotonic()
        except FAILED as error:
            log.info("slack.stream", error=problem(error))
            self._as = _As.BROKEN if self._as is _As.STREAM else _As.MESSAGE
            await self.grow(said)

    async def _end(self, said: str, tail: Sequence[Block]) -> bool:
        """End the stream with what is left of the text and the blocks under it; False when it is over already."""
        rest = text.markdown(said[self._sent :])
        try:
            await self._where.client.chat_stopStream(
                channel=self._where.channel,
                ts=self._ts,
                markdown_text=rest or None,
                blocks=list(tail)[: blocks.MESSAGE_BLOCKS],
            )
        except FAILED as error:
            log.info("slack.stream", error=problem(error))
            return False
        return True

    async def _try(self, page: Told) -> None:
        """Show what is there so far; if it can't be, the whole answer is still to come."""
        try:
            await self._show(page)
        except FAILED as error:
            log.info("slack.grow", error=problem(error))
            self._at = time.monotonic()

    async def _show(self, page: Told) -> None:
        await (self._edit(page) if self._ts else self._post(page))

    async def _post(self, page: Told) -> None:
        async with self._pace.turn(self._where):
            made = await self._where.client.chat_postMessage(
                channel=self._where.channel,
                thread_ts=self._where.thread or None,
                text=page[0],
                blocks=list(page[1]),
                unfurl_links=False,
                unfurl_media=False,
            )
        self._replies.append(str(made["ts"]))
        if not self._ts:
            self._as, self._ts = _As.MESSAGE, str(made["ts"])
        self._at = time.monotonic()

    async def _edit(self, page: Told) -> None:
        async with self._pace.turn(self._where):
            await self._where.client.chat_update(
                channel=self._where.channel, ts=self._ts, text=page[0], blocks=list(page[1])
            )
        self._at = time.monotonic()


class Whispered:
    """To one person in a channel, whole: what only they see can't be edited later."""

    def __init__(self, where: Where) -> None:
        self._where = where

    async def status(self, step: str) -> None:
        """The acknowledgement of a command or click has said it."""

    async def grow(self, said: str) -> None:
        """It comes whole."""

    async def done(self, said: str, tail: Sequence[Block]) -> list[str]:
        pages = blocks.pages(said, tail)
        if len(pages) > WHISPERS:
            note = "The answer is long: it is in your messages with me."
            await whisper(self._where, (note, [blocks.section(note)]))
        for page in pages:
            await (message if len(pages) > WHISPERS else whisper)(self._where, page)
        return []

    async def fail(self, said: str, more: Sequence[Block]) -> None:
        await whisper(self._where, (text.escape(said), [blocks.section(text.mrkdwn(said)), *more]))

    async def take_back(self) -> None:
        """Nobody else saw it."""


async def whisper(where: Where, page: Told) -> None:
    """A message that only `where.user` sees: by the response address, else in the channel, else in their messages."""
    if where.response_url and await _respond(where, page):
        return
    if not where.alone:
        try:
            await where.client.chat_postEphemeral(
                channel=where.channel,
                user=where.user,
                text=page[0],
                blocks=list(page[1]),
                thread_ts=where.thread or None,
            )
        except FAILED as error:
            log.info("slack.whisper", error=problem(error))
        else:
            return
    await message(where, page)


async def _respond(where: Where, page: Told) -> bool:
    """By the address that came with a command or click; False when that takes nothing any more."""
    thread = {"thread_ts": where.thread} if where.thread else {}
    said = {
        "response_type": "ephemeral",
        "replace_original": False,
        "text": page[0],
        "blocks": list(page[1]),
    }
    try:
        answer = await AsyncWebhookClient(where.response_url).send_dict({**said, **thread})
    except FAILED as error:
        log.info("slack.response", error=problem(error))
        return False
    if answer.status_code != 200:
        log.info("slack.response", status=answer.status_code)
    return answer.status_code == 200


async def message(where: Where, page: Told) -> None:
    """A direct message to `where.user`, for whatever can't be said in a channel."""
    opened = await where.client.conversations_open(users=where.user)
    await where.client.chat_postMessage(
        channel=(opened["channel"] or {})["id"],
        text=page[0],
        blocks=list(page[1]),
        unfurl_links=False,
        unfurl_media=False,
    )
