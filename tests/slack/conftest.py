"""The bot's own process against emulators of Slack that others made; `make test-slack` installs and runs them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import yaml
from playwright.sync_api import Page, sync_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from assistant.config import PREFIX, Settings
from tests.browser.conftest import FLAGS
from tests.servers.ports import free_port
from tests.servers.slack_api import served
from tests.servers.test_history import AGENT, LEAD

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / ".venv/slack/node_modules"
TEAM, BOT, TOKEN, APP_TOKEN, SECRET = "T0FERN", "U0BOT", "xoxb-fern", "xapp-fern", "shh"
ANA, LEE, BOSS = "U0ANA", "U0LEE", "U0BOSS"
GENERAL, DESK = "C0GENERAL", "C0DESK"
Json = dict[str, Any]


def soon(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"{what} did not happen"
        time.sleep(0.1)
    return found


class LocalSlack:
    """local-slack, driven by its control API and the socket of its page."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, **body: Any) -> Json:
        return httpx.post(f"{self.url}/_control/{path}", json=body, timeout=30).raise_for_status().json()

    def log(self) -> list[Json]:
        return httpx.get(f"{self.url}/_control/log").json()["log"]

    def messages(self, channel: str) -> list[Json]:
        return httpx.get(f"{self.url}/_control/messages/{channel}").json()["messages"]

    def of_bot(self, channel: str, *, ephemeral: bool = False) -> list[Json]:
        return [
            one
            for one in self.messages(channel)
            if one.get("user") == BOT and (one.get("subtype") == "ephemeral") is ephemeral
        ]

    def say(self, user: str, text: str, channel: str = GENERAL, thread: str = "") -> Json:
        more = {"thread_ts": thread} if thread else {}
        return self.post("message", channel=channel, user=user, text=text, **more)["message"]

    def command(self, user: str, text: str, channel: str = GENERAL) -> None:
        self.post("command", channel=channel, user=user, command="/deskhand", text=text)

    def click(self, user: str, action: str, message: Json) -> None:
        button = next(
            one
            for block in message["blocks"]
            if block["type"] == "actions"
            for one in block["elements"]
            if one["action_id"] == action
        )
        self.post("interact", channel=message["channel"], messageTs=message["ts"], user=user, action=button)

    def view(self) -> Json:
        """The modal that was opened last, as it is now."""
        shown = [
            one["detail"]["view"] for one in self.log() if one["summary"] in ("views.open", "views.update")
        ]
        return shown[-1]

    def submit(self, user: str, **changed: Json) -> None:
        """The open modal's form, whole, as Slack sends it; `changed`: what the person filled in, by input."""
        values: Json = {}
        for block in self.view()["blocks"]:
            if block["type"] == "input":
                element, name = block["element"], block["block_id"]
                told: Json = {"type": element["type"]}
                for kind in ("option", "options", "time", "value"):
                    if f"initial_{kind}" in element:
                        key = "value" if kind == "value" else f"selected_{kind}"
                        told[key] = element[f"initial_{kind}"]
                values[name] = {element["action_id"]: changed.get(name, told)}

        async def send() -> None:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(self.url.replace("http", "ws") + "/ui") as socket,
            ):
                await socket.receive()
                await socket.send_str(json.dumps({"t": "view_submit", "user": user, "values": values}))
                await asyncio.sleep(1)

        asyncio.run(send())


@contextmanager
def page(slack: LocalSlack) -> Iterator[Page]:
    """The emulator's own page, as a person sees it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        shown = browser.new_page(viewport={"width": 1280, "height": 1000})
        shown.goto(slack.url)
        shown.wait_for_load_state("load")
        yield shown
        browser.close()


def installed(path: str) -> Path:
    found = FOLDER / path
    if not found.exists():
        pytest.skip("the emulators of Slack are not installed: `make test-slack` does that")
    return found


@contextmanager
def child(
    command: list[str], log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=PROJECT)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(15)


@contextmanager
def local_slack(folder: Path, *, mode: str, request_url: str = "") -> Iterator[LocalSlack]:
    """`mode`: socket or events."""
    program, port = installed("local-slack-linux-x64/bin/local-slack"), free_port()
    config = {
        "workspace": {"name": "Fernhill", "domain": "fern", "teamId": TEAM},
        "app": {
            "appId": "A0APP", "botUserId": BOT, "botName": "deskhand", "botToken": TOKEN, "appToken": APP_TOKEN,
            "signingSecret": SECRET, "mode": mode, **({"requestUrl": request_url} if request_url else {}),
        },
        "users": [
            {"id": ANA, "name": "ana", "email": AGENT.id},
            {"id": LEE, "name": "lee", "email": LEAD.id},
            {"id": BOSS, "name": "boss", "email": "boss@x"},
        ],
        "channels": [
            {"id": GENERAL, "name": "general", "members": [ANA, LEE, BOSS, BOT]},
            {"id": DESK, "name": "desk", "members": [ANA, LEE, BOSS, BOT]},
        ],
    }  # fmt: skip
    file = folder / "local-slack.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    with child([str(program), "--config", str(file), "--port", str(port)], folder / "local-slack.log"):
        made = LocalSlack(f"http://localhost:{port}")
        soon(lambda: answers(f"{made.url}/_control/state"), "the emulator's start")
        yield made


@contextmanager
def confirming(url: str) -> Iterator[str]:
    """The Web API at `url` with the one thing that local-slack leaves out: whether an address is confirmed."""

    async def call(request: Request) -> Response:
        headers = {
            name: request.headers[name]
            for name in ("authorization", "content-type")
            if name in request.headers
        }
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            answer = await client.request(
                request.method,
                request.url.path,
                params=dict(request.query_params),
                content=await request.body(),
                headers=headers,
            )
        told = answer.json()
        if request.url.path.endswith("/users.info") and told["ok"]:
            told["user"]["is_email_confirmed"] = True
        return JSONResponse(told, answer.status_code)

    with served(Starlette(routes=[Route("/api/{method}", call, methods=["GET", "POST"])])) as address:
        yield f"{address}/api/"


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code < 500
    except httpx.HTTPError:
        return False


@contextmanager
def bot(settings: Settings, folder: Path, **more: str) -> Iterator[None]:
    """The process that `deskhand up` runs."""
    values = {
        "state": str(settings.state),
        "models": str(settings.models_folder),
        "generator": "echo",
        **more,
    }
    for name in ("database_url", "redis_url"):
        secret = getattr(settings, name)
        assert secret is not None
        values[name] = secret.get_secret_value()
    env = {**os.environ, **{PREFIX + name.upper(): value for name, value in values.items()}}
    log = folder / "bot.log"
    with child([sys.executable, "-m", "assistant.surfaces.slack.serve"], log, env) as process:
        soon(lambda: b"slack.started" in log.read_bytes() or process.poll() is not None, "the bot's start")
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield
