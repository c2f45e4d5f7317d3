"""`/deskhand …`: answered to whoever typed it alone, with what they may read."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_bolt.context.async_context import AsyncBoltContext

from assistant.errors import ConfigError, NotThere
from assistant.model import Audience
from assistant.store import conversations, history, sources
from assistant.store.db import Row
from assistant.surfaces import drafting
from assistant.surfaces.slack import blocks, questions, summaries, text
from assistant.surfaces.slack.blocks import PERSON, Block, Of
from assistant.surfaces.slack.place import Where, place
from assistant.surfaces.slack.questions import Question
from assistant.surfaces.slack.reply import Whispered, whisper
from assistant.surfaces.slack.who import Who

if TYPE_CHECKING:
    from assistant.surfaces.slack.bot import Bot

COMMAND = "/deskhand"
SHOWN = 5
"""tickets of a customer"""
WHAT = {
    "ask": "_question_: an answer to you alone, with its sources; you can share it",
    "customer": "_name_: what is open, what comes again, what helped",
    "ticket": "_number or address_: what was asked, tried and solved",
    "draft": "_ticket_: a reply to copy, of public material alone",
    "summarise": "_link to a thread, or a ticket_: what happened in it",
    "sync": "_source_: read it now (admins)",
    "status": "who I take you for, and how I behave here",
    "settings": "of this channel (its owners)",
    "help": "this",
}
SLOW, DOING = ("ask", "customer", "ticket", "draft", "summarise"), "Searching …"
"""what is acknowledged with words, since the answer takes a moment"""
WORDS = {"summarize": "summarise", "?": "help", "": "help"}

log = structlog.get_logger()
Page = tuple[str, list[Block]]
Answers = Callable[["Bot", Where, Who, str], Awaitable[Page]]


def help_page(first: str = "") -> Page:
    listed = "\n".join(f"• `{COMMAND} {word}` {what}" for word, what in WHAT.items())
    more = (
        "Mention me in a channel, or write to me here. In a channel I tell only what everybody there may read. "
        "On any message there are also _Answer this_, _Summarise thread_ and _Draft a reply_."
    )
    return first or "What I can do", [
        *([blocks.section(text.mrkdwn(first))] if first else []),
        blocks.section(listed),
        blocks.context(more),
    ]


HELP = help_page()


def register(app: AsyncApp, bot: Bot) -> None:
    @app.command(COMMAND)
    async def command(ack: AsyncAck, context: AsyncBoltContext, body: Mapping[str, Any]) -> None:
        word, said = parsed(str(body.get("text") or ""))
        await ack({"response_type": "ephemeral", "text": DOING} if word in SLOW else "")
        bot.spawn(run(bot, place(context, body), word, said, str(body.get("trigger_id") or "")))

    _ = command


def parsed(said: str) -> tuple[str, str]:
    """The command's word and the rest; a word that is none stays as it is."""
    word, _, rest = said.strip().partition(" ")
    word = word.lower()
    return WORDS.get(word, word), rest.strip()


async def run(bot: Bot, where: Where, word: str, said: str, trigger: str) -> None:
    """Answer one command, once. Never raises."""
    from assistant.surfaces.slack import channels

    if word == "help" or word not in WHAT:
        await whisper(where, _unknown(word))
        return
    said = text.plain(said, bot=where.workspace.bot_user)
    try:
        if trigger and not await bot.first(where.team, f"command:{trigger}"):
            return
        if word == "ask":
            question = Question(where, said, private=True)
            await questions.answer(bot, question, Whispered(where))
            return
        if word == "settings":
            await channels.open_settings(bot, where, trigger)
            return
        who = await bot.people.find(where)
        await whisper(where, await ANSWERS[word](bot, where, who, said))
    except Exception as error:  # whatever it was, whoever asked is told
        again = blocks.retry(said, private=True) if word == "ask" else []
        await tell(bot, where, error, again)


async def tell(bot: Bot, where: Where, error: Exception, more: Sequence[Block] = ()) -> None:
    """Tell whoever asked or clicked what went wrong. Never raises."""
    told = await bot.trouble(where, error)
    try:
        if told:
            await whisper(where, (text.escape(told), [blocks.section(text.mrkdwn(told)), *more]))
    except Exception as untold:
        log.warning("slack.untold", error=type(untold).__name__)


def _unknown(word: str) -> Page:
    if word == "help":
        return HELP
    near = difflib.get_close_matches(word, WHAT, 1)
    hint = f"Did you mean `{COMMAND} {near[0]}`?" if near else f"To ask, write `{COMMAND} ask {word} …`."
    return help_page(f"I don't know «{text.short(word, 40)}». {hint}")


async def customer(bot: Bot, where: Where, who: Who, said: str) -> Page:
    if not said:
        raise ConfigError(f"Say which customer: {COMMAND} customer NAME")
    _known(who)
    return await bot.run(_customer, bot, who, said)


def _customer(bot: Bot, who: Who, said: str) -> Page:
    known = bot.assistant.customer(who.principal, said)
    with bot.assistant.database.reader(who.principal, Audience.INTERNAL) as connection:
        found = history.history(connection, known.ids, limit=SHOWN)
    since = f" since {found.first:%Y-%m-%d}" if found.first else ""
    facts = [f"{found.tickets} ticket(s){since}, {found.open_tickets} open"]
    facts += [
        f"{product} {version} (last named {at:%Y-%m-%d})" for product, version, at in found.versions[:3]
    ]
    facts += [f"again and again: {again.what} ({again.tickets} tickets)" for again in found.recurring[:3]]
    made = [blocks.header(known.name), blocks.context(*(text.escape(fact) for fact in facts))]
    shown = {one.document_id for one in found.open}
    for heading, some in (
        ("Open", found.open),
        ("Latest", [one for one in found.latest if one.document_id not in shown]),
    ):
        if some:
            made.append(blocks.section(f"*{heading}*"))
            made += [block for one in some for block in blocks.ticket(one)]
    return known.name, made[: blocks.MESSAGE_BLOCKS]


async def ticket(bot: Bot, where: Where, who: Who, said: str) -> Page:
    if not said:
        raise ConfigError(f"Say which ticket: {COMMAND} ticket NUMBER or its address")
    _known(who)
    found = (await bot.run(drafting.ticket, bot.assistant, who.principal, said)).past
    made = blocks.ticket(found, lines=20)
    return found.title, [*made, blocks.actions(blocks.button("Draft a reply", "draft", found.url or said))]


async def draft(bot: Bot, where: Where, who: Who, said: str) -> Page:
    if not said:
        raise ConfigError(f"Say for which ticket: {COMMAND} draft NUMBER or its address")
    _known(who)
    await bot.count(who.principal.id)
    return await bot.run(drafted, bot, who, said)


def drafted(bot: Bot, who: Who, reference: str) -> Page:
    """A reply to a ticket; nothing is sent to anybody."""
    asked = drafting.ticket(bot.assistant, who.principal, reference)
    made, _, message = drafting.write(bot.assistant, who.principal, asked)
    if not made.text:
        return (
            "No draft",
            [blocks.section("Nothing that may be told to a customer answers this, so there is no draft.")],
        )
    of = str(Of(PERSON, message))
    return (
        f"A draft for {asked.past.title}",
        [
            blocks.section(f"*Draft* for {text.link(asked.past.title, asked.past.url)}, to copy:"),
            *blocks.sections(made.text),
            *blocks.sources(made.answer),
            blocks.actions(
                blocks.button("I used it", "accepted", of), blocks.button("Not helpful", "down", of)
            ),
        ],
    )


async def sync(bot: Bot, where: Where, who: Who, said: str) -> Page:
    if not who.admin:
        raise ConfigError("Only admins of Deskhand have sources read at once. Nothing was changed.")
    return await bot.run(_sync, bot, who, said)


def _sync(bot: Bot, who: Who, said: str) -> Page:
    with bot.assistant.database.writer() as connection:
        if not said:
            names = ", ".join(source.name for source in sources.everything(connection)) or "none yet"
            raise ConfigError(f"Say which source: {COMMAND} sync NAME. There are: {names}.")
        source = sources.get(connection, said)
        if source.paused:
            raise ConfigError(f"«{source.name}» is paused ({source.paused}). Nothing was changed.")
        sources.request(connection, source)
        conversations.audit(connection, actor=who.principal.id, action="source.sync", object=source.name)
    note = f"«{source.name}» is read now; `{COMMAND} status` shows how far it is."
    return note, [blocks.section(text.mrkdwn(note))]


async def status(bot: Bot, where: Where, who: Who, said: str) -> Page:
    settings = await bot.run(questions.channel_settings, bot, where)
    if who.known:
        person = f"I take you for {text.escape(who.principal.id)}" + (f", {who.role}" if who.role else "")
    else:
        person = "I know nobody of your address, so I tell you public material alone"
    made = [blocks.section(person + ".")]
    if not where.alone:
        reads = "each member may read" if settings.audience == "members" else "everybody may read"
        auto = "I answer questions unasked if I am sure" if settings.auto else "I answer when I am asked"
        made.append(blocks.context(f"In this channel I tell what {reads}. {auto}."))
    if who.admin:
        rows = await bot.run(_overview, bot)
        made += [blocks.context(health(row)) for row in rows[:30]]
    return "Status", made


def _overview(bot: Bot) -> list[Row]:
    with bot.assistant.database.writer() as connection:
        return sources.overview(connection)


def health(row: Row) -> str:
    """A source on one line, for admins."""
    state = f"paused: {row['paused']}" if row["paused"] else row["run_state"] or "never read"
    held = f", {row['held']} deletions held back" if row["held"] else ""
    failures = f", {row['failures']} failures" if row["failures"] else ""
    waiting = f", {row['pending']} to be indexed" if row["pending"] else ""
    many = f"{row['documents']} documents, {row['tickets']} tickets{waiting}{failures}{held}"
    return f"*{text.escape(row['name'])}* · {text.escape(text.short(state, 80))} · {many}"


def _known(who: Who) -> None:
    if not who.known:
        raise NotThere(
            "Tickets and customers are shown to people that Deskhand knows. Nothing was looked up."
        )


ANSWERS: Mapping[str, Answers] = {
    "customer": customer,
    "ticket": ticket,
    "draft": draft,
    "summarise": summaries.of,
    "sync": sync,
    "status": status,
}
