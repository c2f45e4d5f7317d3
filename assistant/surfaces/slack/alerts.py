"""What is said unasked: alerts that an admin subscribed a channel to, and answers that were interrupted.

A channel is told of a thing once, by whichever process gets its row; while it is quiet there it waits.
No error's text, no document's name and nobody's question is told: those are for whoever looks with rights.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_bolt.context.async_context import AsyncBoltContext

from assistant.errors import ConfigError, DeskhandError
from assistant.store import slack, versions
from assistant.store.db import Conn
from assistant.store.logins import Role
from assistant.store.slack import Alert, Channel
from assistant.surfaces.slack import blocks, text
from assistant.surfaces.slack.blocks import Block
from assistant.surfaces.slack.place import FAILED, Where, place, problem
from assistant.surfaces.slack.reply import whisper
from assistant.surfaces.slack.shortcuts import once

if TYPE_CHECKING:
    from assistant.surfaces.slack.bot import Bot

EVERY_SECONDS = 30.0
POST_SECONDS = 60.0
WEEK = dt.timedelta(days=7)
POLLED = (Alert.SYNC, Alert.HELD, Alert.TRAINING, Alert.GAPS)
"""what is looked for; a hand-off is told by whoever makes it"""
ENDED = ("candidate", "failed", "rejected", "live")

log = structlog.get_logger()
News = tuple[list[Block], dict[str, Any]]
"""what to say, and up to where it was told then"""


def register(app: AsyncApp, bot: Bot) -> None:
    @app.action("gaps_show")
    async def clicked(ack: AsyncAck, context: AsyncBoltContext, body: Mapping[str, Any]) -> None:
        await ack()
        bot.spawn(once(bot, place(context, body), body, show_gaps))

    _ = clicked


async def watch(bot: Bot) -> None:
    """Look now and then, until it is cancelled."""
    while True:
        for work in (tell, apologise, forget):
            try:
                await work(bot)
            except (DeskhandError, *FAILED) as error:
                log.warning("slack.watch", error=type(error).__name__)
            except Exception as error:  # the next look may work
                log.exception("slack.watch", error=type(error).__name__)
        await asyncio.sleep(EVERY_SECONDS)


async def tell(bot: Bot) -> None:
    """Tell each channel what is new since it was told last."""
    for team, channel in await bot.run(_subscribers, bot):
        workspace = await bot.workspaces.find(team)
        if workspace is not None:
            where = Where(bot.client_of(workspace), workspace, channel, "")
            loop = asyncio.get_running_loop()
            await bot.run(_tell, bot, where, loop)


def _tell(bot: Bot, where: Where, loop: asyncio.AbstractEventLoop) -> None:
    """In one transaction: if it can't be said, it was not told."""
    with bot.assistant.database.writer() as connection:
        found = slack.subscriber(connection, where.team, where.channel)
        if found is None or found[0].quiet(dt.datetime.now(dt.UTC)):
            return
        said, up_to = news(bot, connection, *found)
        if said:
            posting = asyncio.run_coroutine_threadsafe(_post(where, said), loop)
            posting.result(POST_SECONDS)
        if up_to:
            slack.told(connection, where.team, where.channel, up_to)


def news(bot: Bot, connection: Conn, channel: Channel, told: Mapping[str, Any]) -> News:
    said: list[Block] = []
    up_to: dict[str, Any] = {}
    if Alert.SYNC in channel.alerts and (since := _since(told, Alert.SYNC)):
        for row in slack.failed_runs(connection, since):
            said.append(_line(f"The source *{text.escape(row['source'])}* fails ({row['job']})."))
            up_to[Alert.SYNC.value] = row["at"].isoformat()
    if Alert.HELD in channel.alerts and (since := _since(told, Alert.HELD)):
        for row in slack.held(connection, since):
            many = f"{row['documents']} documents" if row["documents"] else "Documents"
            name = text.escape(row["source"])
            said.append(
                _line(f"*{name}*: its listing lacks much of what was there. {many} are kept for now.")
            )
            up_to[Alert.HELD.value] = row["at"].isoformat()
    if Alert.TRAINING in channel.alerts:
        known = list(told.get(Alert.TRAINING.value) or [])
        new = [v for v in versions.everything(connection) if f"{v.name} {v.state}" not in known]
        ended = [v for v in new if v.state in ENDED]
        said += [_line(f"The training *{v.name}* has ended: {v.state}.") for v in ended]
        if new:
            up_to[Alert.TRAINING.value] = [*known, *(f"{v.name} {v.state}" for v in new)]
    if Alert.GAPS in channel.alerts and (since := _since(told, Alert.GAPS)):
        now = dt.datetime.now(dt.UTC)
        if now - since >= WEEK:
            said += _gaps(bot, now - WEEK)
            up_to[Alert.GAPS.value] = now.isoformat()
    return said, up_to


def _since(told: Mapping[str, Any], alert: Alert) -> dt.datetime | None:
    at = told.get(alert.value)
    return dt.datetime.fromisoformat(at) if at else None


def _line(said: str) -> Block:
    return blocks.section(said)


def _gaps(bot: Bot, since: dt.datetime) -> list[Block]:
    """How many topics, not which: questions may name customers."""
    from assistant.evaluate import gaps

    found, questions = gaps.find(bot.assistant, since=since)
    if not found:
        return []
    said = f"In the last week {questions} question(s) about {len(found)} topic(s) had no good answer in the sources."
    return [blocks.section(said), blocks.actions(blocks.button("Show", "gaps_show", since.isoformat()))]


async def show_gaps(bot: Bot, where: Where, body: Mapping[str, Any]) -> None:
    who = await bot.people.find(where)
    if who.role is None or not who.role.covers(Role.OWNER):
        raise ConfigError(
            "What is asked in vain is shown to whoever keeps the documents (role owner or admin)."
        )
    since = dt.datetime.fromisoformat(str(body["actions"][0]["value"]))
    await whisper(where, ("What the sources lack", await bot.run(_listed, bot, since)))


def _listed(bot: Bot, since: dt.datetime) -> list[Block]:
    from assistant.evaluate import gaps

    found, _ = gaps.find(bot.assistant, since=since, limit=15)
    return [
        blocks.section(f"{text.escape(gap.question)}\n_asked {gap.questions} time(s) by {gap.people}_")
        for gap in found
    ] or [blocks.section("Nothing by now.")]


async def apologise(bot: Bot) -> None:
    """Tell whose answer died with its process; the question is theirs to ask again."""
    for row in await bot.run(_interrupted, bot):
        workspace = await bot.workspaces.find(row["team"])
        if workspace is None:
            continue
        where = Where(bot.client_of(workspace), workspace, row["channel"], row["user_id"], row["thread"])
        said = "I was interrupted before I could answer. Nothing else was lost; please ask again."
        try:
            if where.alone:
                await where.client.chat_postMessage(
                    channel=where.channel, thread_ts=where.thread, text=said, blocks=[blocks.section(said)]
                )
            else:
                await whisper(where, (said, [blocks.section(said)]))
        except FAILED as error:
            log.info("slack.apology", error=problem(error))


async def forget(bot: Bot) -> None:
    await bot.run(_forget, bot)


async def _post(where: Where, said: list[Block]) -> None:
    first = str(said[0].get("text", {}).get("text", "News"))
    await where.client.chat_postMessage(
        channel=where.channel, text=first, blocks=said[: blocks.MESSAGE_BLOCKS], unfurl_links=False
    )


def _subscribers(bot: Bot) -> list[tuple[str, str]]:
    with bot.assistant.database.writer() as connection:
        return slack.subscribers(connection, POLLED)


def _interrupted(bot: Bot) -> list[dict[str, Any]]:
    with bot.assistant.database.writer() as connection:
        return slack.interrupted(connection)


def _forget(bot: Bot) -> None:
    with bot.assistant.database.writer() as connection:
        slack.forget(connection)
