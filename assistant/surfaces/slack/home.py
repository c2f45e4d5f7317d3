"""The app's own place: its Home tab, and what is suggested where somebody begins to talk with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.async_context import AsyncBoltContext

from assistant.errors import DeskhandError
from assistant.model import Audience
from assistant.store import conversations, escalations, history, sources
from assistant.store.escalations import State
from assistant.surfaces.slack import blocks, commands, text
from assistant.surfaces.slack.blocks import Block
from assistant.surfaces.slack.place import FAILED, Where, place, problem
from assistant.surfaces.slack.who import Who

if TYPE_CHECKING:
    from assistant.surfaces.slack.bot import Bot

SHOWN = 8
WAITING = (State.OPEN, State.TAKEN, State.DELIVERED)
PROMPTS = 4
"""that Slack shows"""

log = structlog.get_logger()


def register(app: AsyncApp, bot: Bot) -> None:
    @app.event("app_home_opened")
    async def opened(context: AsyncBoltContext, event: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        work = suggest if event.get("tab") == "messages" else publish
        bot.spawn(work(bot, place(context, body)))

    _ = opened


async def publish(bot: Bot, where: Where) -> None:
    """What somebody asked last, what waits for a person and, for admins, how the sources are."""
    try:
        who = await bot.people.find(where)
        content = await bot.run(_content, bot, who)
    except DeskhandError as error:
        content = [blocks.section(text.mrkdwn(await bot.trouble(where, error)))]
    view = {"type": "home", "blocks": content[: blocks.VIEW_BLOCKS]}
    try:
        await where.client.views_publish(user_id=where.user, view=view)
    except FAILED as error:
        log.info("slack.home", error=problem(error))


async def suggest(bot: Bot, where: Where) -> None:
    """Something to begin with: what the latest tickets are about."""
    try:
        who = await bot.people.find(where)
        titles = await bot.run(_titles, bot, who) if who.known else []
        prompts = [{"title": text.short(one, 60), "message": text.short(one, 300)} for one in titles]
        prompts = [*prompts[: PROMPTS - 1], {"title": "What can you do?", "message": "help"}]
        await where.client.assistant_threads_setSuggestedPrompts(channel_id=where.channel, prompts=prompts)
    except (DeskhandError, *FAILED) as error:  # a courtesy, and not every plan has it
        log.info("slack.suggest", error=type(error).__name__)


def _titles(bot: Bot, who: Who) -> list[str]:
    with bot.assistant.database.reader(who.principal, Audience.INTERNAL) as connection:
        return history.latest_titles(connection, limit=PROMPTS)


def _content(bot: Bot, who: Who) -> list[Block]:
    audience = Audience.INTERNAL if who.known else Audience.PUBLIC
    with bot.assistant.database.reader(who.principal, audience) as connection:
        talks = conversations.page(connection, limit=SHOWN)
        waiting = escalations.listing(connection, states=WAITING, limit=SHOWN)
    made = [blocks.header("Your latest questions")]
    made += [blocks.section(_talk(row, bot.settings.web_url)) for row in talks]
    if not talks:
        made.append(blocks.section("Nothing yet. Write to me under _Messages_, or mention me in a channel."))
    made.append(blocks.header("Waiting for a person"))
    for row in waiting:
        asked = text.escape(text.short(row["question"], 200))
        made += [
            blocks.section(f"{asked}\n_{row['state']}_ since {row['created_at']:%Y-%m-%d}"),
            blocks.actions(blocks.button("Show", "handover_show", str(row["id"]))),
        ]
    if not waiting:
        made.append(blocks.section("Nothing."))
    if who.admin:
        with bot.assistant.database.writer() as connection:
            rows = sources.overview(connection)
        made += [blocks.header("Sources"), *(blocks.context(commands.health(row)) for row in rows[:30])]
    return [*made, {"type": "divider"}, *commands.HELP[1]]


def _talk(row: Mapping[str, Any], web_url: str) -> str:
    title = row["title"] or "untitled"
    said = text.link(title, f"{web_url.rstrip('/')}/c/{row['id']}" if web_url else "")
    about = f" · {text.escape(row['customer'])}" if row["customer"] else ""
    return f"{said}{about} · {row['updated_at']:%Y-%m-%d}"
