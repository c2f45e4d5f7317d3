"""What people say where Deskhand is: mentions, direct messages, follow-ups, edits, deletions; who comes and goes.

A message is answered once, by whoever inserts its row, however many deliveries of however many kinds
of events it comes with. What bots say is never answered.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.async_context import AsyncBoltContext

from assistant.errors import DeskhandError
from assistant.model import Answer, Audience, Principal
from assistant.retrieve.scope import Scope
from assistant.store import conversations, slack
from assistant.store.db import Row
from assistant.store.slack import Message
from assistant.surfaces.asking import title
from assistant.surfaces.slack import blocks, questions, text
from assistant.surfaces.slack.blocks import CHANNEL, Of
from assistant.surfaces.slack.commands import HELP
from assistant.surfaces.slack.place import FAILED, Where, place, problem
from assistant.surfaces.slack.questions import SURFACE, Question
from assistant.surfaces.slack.reply import Public, whisper

if TYPE_CHECKING:
    from assistant.surfaces.slack.bot import Bot

PEOPLES = (None, "file_share", "thread_broadcast")
"""subtypes of messages that people write"""
HELPS = ("", "help", "hilfe", "?")

log = structlog.get_logger()
Event = Mapping[str, Any]


def register(app: AsyncApp, bot: Bot) -> None:
    @app.event("app_mention")
    async def mentioned(context: AsyncBoltContext, event: Event, body: Event) -> None:
        if by_person(event, context.bot_user_id or ""):
            bot.spawn(asked(bot, place(context, body), event))

    @app.event("message")
    async def said(context: AsyncBoltContext, event: Event, body: Event) -> None:
        where = place(context, body)
        subtype = event.get("subtype")
        if subtype in ("message_changed", "message_deleted"):
            bot.spawn(changed(bot, where, event))
        elif subtype in PEOPLES and by_person(event, where.workspace.bot_user):
            if where.alone or text.mentions(event.get("text") or "", where.workspace.bot_user):
                bot.spawn(asked(bot, where, event))
            else:
                bot.spawn(overheard(bot, where, event))

    @app.event("member_joined_channel")
    @app.event("member_left_channel")
    async def came_or_went(context: AsyncBoltContext, event: Event) -> None:
        bot.people.forget_members(context.team_id or "", event["channel"])

    @app.event("user_change")
    async def other(context: AsyncBoltContext, event: Event) -> None:
        bot.people.forget_user(context.team_id or "", event["user"]["id"])

    @app.event("app_uninstalled")
    @app.event("tokens_revoked")
    async def revoked(event: Event, body: Event) -> None:
        if event["type"] == "app_uninstalled" or (event.get("tokens") or {}).get("bot"):
            await bot.workspaces.remove(str(body.get("team_id") or ""))

    _ = mentioned, said, came_or_went, other, revoked


def by_person(event: Event, bot_user: str) -> bool:
    """Not by any bot, this one included: two that answer each other would never end."""
    user = event.get("user")
    return bool(user) and user not in (bot_user, "USLACKBOT") and not event.get("bot_id")


async def asked(bot: Bot, where: Where, event: Event) -> None:
    """A question put to Deskhand; in a channel it is answered in the message's thread."""
    message = Message(where.team, where.channel, event["ts"])
    where = where.in_thread(event.get("thread_ts") or event["ts"])
    question = text.plain(event.get("text") or "", bot=where.workspace.bot_user)
    if question.lower() in HELPS:
        if await _first(bot, where, f"help:{where.channel}:{message.ts}"):
            await whisper(where, HELP) if not where.alone else await _post(where, HELP)
        return
    reply = Public(where, bot.pace)
    try:
        if not await bot.run(_claim, bot, message, where):
            return
    except DeskhandError as error:
        try:
            await reply.fail(await bot.trouble(where, error), blocks.retry(question, private=False))
        except FAILED as untold:
            log.warning("slack.untold", error=problem(untold))
        return
    await questions.answer(bot, Question(where, question, message=message), reply)


async def overheard(bot: Bot, where: Where, event: Event) -> None:
    """Not put to Deskhand: perhaps a follow-up of whoever asked last, or a question where it answers unasked."""
    said = text.plain(event.get("text") or "")
    if "?" not in said:
        return
    try:
        if where.thread:
            if await bot.run(_asked_last, bot, where) == where.user:
                await asked(bot, where, event)
        else:
            await _unasked(bot, where, event, said)
    except Exception as error:  # nobody asked, so nobody is told
        await bot.trouble(where, error)


async def _unasked(bot: Bot, where: Where, event: Event, said: str) -> None:
    """Answer only what is sure enough, and say nothing of what is not."""
    settings = await bot.run(questions.channel_settings, bot, where)
    if not settings.auto or settings.quiet(dt.datetime.now(dt.UTC)):
        return
    message = Message(where.team, where.channel, event["ts"])
    where = where.in_thread(event["ts"])
    if not await bot.run(_claim, bot, message, where):
        return
    principal = await bot.people.channel(where, settings.audience)
    found = await bot.run(_quietly_answered, bot, principal, said, settings.floor)
    if found is None:
        await bot.run(_ended, bot, message, [])
        return
    answer, of = found
    replies = await Public(where, bot.pace).done(answer.text, blocks.tail(answer, of))
    await bot.run(_ended, bot, message, replies)


def _quietly_answered(bot: Bot, principal: Principal, said: str, floor: float) -> tuple[Answer, Of] | None:
    """The answer, kept as any other; None when it is not sure enough, of which nothing is kept."""
    assistant = bot.assistant
    answer = assistant.engine(Scope(principal, Audience.PUBLIC, customer=())).answer(said)
    if answer.refusal or answer.confidence < floor:
        return None
    vector = assistant.vector(answer.question)
    with assistant.database.reader(principal, Audience.PUBLIC) as connection:
        talk = conversations.start(connection, title=title(said), surface=SURFACE)
        return answer, Of(CHANNEL, conversations.record(connection, talk, said, answer, vector=vector))


async def changed(bot: Bot, where: Where, event: Event) -> None:
    """A question that was edited is answered anew, in the same place; the answer of a deleted one goes."""
    before: Event = event.get("previous_message") or {}
    now: Event = event.get("message") or {}
    deleted = event["subtype"] == "message_deleted" or now.get("subtype") == "tombstone"
    if not deleted and (
        not by_person(now, where.workspace.bot_user) or now.get("text") == before.get("text")
    ):
        return
    ts = str(event.get("deleted_ts") or before.get("ts") or now.get("ts") or "")
    message = Message(where.team, where.channel, ts)
    try:
        row = await bot.run(_changed, bot, message, deleted)
        if row is None:
            return
        where = replace(where, user=row["user_id"]).in_thread(row["thread"])
        kept = 0 if deleted else 1
        await _delete(where, row["replies"][kept:])
        if deleted:
            await bot.run(_take_back, bot, where, row)
            return
    except Exception as error:  # the question stays as it was
        await bot.trouble(where, error)
        return
    question = Question(
        where,
        text.plain(now.get("text") or "", bot=where.workspace.bot_user),
        message=message,
        revision=row["revision"],
        conversation=row["conversation_id"],
        replaces=row["question_id"],
    )
    await questions.answer(bot, question, Public(where, bot.pace, ts=next(iter(row["replies"]), "")))


async def _delete(where: Where, replies: list[str]) -> None:
    for ts in replies:
        try:
            await where.client.chat_delete(channel=where.channel, ts=ts)
        except FAILED as error:  # it may be gone already
            log.info("slack.delete", error=problem(error))


async def _first(bot: Bot, where: Where, key: str) -> bool:
    try:
        return await bot.first(where.team, key)
    except DeskhandError:
        return True


async def _post(where: Where, page: tuple[str, list[blocks.Block]]) -> None:
    await where.client.chat_postMessage(
        channel=where.channel, thread_ts=where.thread or None, text=page[0], blocks=page[1]
    )


def _claim(bot: Bot, message: Message, where: Where) -> bool:
    with bot.assistant.database.writer() as connection:
        return slack.claim_question(connection, message, thread=where.thread, user=where.user)


def _asked_last(bot: Bot, where: Where) -> str:
    with bot.assistant.database.writer() as connection:
        return slack.last_asker(connection, where.team, where.channel, where.thread)


def _ended(bot: Bot, message: Message, replies: list[str]) -> None:
    with bot.assistant.database.writer() as connection:
        slack.end(connection, message, revision=0, replies=replies)


def _changed(bot: Bot, message: Message, deleted: bool) -> Row | None:
    with bot.assistant.database.writer() as connection:
        if deleted:
            return slack.gone(connection, message)
        known = slack.question(connection, message)
        if known is None or not (known["replies"] or known["state"] == "answering"):
            return None
        return slack.again(connection, message)


def _take_back(bot: Bot, where: Where, row: Row) -> None:
    """Out of the conversation, too: nothing goes on from what was taken back."""
    if row["conversation_id"] is None or row["question_id"] is None:
        return
    principal = where.owner
    if where.alone:
        with bot.assistant.database.writer() as connection:
            principal = slack.owner(connection, row["conversation_id"])
    if principal:
        with bot.assistant.database.reader(Principal(principal), Audience.PUBLIC) as connection:
            conversations.replace(connection, row["conversation_id"], row["question_id"])
