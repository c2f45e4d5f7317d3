"""What can be done with any message: answer it, summarise its thread, draft a reply. Only whoever did it sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_bolt.context.async_context import AsyncBoltContext

from assistant.model import Audience
from assistant.retrieve.scope import Scope
from assistant.store import conversations
from assistant.surfaces.asking import title
from assistant.surfaces.slack import blocks, questions, summaries, text
from assistant.surfaces.slack.blocks import PERSON, Of
from assistant.surfaces.slack.commands import Page, tell
from assistant.surfaces.slack.place import Where, place
from assistant.surfaces.slack.questions import Question
from assistant.surfaces.slack.reply import Whispered, whisper

if TYPE_CHECKING:
    from assistant.surfaces.slack.bot import Bot

Body = Mapping[str, Any]
Work = Callable[["Bot", Where, Body], Awaitable[None]]


def register(app: AsyncApp, bot: Bot) -> None:
    def on(name: str, work: Work) -> None:
        @app.shortcut({"type": "message_action", "callback_id": name})
        async def used(ack: AsyncAck, context: AsyncBoltContext, body: Body) -> None:
            await ack()
            bot.spawn(once(bot, place(context, body), body, work))

        _ = used

    on("answer_this", answer_this)
    on("summarise_thread", summarise)
    on("draft_reply", draft_reply)


async def once(bot: Bot, where: Where, body: Body, work: Work) -> None:
    """Do it for this click, once, and tell whoever clicked what went wrong. Never raises."""
    try:
        if await bot.first(where.team, f"click:{body.get('trigger_id') or body.get('action_ts')}"):
            await work(bot, where, body)
    except Exception as error:  # whatever it was, whoever clicked is told
        await tell(bot, where, error)


async def answer_this(bot: Bot, where: Where, body: Body) -> None:
    await questions.answer(bot, Question(where, _said(where, body), private=True), Whispered(where))


async def summarise(bot: Bot, where: Where, body: Body) -> None:
    message: Body = body["message"]
    await bot.people.find(where)
    page = await summaries.thread(where, where.channel, str(message.get("thread_ts") or message["ts"]))
    await whisper(where, page)


async def draft_reply(bot: Bot, where: Where, body: Body) -> None:
    who = await bot.people.find(where)
    await bot.count(who.principal.id)
    scope = Scope(who.principal, Audience.PUBLIC, customer=())
    await whisper(where, await bot.run(_drafted, bot, scope, _said(where, body)))


def _drafted(bot: Bot, scope: Scope, said: str) -> Page:
    """A reply to what somebody wrote; it is kept, to be judged, and nothing is sent."""
    from assistant.answer.draft import draft

    assistant = bot.assistant
    made = draft(assistant.engine(scope), title="", asked=said)
    if not made.text:
        note = "Nothing that may be told to a customer answers this, so there is no draft."
        return note, [blocks.section(note)]
    vector = assistant.vector(made.answer.question)
    with assistant.database.reader(scope.principal, Audience.PUBLIC) as connection:
        talk = conversations.start(connection, title=title(said), surface="draft")
        message = conversations.record(connection, talk, said, made.answer, vector=vector)
    of = str(Of(PERSON, message))
    return "A draft", [
        blocks.section("*Draft*, to copy:"),
        *blocks.sections(made.text),
        *blocks.sources(made.answer),
        blocks.actions(blocks.button("I used it", "accepted", of), blocks.button("Not helpful", "down", of)),
    ]


def _said(where: Where, body: Body) -> str:
    return text.plain(str(body["message"].get("text") or ""), bot=where.workspace.bot_user)
