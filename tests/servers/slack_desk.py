"""A bot in a loop of its own, and what Slack delivers to it: signed payloads of the shapes that Slack sends."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse
from slack_sdk.signature import SignatureVerifier

from assistant.app import Assistant
from assistant.config import Settings
from assistant.ingest.embed import Embedders
from assistant.surfaces.slack.bot import Bot, application
from assistant.surfaces.slack.place import Pace
from tests.servers.slack_api import BOT, TEAM, TOKEN, SlackApi

SECRET = "shh"
GENERAL, DESK = "C0GENERAL", "C0DESK"
Json = dict[str, Any]


class SlackDesk:
    """What a test does in Slack, and waits for."""

    def __init__(self, api: SlackApi, bot: Bot, app: AsyncApp, loop: asyncio.AbstractEventLoop) -> None:
        self.api, self.bot, self.app = api, bot, app
        self._loop = loop
        self._ids = itertools.count(1)

    def wait(self, work: Coroutine[Any, Any, Any], seconds: float = 60) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def idle(self) -> None:
        """Until the bot has done all that it was asked to."""
        self.wait(self.bot.idle())

    # ── deliveries ───────────────────────────────────────────────────────────

    def deliver(
        self, body: str, content: str, *, at: float | None = None, secret: str = SECRET
    ) -> BoltResponse:
        """One signed delivery over HTTP."""
        stamp = str(int(at or time.time()))
        signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body)
        headers = {
            "content-type": content,
            "x-slack-signature": signature or "",
            "x-slack-request-timestamp": stamp,
        }
        return self.wait(self.app.async_dispatch(AsyncBoltRequest(body=body, headers=headers)))

    def event(self, event: Json, *, event_id: str = "", retry: int = 0, **more: Any) -> BoltResponse:
        body = {
            "token": "verification", "team_id": TEAM, "api_app_id": "A0APP", "type": "event_callback", "event": event,
            "event_id": event_id or f"Ev{next(self._ids):08}", "event_time": int(time.time()),
            "authorizations": [
                {"enterprise_id": None, "team_id": TEAM, "user_id": BOT, "is_bot": True, "is_enterprise_install": False}
            ],
            "is_ext_shared_channel": False, **more,
        }  # fmt: skip
        return self.deliver(json.dumps(body), "application/json")

    def message(self, user: str, text: str, channel: str = GENERAL, *, thread: str = "", **more: Any) -> Json:
        """What somebody wrote, as Slack has it; it is there, and not delivered yet."""
        ts = self.api.post(
            channel, user=user, text=text, type="message", **({"thread_ts": thread} if thread else {})
        )
        return {
            "type": "message", "user": user, "text": text, "ts": ts, "event_ts": ts, "channel": channel, "team": TEAM,
            "channel_type": "im" if channel.startswith("D") else "channel",
            **({"thread_ts": thread} if thread else {}), **more,
        }  # fmt: skip

    def mention(self, user: str, text: str, channel: str = GENERAL, *, thread: str = "") -> Json:
        """Somebody mentions the bot; both events that Slack sends of it. Returns the message."""
        said = self.message(user, f"<@{BOT}> {text}", channel, thread=thread)
        self.event({**said, "type": "app_mention"})
        self.event(said)
        self.idle()
        return said

    def direct(self, user: str, text: str, *, thread: str = "") -> Json:
        said = self.message(user, text, "D" + user[1:], thread=thread)
        self.event(said)
        self.idle()
        return said

    def command(
        self, user: str, text: str, channel: str = GENERAL, *, trigger: str = "", wait: bool = True
    ) -> BoltResponse:
        fields = {
            "token": "verification", "team_id": TEAM, "team_domain": "fern", "channel_id": channel, "channel_name": "x",
            "user_id": user, "user_name": user.lower(), "command": "/deskhand", "text": text, "api_app_id": "A0APP",
            "is_enterprise_install": "false", "response_url": f"{self.api.url}/respond/{next(self._ids)}",
            "trigger_id": trigger or f"{next(self._ids)}.trigger",
        }  # fmt: skip
        answered = self.deliver(urlencode(fields), "application/x-www-form-urlencoded")
        if wait:
            self.idle()
        return answered

    def interact(self, payload: Json) -> BoltResponse:
        body = {
            "api_app_id": "A0APP", "token": "verification", "team": {"id": TEAM, "domain": "fern"}, "enterprise": None,
            "is_enterprise_install": False, "trigger_id": f"{next(self._ids)}.trigger", **payload,
        }  # fmt: skip
        answered = self.deliver(urlencode({"payload": json.dumps(body)}), "application/x-www-form-urlencoded")
        self.idle()
        return answered

    def click(
        self, user: str, action: str, message: Json, channel: str = GENERAL, **more: Any
    ) -> BoltResponse:
        """A click on the message's button of that name; an ephemeral one has no `ts`."""
        button = find_button(message, action)
        ts, thread = message.get("ts", ""), message.get("thread_ts", "")
        return self.interact(
            {
                "type": "block_actions", "user": {"id": user, "team_id": TEAM}, "channel": {"id": channel, "name": "x"},
                "container": {
                    "type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": not ts,
                    **({"thread_ts": thread} if thread else {}),
                },
                **({"message": message} if ts else {}),
                "response_url": f"{self.api.url}/respond/{next(self._ids)}",
                "actions": [
                    {"type": "button", "action_id": action, "block_id": "b", "action_ts": str(time.time()),
                     "value": button["value"], "text": button["text"]}
                ],
                **more,
            }
        )  # fmt: skip

    def shortcut(self, user: str, name: str, message: Json, channel: str = GENERAL) -> BoltResponse:
        return self.interact(
            {
                "type": "message_action", "callback_id": name, "user": {"id": user, "team_id": TEAM},
                "channel": {"id": channel, "name": "x"}, "message": message, "message_ts": message["ts"],
                "action_ts": str(time.time()), "response_url": f"{self.api.url}/respond/{next(self._ids)}",
            }
        )  # fmt: skip

    def submit(self, user: str, view: Json, values: Json) -> BoltResponse:
        """A modal's form sent, with values by input; the other inputs as they were."""
        state: Json = {}
        for block in view["blocks"]:
            if block["type"] == "input":
                element = block["element"]
                state[block["block_id"]] = {
                    element["action_id"]: filled(element, values.get(block["block_id"]))
                }
        return self.interact(
            {
                "type": "view_submission", "user": {"id": user, "team_id": TEAM}, "response_urls": [],
                "view": {**view, "state": {"values": state}},
            }
        )  # fmt: skip

    def last_view(self) -> Json:
        return list(self.api.views.values())[-1]


@cache
def embedders(models: Path) -> Embedders:
    """One model for all bots of a run: loading it takes a second and more each time."""
    return Embedders(Settings(models=models), threads=0)


def share(assistant: Assistant) -> None:
    assistant.__dict__["embedders"] = embedders(assistant.settings.models_folder)


def filled(element: Json, value: Any) -> Json:
    kind = element["type"]
    if kind == "static_select":
        return {"type": kind, "selected_option": {"value": value} if value else element.get("initial_option")}
    if kind == "checkboxes":
        chosen = (
            [{"value": one} for one in value] if value is not None else element.get("initial_options", [])
        )
        return {"type": kind, "selected_options": chosen}
    if kind == "timepicker":
        return {"type": kind, "selected_time": value or element.get("initial_time")}
    return {"type": kind, "value": value or element.get("initial_value")}


def buttons(message: Json) -> dict[str, Json]:
    rows = [block for block in message.get("blocks") or [] if block["type"] == "actions"]
    return {one["action_id"]: one for row in rows for one in row["elements"]}


def find_button(message: Json, action: str) -> Json:
    assert action in buttons(message), f"no button {action}: {list(buttons(message))}"
    return buttons(message)[action]


def shown(message: Json) -> str:
    """All text of a message, its blocks' too."""
    return json.dumps([message.get("text"), message.get("blocks")], ensure_ascii=False)


@contextmanager
def slack_desk(
    settings: Settings,
    api: SlackApi,
    *,
    generator: BaseChatModel | None = None,
    change: Callable[[Assistant], None] | None = None,
    token: str | None = TOKEN,
    timeout: float = 60,
    **more: Any,
) -> Iterator[SlackDesk]:
    """A bot of its own against that API, as long as it runs; several can."""
    config = settings.model_copy(
        update={
            "slack_bot_token": SecretStr(token) if token else None,
            "slack_signing_secret": SecretStr(SECRET),
            "slack_api_url": f"{api.url}/api/",
            **more,
        }
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="slack-loop")
    thread.start()
    assistant = Assistant(config)
    share(assistant)
    if generator is not None:
        assistant.generators = lambda: generator
    if change:
        change(assistant)

    async def begin() -> tuple[Bot, AsyncApp]:
        bot = Bot(assistant, pace=Pace(0.01))
        bot.client.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout))
        await bot.workspaces.start(bot.client)
        return bot, application(bot)

    bot, app = asyncio.run_coroutine_threadsafe(begin(), loop).result(30)
    try:
        yield SlackDesk(api, bot, app, loop)
    finally:
        asyncio.run_coroutine_threadsafe(bot.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        assistant.close()
