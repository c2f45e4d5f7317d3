"""A question in Slack and its answer: with whose rights, in which conversation, and what becomes of it in between.

In a channel the channel asks: its conversation belongs to it and to no person, so nobody can go on
with it elsewhere with rights of their own. Privately the person asks, and only they see the answer.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from assistant.answer.events import Done, Event, Status, TextDelta
from assistant.errors import NotThere
from assistant.model import Answer, Principal
from assistant.store import slack
from assistant.store.slack import Message
from assistant.surfaces import asking
from assistant.surfaces.answers import Runs
from assistant.surfaces.asking import Asking
from assistant.surfaces.slack import blocks, text
from assistant.surfaces.slack.blocks import CHANNEL, PERSON, Of
from assistant.surfaces.slack.place import FAILED, Where, problem
from assistant.surfaces.slack.reply import UNREACHABLE, Reply, message
from assistant.surfaces.slack.who import Who

if TYPE_CHECKING:
    from assistant.surfaces.slack.bot import Bot

SURFACE = "slack"
ALIVE_SECONDS = 5.0
"""how often whoever answers says so, and looks whether the question is still there"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Question:
    where: Where
    text: str
    private: bool = False
    """for the asking person alone, with what they may read"""
    message: Message | None = None
    """of Slack's, that it was asked with; None for a command or a click"""
    revision: int = 0
    conversation: UUID | None = None
    """that it was asked in before it was edited"""
    replaces: int | None = None
    ticket: str = ""

    @property
    def alone(self) -> bool:
        return self.private or self.where.alone


@dataclass(frozen=True, slots=True)
class Rights:
    """With what a question is asked."""

    principal: Principal
    public: bool
    """of public material alone, and without anybody's name"""
    owner: str
    customer: int | None = None
    """whom it is about, unless it says otherwise"""


class Unwanted(Exception):
    """The question was edited or deleted while it was answered."""


async def rights(bot: Bot, question: Question) -> Rights:
    """Raises what `People.find` raises."""
    where = question.where
    who = await bot.people.find(where)
    await bot.count(who.principal.id)
    settings = await bot.run(channel_settings, bot, where)
    if question.alone:
        known = settings.customer_id if who.known and not where.alone else None
        return Rights(who.principal, not who.known, PERSON, known)
    return Rights(await bot.people.channel(where, settings.audience), True, CHANNEL)


def channel_settings(bot: Bot, where: Where) -> slack.Channel:
    with bot.assistant.database.writer() as connection:
        return slack.channel(connection, where.team, where.channel)


def owner(of: Of, where: Where, who: Who) -> Principal:
    """With whose rights what is kept of an answer is read: the channel's, or those of whoever looks."""
    return who.principal if of.owner == PERSON else Principal(where.owner)


async def answer(bot: Bot, question: Question, reply: Reply) -> None:
    """Answer it, and tell whatever goes wrong to whoever asked. Never raises."""
    where = question.where
    try:
        async with bot.turn(where.team, where.channel, where.thread or where.user):
            await reply.status("searching")
            granted = await rights(bot, question)
            made = await bot.run(_begin, bot, question, granted)
            replies = await _told(bot, question, granted, made, reply)
        if question.message and not await bot.run(_end, bot, question, replies, False):
            await reply.take_back()
    except Unwanted:
        await _quietly(reply.take_back())
    except Exception as error:  # whatever it was, whoever asked is told
        said = await bot.trouble(where, error)
        if said:
            more = blocks.retry(question.text, private=question.private)
            await _quietly(reply.fail(said, more))
        # Where Slack failed nothing could be said: it is apologised for when it works again.
        if question.message and not isinstance(error, FAILED):
            await _quietly(bot.run(_end, bot, question, [], True))


async def _told(bot: Bot, question: Question, granted: Rights, made: Asking, reply: Reply) -> list[str]:
    """Show the answer as it comes; returns the messages that it became."""
    runs, said, whole = Runs(), "", None
    async for event in _events(bot, question, made):
        if isinstance(event, Status):
            await reply.status(event.step)
        elif isinstance(event, TextDelta):
            said += runs.add(event.text)
            await reply.grow(text.growing(said))
        elif isinstance(event, Done):
            whole = event.answer
    if whole is None:
        raise Unwanted
    said += runs.held
    await bot.run(_keep, bot, question, granted, made)
    shown, code = text.snippets(said)
    under = tail(question, granted, made, whole)
    try:
        replies = await reply.done(shown, under)
    except FAILED as error:
        if problem(error) not in UNREACHABLE or question.where.alone:
            raise
        log.info("slack.unreachable", error=problem(error))
        note = f"I can't post in <#{question.where.channel}> ({problem(error)}), so here is the answer:"
        await message(question.where, (note, [blocks.section(note)]))
        for page in blocks.pages(shown, under):
            await message(question.where, page)
        return []
    await _attach(question, code)
    return replies


def tail(question: Question, granted: Rights, made: Asking, whole: Answer) -> list[blocks.Block]:
    ticket = made.about.ticket or {}
    return blocks.tail(
        whole,
        Of(granted.owner, made.message),
        shareable=question.private and not question.where.alone,
        ticket=str(ticket.get("url") or ticket.get("number") or ""),
    )


async def _events(bot: Bot, question: Question, made: Asking) -> AsyncGenerator[Event]:
    """The engine's events, made in a thread; it stops when the question is not wanted any more."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue["Event | BaseException | None"]()
    over = threading.Event()

    def put(item: Event | BaseException | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def work() -> None:
        try:
            with closing(made.events()) as events:  # closed, it stores what there is
                for event in events:
                    put(event)
                    if over.is_set():
                        break
            put(None)
        except BaseException as error:
            put(error)

    loop.run_in_executor(bot.answers, work)
    checked = loop.time()
    try:
        while True:
            try:
                item = await asyncio.wait_for(queue.get(), ALIVE_SECONDS)
            except TimeoutError:
                item = ...
            if question.message and loop.time() - checked > ALIVE_SECONDS:
                checked = loop.time()
                if not await bot.run(_alive, bot, question):
                    raise Unwanted
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            if item is not ...:
                yield item
    finally:
        over.set()


def _begin(bot: Bot, question: Question, granted: Rights) -> Asking:
    where, thread = question.where, question.where.thread
    conversation, customer = question.conversation, granted.customer
    if thread and conversation is None:
        with bot.assistant.database.writer() as connection:
            conversation = slack.conversation(
                connection, where.team, where.channel, thread, granted.principal.id
            )
    if customer is not None and _says_whom(bot, question, granted, customer):
        customer = None
    made = Asking(
        bot.assistant,
        granted.principal,
        question.text,
        customer=customer,
        ticket=question.ticket,
        public=granted.public,
        nameless=granted.public,
        conversation=conversation,
        replaces=question.replaces,
        surface=SURFACE,
    )
    if question.message:
        with bot.assistant.database.writer() as connection:
            slack.stored(
                connection,
                question.message,
                revision=question.revision,
                conversation=made.conversation,
                question_id=made.question,
            )
    return made


def _says_whom(bot: Bot, question: Question, granted: Rights, customer: int) -> bool:
    """Whether the question says itself whom it is about, or the channel's customer is none for whoever asks."""
    about = asking.about(bot.assistant, granted.principal, question.text, ticket=question.ticket)
    try:
        asking.of_id(bot.assistant, granted.principal, customer)
    except NotThere:
        return True
    return bool(about.customer or about.ticket or about.others)


def _keep(bot: Bot, question: Question, granted: Rights, made: Asking) -> None:
    """What comes next in the thread goes on from this."""
    where = question.where
    if where.thread:
        with bot.assistant.database.writer() as connection:
            slack.go_on(
                connection, where.team, where.channel, where.thread, granted.principal.id, made.conversation
            )


def _alive(bot: Bot, question: Question) -> bool:
    assert question.message is not None  # noqa: S101 - whoever calls this looked
    with bot.assistant.database.writer() as connection:
        return slack.alive(connection, question.message, revision=question.revision)


def _end(bot: Bot, question: Question, replies: list[str], failed: bool) -> bool:
    assert question.message is not None  # noqa: S101 - whoever calls this looked
    with bot.assistant.database.writer() as connection:
        return slack.end(
            connection, question.message, revision=question.revision, replies=replies, failed=failed
        )


async def _attach(question: Question, code: list[str]) -> None:
    """Long code as snippets beside the answer; what is private goes into one's own messages."""
    where = question.where
    if not code:
        return
    channel, thread = where.channel, where.thread
    if question.private and not where.alone:
        opened = await where.client.conversations_open(users=where.user)
        channel, thread = str((opened["channel"] or {})["id"]), ""
    for number, piece in enumerate(code, 1):
        await where.client.files_upload_v2(
            content=piece, filename=f"snippet-{number}.txt", channel=channel, thread_ts=thread or None
        )


async def _quietly(work: object) -> None:
    """What is said last: when not even that works, there is nobody to tell."""
    try:
        await work  # type: ignore[misc] - a coroutine or a future
    except Exception as error:
        log.warning("slack.untold", error=type(error).__name__)
