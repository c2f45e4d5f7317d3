"""«I need a person»: a question is handed over, told to the channels that want to know, and worked on.

A channel is told that there is one, and where it was asked: what it says, whose it is and what was found
for it is shown to whoever opens it, with their rights, and to nobody beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_bolt.context.async_context import AsyncBoltContext

from assistant.answer import handoff
from assistant.errors import ConfigError
from assistant.model import Audience, Principal
from assistant.store import conversations, escalations, principals, slack
from assistant.store.escalations import State
from assistant.store.slack import Alert
from assistant.surfaces import asking, handing
from assistant.surfaces.slack import actions, blocks
from assistant.surfaces.slack.blocks import CHANNEL, Block, Of
from assistant.surfaces.slack.place import FAILED, Where, place, problem
from assistant.surfaces.slack.reply import whisper
from assistant.surfaces.slack.shortcuts import Work, once
from assistant.surfaces.slack.who import Who

if TYPE_CHECKING:
    from assistant.surfaces.slack.bot import Bot

log = structlog.get_logger()
Body = Mapping[str, Any]
WRITE = "The question and the nearest sources become an internal note on the ticket, in the ticket system."


def register(app: AsyncApp, bot: Bot) -> None:
    def on(name: str, work: Work) -> None:
        @app.action(name)
        async def clicked(ack: AsyncAck, context: AsyncBoltContext, body: Body) -> None:
            await ack()
            bot.spawn(once(bot, place(context, body), body, work))

        _ = clicked

    on("person", person)
    on("handover_show", show)
    on("handover_take", take)
    on("handover_close", close)
    on("handover_write", write)

    @app.view("person")
    async def handed(ack: AsyncAck, context: AsyncBoltContext, body: Body) -> None:
        await ack()
        bot.spawn(once(bot, actions.of_view(place(context, body), body), body, hand_over))

    _ = handed


async def person(bot: Bot, where: Where, body: Body) -> None:
    content = [
        blocks.section(
            "A colleague gets your question, and what was found for it as far as they may read it."
        ),
        actions.asked_for(
            "note",
            "Anything they should know?",
            {"type": "plain_text_input", "multiline": True, "max_length": 3000},
            optional=True,
        ),
    ]
    data = actions.metadata(where, of=actions.value(body))
    view = actions.modal("I need a person", "person", content, data, submit="Hand over")
    await where.client.views_open(trigger_id=body["trigger_id"], view=view)


async def hand_over(bot: Bot, where: Where, body: Body) -> None:
    who = await bot.people.find(where)
    of, note = Of.read(actions.carried(body)["of"]), actions.chosen(body, "note")
    made = await bot.run(_hand_over, bot, where, who, of, note)
    told = await announce(bot, where, made, of)
    said = "Handed over; whoever takes it will find you." if told else (
        "Handed over. It waits in the web chat, and in `deskhand escalation list`; no channel is told of hand-offs."
    )  # fmt: skip
    show_it = blocks.actions(blocks.button("What they see", "handover_show", str(made)))
    await whisper(where, (said, [blocks.section(said), show_it]))


def _hand_over(bot: Bot, where: Where, who: Who, of: Of, note: str) -> UUID:
    assistant = bot.assistant
    if not who.known:
        with assistant.database.writer() as connection:
            principals.meet(connection, who.principal.id)
    reader = Principal(where.owner) if of.owner == CHANNEL else who.principal
    with assistant.database.reader(reader, Audience.INTERNAL) as connection:
        asked = escalations.asked(connection, of.message)
    said = f"{asked['question']}\n\n{note}" if note else ""
    if of.owner != CHANNEL:
        return handing.hand_over(assistant, who.principal, of.message, said)
    # The answer is the channel's, the hand-off the person's: with their rights it is searched for.
    about = asking.about(assistant, who.principal, asked["question"])
    scope = about.scope(who.principal, Audience.INTERNAL if who.known else Audience.PUBLIC)
    return assistant.escalate(scope, said or asked["question"], asked["searched"])


async def announce(bot: Bot, where: Where, made: UUID, of: Of) -> bool:
    """Tell the workspace's channels that want to know; whether there is one."""
    channels = await bot.run(_channels, bot, where.team)
    place_ = f" in <#{where.channel}>" if of.owner == CHANNEL else ""
    said = f"<@{where.user}> needs a person for a question{place_}."
    told = False
    for channel in channels:
        try:
            await where.client.chat_postMessage(
                channel=channel, text=said, blocks=[blocks.section(said), buttons(made)], unfurl_links=False
            )
            told = True
        except FAILED as error:
            log.warning("slack.handover", error=problem(error))
    return told


def buttons(made: UUID, *, taken: bool = False) -> Block:
    name = str(made)
    return blocks.actions(
        blocks.button("Show", "handover_show", name, style="primary"),
        *([] if taken else [blocks.button("Take it", "handover_take", name)]),
        blocks.button("Close", "handover_close", name, confirm="It is answered, or no longer wanted."),
    )


async def show(bot: Bot, where: Where, body: Body) -> None:
    """The packet, with the rights of whoever looks."""
    who = await bot.people.find(where)
    name = actions.value(body)
    said, writable = await bot.run(_seen, bot, who, name)
    more = (
        [blocks.button("Write it to the ticket", "handover_write", name, confirm=WRITE)] if writable else []
    )
    made = [
        *blocks.sections(said)[:40],
        blocks.actions(blocks.button("Take it", "handover_take", name), *more),
    ]
    await whisper(where, ("The hand-off", made))


def _seen(bot: Bot, who: Who, name: str) -> tuple[str, bool]:
    audience = Audience.INTERNAL if who.known else Audience.PUBLIC
    with bot.assistant.database.reader(who.principal, audience) as connection:
        found = handoff.view(connection, escalations.get(connection, name))
    try:
        bot.assistant.delivery(who.principal, name)
    except ConfigError:
        return handing.packet(found), False
    return handing.packet(found), True


async def take(bot: Bot, where: Where, body: Body) -> None:
    await _move(bot, where, body, State.TAKEN)


async def close(bot: Bot, where: Where, body: Body) -> None:
    await _move(bot, where, body, State.CLOSED)


async def write(bot: Bot, where: Where, body: Body) -> None:
    """An internal note on its ticket, once, after a confirmation."""
    who = await bot.people.find(where)
    await bot.run(_write, bot, who, actions.value(body))
    said = "It is written to the ticket as an internal note."
    await whisper(where, (said, [blocks.section(said)]))


def _write(bot: Bot, who: Who, name: str) -> None:
    bot.assistant.deliver(who.principal, bot.assistant.delivery(who.principal, name))


async def _move(bot: Bot, where: Where, body: Body, to: State) -> None:
    who = await bot.people.find(where)
    await bot.run(_moved, bot, who, actions.value(body), to)
    said = f"{to.value} by <@{where.user}>"
    message: Body = body.get("message") or {}
    public = message.get("ts") and not (body.get("container") or {}).get("is_ephemeral")
    if public and message.get("user") == where.workspace.bot_user:
        kept = [block for block in message.get("blocks") or [] if block.get("type") == "section"]
        after = [] if to is State.CLOSED else [buttons(UUID(actions.value(body)), taken=True)]
        await where.client.chat_update(
            channel=where.channel,
            ts=str(message["ts"]),
            text=said,
            blocks=[*kept[:1], blocks.context(said), *after],
        )
    else:
        await whisper(where, (said, [blocks.section(said)]))


def _moved(bot: Bot, who: Who, name: str, to: State) -> None:
    with bot.assistant.database.reader(who.principal, Audience.INTERNAL) as connection:
        escalations.move(connection, escalations.get(connection, name), to)
        conversations.audit(connection, actor=who.principal.id, action=f"escalation.{to.value}", object=name)


def _channels(bot: Bot, team: str) -> list[str]:
    with bot.assistant.database.writer() as connection:
        return [channel for _, channel in slack.subscribers(connection, [Alert.HANDOVER], team=team)]
