"""How Deskhand behaves in a channel: set by its owner, or an admin, in a modal."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slack_bolt.app.async_app import AsyncApp
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_bolt.context.async_context import AsyncBoltContext

from assistant.answer import abstain
from assistant.errors import ConfigError, DeskhandError
from assistant.model import Audience as Readable
from assistant.store import conversations, customers, slack, versions
from assistant.store.slack import Alert, Audience, Channel
from assistant.surfaces.slack import actions, blocks, questions, text
from assistant.surfaces.slack.actions import asked_for, chosen, options
from assistant.surfaces.slack.blocks import Block
from assistant.surfaces.slack.place import FAILED, Where, place
from assistant.surfaces.slack.reply import whisper
from assistant.surfaces.slack.shortcuts import once
from assistant.surfaces.slack.who import Who

if TYPE_CHECKING:
    from assistant.surfaces.slack.bot import Bot

Body = Mapping[str, Any]
AUTO = {"off": "Only when I am asked", "on": "Also unasked, if I am sure enough"}
FLOORS = {word: word.replace("_", " ") for word in abstain.WORDS}
AUDIENCES = {
    "public": "What everybody may read",
    "members": "What each member of the channel may read",
}
ALERTS = {
    "sync": "A source begins to fail",
    "held": "Deletions are held back",
    "training": "A training has ended",
    "gaps": "Once a week: what the sources lack",
    "handover": "Somebody needs a person",
}


def register(app: AsyncApp, bot: Bot) -> None:
    @app.view("settings")
    async def submitted(ack: AsyncAck, context: AsyncBoltContext, body: Body) -> None:
        where = actions.of_view(place(context, body), body)
        try:
            told = await bot.run(wrong, bot, where, await bot.people.find(where), body)
        except DeskhandError as error:
            told = {"auto": str(error)}
        if told:
            await ack(response_action="errors", errors=told)
            return
        await ack()
        bot.spawn(once(bot, where, body, save))

    _ = submitted


async def open_settings(bot: Bot, where: Where, trigger: str) -> None:
    """Opened at once, since Slack waits three seconds for it, and filled in then."""
    waiting = actions.modal("Deskhand here", "none", [blocks.section("One moment …")], "", submit="")
    opened = await where.client.views_open(trigger_id=trigger, view=waiting)
    try:
        if where.alone:
            raise ConfigError("Settings are a channel's: use this in a channel. Nothing was changed.")
        who = await bot.people.find(where)
        await _may(where, who)
        found, customer = await bot.run(_found, bot, where, who)
        view = form(found, customer, admin=who.admin, data=actions.metadata(where))
    except DeskhandError as error:
        said = blocks.section(text.mrkdwn(await bot.trouble(where, error)))
        view = actions.modal("Deskhand here", "none", [said], "", submit="")
    await where.client.views_update(view_id=(opened["view"] or {})["id"], view=view)


async def _may(where: Where, who: Who) -> None:
    """The channel's creator, the workspace's admins and owners, and Deskhand's admins."""
    if who.known and (who.admin or who.manages or who.slack == await _creator(where)):
        return
    raise ConfigError(
        "The settings of a channel are for whoever created it, and for admins. Nothing was changed."
    )


async def _creator(where: Where) -> str:
    try:
        answer = await where.client.conversations_info(channel=where.channel)
    except FAILED:
        return ""
    return str((answer["channel"] or {}).get("creator") or "")


def form(found: Channel, customer: str, *, admin: bool, data: str) -> Block:
    content = [
        _select("auto", "When do I answer?", AUTO, "on" if found.auto else "off"),
        _select("floor", "How sure do I have to be, unasked?", FLOORS, floor_word(found.floor)),
        _select("audience", "What do I tell here?", AUDIENCES, found.audience.value),
        asked_for(
            "customer",
            "Whom are private answers about?",
            {"type": "plain_text_input", **({"initial_value": customer} if customer else {})},
            optional=True,
            hint="a customer's name, unless the question says another",
        ),
        _time("quiet_from", "Quiet from", found.quiet_from),
        _time("quiet_to", "Quiet until", found.quiet_to),
    ]
    if admin:
        content.append(_alerts(found))
    return actions.modal("Deskhand here", "settings", content, data, submit="Save")


def _select(name: str, label: str, of: Mapping[str, str], now: str) -> Block:
    listed = options(of)
    initial = next((one for one in listed if one["value"] == now), listed[0])
    return asked_for(name, label, {"type": "static_select", "options": listed, "initial_option": initial})


def _time(name: str, label: str, now: dt.time | None) -> Block:
    element: Block = {"type": "timepicker", **({"initial_time": f"{now:%H:%M}"} if now else {})}
    return asked_for(name, label, element, optional=True, hint="nothing is said unasked, in your time zone")


def _alerts(found: Channel) -> Block:
    listed = options(ALERTS)
    element: Block = {"type": "checkboxes", "options": listed}
    now = [one for one in listed if Alert(one["value"]) in found.alerts]
    if now:
        element["initial_options"] = now
    return asked_for("alerts", "What is told here?", element, optional=True)


def floor_word(floor: float) -> str:
    """The strictest word that is not above this confidence."""
    reached = [word for word, least in abstain.WORDS.items() if floor >= least]
    return reached[-1] if reached else next(iter(abstain.WORDS))


def wrong(bot: Bot, where: Where, who: Who, body: Body) -> dict[str, str]:
    """By input, what can't be saved."""
    told: dict[str, str] = {}
    if bool(chosen(body, "quiet_from")) != bool(chosen(body, "quiet_to")):
        told["quiet_to"] = "Say both times, or none."
    name = chosen(body, "customer")
    if name:
        try:
            bot.assistant.customer(who.principal, name)
        except ConfigError as error:
            told["customer"] = str(error)
    return told


async def save(bot: Bot, where: Where, body: Body) -> None:
    who = await bot.people.find(where)
    await _may(where, who)
    await bot.run(_save, bot, where, who, body)
    said = "Saved: that is how I behave here from now on."
    await whisper(where, (said, [blocks.section(said)]))


def _save(bot: Bot, where: Where, who: Who, body: Body) -> None:
    name = chosen(body, "customer")
    customer = bot.assistant.customer(who.principal, name).ids[0] if name else None
    begins, ends = chosen(body, "quiet_from"), chosen(body, "quiet_to")
    made = Channel(
        where.team,
        where.channel,
        auto=chosen(body, "auto") == "on",
        floor=abstain.WORDS[chosen(body, "floor")],
        audience=Audience(chosen(body, "audience")),
        customer_id=customer,
        quiet_from=dt.time.fromisoformat(begins) if begins else None,
        quiet_to=dt.time.fromisoformat(ends) if ends else None,
        zone=who.zone,
    )
    alerts = _ticked(body) if who.admin else None
    with bot.assistant.database.writer() as connection:
        slack.set_channel(connection, made)
        if alerts is not None:
            slack.subscribe(connection, where.team, where.channel, alerts, begin(connection, alerts))
        conversations.audit(
            connection,
            actor=who.principal.id,
            action="slack.settings",
            object=f"{where.team} {where.channel}",
            detail={"auto": made.auto, "audience": made.audience.value, "alerts": alerts or []},
        )


def begin(connection: Any, alerts: list[Alert]) -> dict[str, Any]:
    """What is told from now on; of what was before nothing."""
    now = dt.datetime.now(dt.UTC).isoformat()
    told: dict[str, Any] = {alert.value: now for alert in alerts}
    if Alert.TRAINING in alerts:
        told[Alert.TRAINING.value] = [f"{one.name} {one.state}" for one in versions.everything(connection)]
    return told


def _ticked(body: Body) -> list[Alert]:
    state: Body = body["view"]["state"]["values"].get("alerts", {}).get("alerts", {})
    return [Alert(one["value"]) for one in state.get("selected_options") or []]


def _found(bot: Bot, where: Where, who: Who) -> tuple[Channel, str]:
    found = questions.channel_settings(bot, where)
    if found.customer_id is None:
        return found, ""
    with bot.assistant.database.reader(who.principal, Readable.INTERNAL) as connection:
        known = customers.known(connection, [found.customer_id])
    # Whoever may not see the customer sees none, and saving takes it out rather than telling.
    return (found, known.name) if known else (replace(found, customer_id=None), "")
