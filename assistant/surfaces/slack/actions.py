"""The buttons under an answer: what was thought of it, its sources, sharing it, asking again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_bolt.context.async_context import AsyncBoltContext

from assistant.model import Audience, Principal
from assistant.store import conversations, escalations, feedback
from assistant.store.feedback import Verdict
from assistant.surfaces.slack import blocks, commands, questions, text
from assistant.surfaces.slack.blocks import Block, Of
from assistant.surfaces.slack.place import Where, place
from assistant.surfaces.slack.questions import Question
from assistant.surfaces.slack.reply import Public, Whispered, whisper
from assistant.surfaces.slack.shortcuts import Work, once

if TYPE_CHECKING:
    from assistant.surfaces.slack.bot import Bot

Body = Mapping[str, Any]
REASONS = {
    "wrong": "It is wrong",
    "source_wrong": "A source is wrong",
    "source_outdated": "A source is outdated",
    "incomplete": "Something is missing",
    "other": "I meant something else",
}
THANKS = "Thank you; it is noted with the answer."


def register(app: AsyncApp, bot: Bot) -> None:
    def on(name: str, work: Work) -> None:
        @app.action(name)
        async def clicked(ack: AsyncAck, context: AsyncBoltContext, body: Body) -> None:
            await ack()
            bot.spawn(once(bot, place(context, body), body, work))

        _ = clicked

    on("up", up)
    on("accepted", accepted)
    on("down", down)
    on("sources", sources)
    on("draft", draft)
    on("share", share)
    on("private", private)
    on("retry", retry)

    @app.view("down")
    async def judged(ack: AsyncAck, context: AsyncBoltContext, body: Body) -> None:
        reason, source = chosen(body, "reason"), chosen(body, "source")
        if reason.startswith("source_") and not source.isdigit():
            await ack(response_action="errors", errors={"source": "Say which: the number in [ ]"})
            return
        await ack()
        bot.spawn(once(bot, of_view(place(context, body), body), body, _judge))

    _ = judged


# ── what a click carries ─────────────────────────────────────────────────────


def value(body: Body) -> str:
    return str(body["actions"][0].get("value") or "")


def metadata(where: Where, **more: str) -> str:
    """What a modal has to know of where it was opened."""
    return json.dumps({"channel": where.channel, "thread": where.thread, **more})


def carried(body: Body) -> dict[str, str]:
    return json.loads(body["view"].get("private_metadata") or "{}")


def of_view(where: Where, body: Body) -> Where:
    """A modal belongs to no channel; it remembers the one that it was opened in."""
    told = carried(body)
    return replace(where, channel=told.get("channel", ""), thread=told.get("thread", ""))


def chosen(body: Body, name: str) -> str:
    """The value of a modal's input whose block and action have this name."""
    state: Body = body["view"]["state"]["values"].get(name, {}).get(name, {})
    option: Body = state.get("selected_option") or {}
    return str(option.get("value") or state.get("value") or state.get("selected_time") or "").strip()


def modal(title: str, callback: str, content: list[Block], data: str, *, submit: str = "Send") -> Block:
    made = {
        "type": "modal",
        "callback_id": callback,
        "title": blocks.label(title, 24),
        "close": blocks.label("Close", 24),
        "private_metadata": data,
        "blocks": content[: blocks.VIEW_BLOCKS],
    }
    return {**made, "submit": blocks.label(submit, 24)} if submit else made


def asked_for(name: str, label: str, element: Block, *, optional: bool = False, hint: str = "") -> Block:
    made: Block = {
        "type": "input",
        "block_id": name,
        "label": blocks.label(label),
        "element": {"action_id": name, **element},
        "optional": optional,
    }
    return {**made, "hint": blocks.label(hint, 150)} if hint else made


def options(of: Mapping[str, str]) -> list[Block]:
    return [{"text": blocks.label(said), "value": one} for one, said in of.items()]


async def principal_of(bot: Bot, where: Where, of: Of) -> Principal:
    """With whose rights an answer's record is read and judged."""
    return questions.owner(of, where, await bot.people.find(where))


# ── what it was worth ────────────────────────────────────────────────────────


async def up(bot: Bot, where: Where, body: Body) -> None:
    await _say(bot, where, Of.read(value(body)), Verdict.UP)


async def accepted(bot: Bot, where: Where, body: Body) -> None:
    await _say(bot, where, Of.read(value(body)), Verdict.ACCEPTED)


async def _say(bot: Bot, where: Where, of: Of, verdict: Verdict) -> None:
    principal = await principal_of(bot, where, of)
    await bot.run(_store, bot, principal, of, [(verdict, None)], "")
    await whisper(where, (THANKS, [blocks.section(THANKS)]))


async def down(bot: Bot, where: Where, body: Body) -> None:
    """Ask why. It is opened at once: Slack waits three seconds for it."""
    select = {"type": "static_select", "options": options(REASONS), "initial_option": options(REASONS)[0]}
    content = [
        asked_for("reason", "What is the matter?", select),
        asked_for("source", "Which source?", {"type": "plain_text_input"}, optional=True, hint="its number"),
        asked_for(
            "comment", "Anything else?", {"type": "plain_text_input", "multiline": True}, optional=True
        ),
    ]
    view = modal("Not helpful", "down", content, metadata(where, of=value(body)))
    await where.client.views_open(trigger_id=body["trigger_id"], view=view)


async def _judge(bot: Bot, where: Where, body: Body) -> None:
    of, reason, source = Of.read(carried(body)["of"]), chosen(body, "reason"), chosen(body, "source")
    comment = chosen(body, "comment")
    verdicts: list[tuple[Verdict, int | None]] = [(Verdict.DOWN, None)]
    if reason in (Verdict.SOURCE_WRONG, Verdict.SOURCE_OUTDATED):
        verdicts.append((Verdict(reason), int(source)))
    said = ": ".join(one for one in (REASONS.get(reason, ""), comment) if one)
    principal = await principal_of(bot, where, of)
    await bot.run(_store, bot, principal, of, verdicts, said)
    await whisper(where, (THANKS, [blocks.section(THANKS)]))


def _store(
    bot: Bot, principal: Principal, of: Of, verdicts: list[tuple[Verdict, int | None]], comment: str
) -> None:
    with bot.assistant.database.reader(principal, Audience.INTERNAL) as connection:
        for verdict, source in verdicts:
            feedback.add(connection, of.message, verdict, source=source, comment=comment[:4000])


# ── its sources ──────────────────────────────────────────────────────────────


async def sources(bot: Bot, where: Where, body: Body) -> None:
    """What each source says, word for word, in a view that only whoever clicked sees."""
    waiting = modal("Sources", "sources", [blocks.section("Reading …")], metadata(where), submit="")
    opened = await where.client.views_open(trigger_id=body["trigger_id"], view=waiting)
    of = Of.read(value(body))
    principal = await principal_of(bot, where, of)
    told = await bot.run(_quoted, bot, principal, of)
    view = modal("Sources", "sources", told, metadata(where), submit="")
    await where.client.views_update(view_id=(opened["view"] or {})["id"], view=view)


def _quoted(bot: Bot, principal: Principal, of: Of) -> list[Block]:
    audience = Audience.PUBLIC if of.owner == blocks.CHANNEL else Audience.INTERNAL
    with bot.assistant.database.reader(principal, audience) as connection:
        found = conversations.cited(connection, [of.message])[of.message]
    made: list[Block] = []
    for one in found:
        head = blocks.source(one.marker, one.passage) if one.passage else f"*[{one.marker}]* gone since"
        quotes = "\n".join(f"> {text.escape(text.short(quote, 600))}" for quote in one.quotes)
        made += [blocks.section(head), blocks.section(quotes[: text.SECTION])]
    return made or [blocks.section("It cites nothing.")]


# ── asking again ─────────────────────────────────────────────────────────────


async def draft(bot: Bot, where: Where, body: Body) -> None:
    who = await bot.people.find(where)
    await whisper(where, await commands.draft(bot, where, who, value(body)))


async def share(bot: Bot, where: Where, body: Body) -> None:
    """Asked again with the channel's rights: what is shown to one person is never shown to all."""
    asked = await _asked(bot, where, Of.read(value(body)))
    if not where.thread:
        said = f"<@{where.user}> asks: {text.escape(text.short(asked, 2_000))}"
        begun = await where.client.chat_postMessage(
            channel=where.channel, text=said, blocks=[blocks.section(said)], unfurl_links=False
        )
        where = where.in_thread(str(begun["ts"]))
    await questions.answer(bot, Question(where, asked), Public(where, bot.pace))


async def private(bot: Bot, where: Where, body: Body) -> None:
    """The same question for whoever clicked alone, with all that they may read."""
    asked = await _asked(bot, where, Of.read(value(body)))
    await questions.answer(bot, Question(where, asked, private=True), Whispered(where))


async def retry(bot: Bot, where: Where, body: Body) -> None:
    told = json.loads(value(body))
    if told["p"] and not where.alone:
        await questions.answer(bot, Question(where, told["q"], private=True), Whispered(where))
        return
    if not where.thread:
        where = where.in_thread(str((body.get("container") or {}).get("message_ts") or ""))
    await questions.answer(bot, Question(where, told["q"]), Public(where, bot.pace))


async def _asked(bot: Bot, where: Where, of: Of) -> str:
    principal = await principal_of(bot, where, of)
    return await bot.run(_question, bot, principal, of)


def _question(bot: Bot, principal: Principal, of: Of) -> str:
    with bot.assistant.database.reader(principal, Audience.INTERNAL) as connection:
        return str(escalations.asked(connection, of.message)["question"])
