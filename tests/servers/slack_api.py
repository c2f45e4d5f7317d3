"""Slack's Web API as far as the bot uses it, over HTTP: it keeps what was said, and refuses what Slack refuses.

What a method takes is read from the SDK's own signatures, so an argument that Slack doesn't know fails
here as well. Blocks are held to Slack's limits. A test can make the next calls fail.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from slack_sdk.web.async_client import AsyncWebClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

TEAM, BOT, BOT_ID, TOKEN = "T0FERN", "U0BOT", "B0BOT", "xoxb-fern"
OF_BODY = ("token", "files", "snippet_type", "alt_txt", "length", "team_id")
"""arguments that the SDK adds by itself"""
SDK_NAMES = {"views.publish": "views_publish"}
HANGS = 598
"""a status of `fail`: no answer in time"""
Json = dict[str, Any]


class Refused(Exception):
    pass


class SlackApi:
    """One workspace."""

    def __init__(self) -> None:
        self.users: dict[str, Json] = {}
        self.members: dict[str, list[str]] = {}
        self.channels: dict[str, Json] = {}
        self.messages: dict[tuple[str, str], Json] = {}
        self.ephemeral: list[Json] = []
        self.responses: list[Json] = []
        """what came to response addresses"""
        self.views: dict[str, Json] = {}
        self.homes: dict[str, Json] = {}
        self.prompts: list[Json] = []
        self.statuses: list[Json] = []
        self.snippets: list[str] = []
        self.calls: list[tuple[str, Json, float]] = []
        self.faults: dict[str, list[tuple[int, Json, dict[str, str]]]] = {}
        """by method, what the next calls are answered with"""
        self.streams = True
        self.streams_close_by_themselves = False
        """as they do after some minutes, without a word"""
        self.url = ""
        self._ids = itertools.count(1)

    def person(self, user: str, email: str = "", **more: Any) -> None:
        profile = {"email": email} if email else {}
        self.users[user] = {
            "id": user, "team_id": TEAM, "tz": "Europe/Berlin", "is_email_confirmed": True, "profile": profile, **more
        }  # fmt: skip

    def fail(self, method: str, error: str, *, times: int = 1, status: int = 200, after: int = 0) -> None:
        headers = {"Retry-After": str(after)} if status == 429 else {}
        self.faults.setdefault(method, []).extend([(status, {"ok": False, "error": error}, headers)] * times)

    def said(self, channel: str = "") -> list[Json]:
        """Messages that are there, in the order they were posted."""
        found = sorted(self.messages.items(), key=lambda item: float(item[0][1]))
        return [message for (where, _), message in found if channel in ("", where)]

    def whispers(self) -> list[Json]:
        return [*self.ephemeral, *self.responses]

    def everything(self) -> str:
        """All that anybody was sent, to be searched."""
        kept = [
            self.said(),
            self.whispers(),
            list(self.views.values()),
            list(self.homes.values()),
            self.prompts,
        ]
        return json.dumps(kept, ensure_ascii=False)

    def shared(self) -> str:
        """All that stands in channels."""
        return json.dumps(
            [m for (c, _), m in self.messages.items() if not c.startswith("D")], ensure_ascii=False
        )

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.calls]

    # ── what a call does ─────────────────────────────────────────────────────

    def call(self, method: str, given: Json) -> Json:
        known(method, given)
        if "blocks" in given:
            check_blocks(given["blocks"], 50)
        if "view" in given:
            check_view(given["view"])
        handler = getattr(self, "on_" + method.replace(".", "_"), None)
        if handler is None:
            raise Refused("unknown_method")
        return handler(given) or {}

    def on_auth_test(self, _: Json) -> Json:
        return {
            "team_id": TEAM,
            "team": "Fernhill",
            "user_id": BOT,
            "bot_id": BOT_ID,
            "url": "https://f.slack.test/",
        }

    def on_users_info(self, given: Json) -> Json:
        if given["user"] not in self.users:
            raise Refused("user_not_found")
        return {"user": self.users[given["user"]]}

    def on_conversations_members(self, given: Json) -> Json:
        if given["channel"] not in self.members:
            raise Refused("channel_not_found")
        first, most = int(given.get("cursor") or 0), int(given["limit"])
        after, whole = first + most, self.members[given["channel"]]
        return {
            "members": whole[first:after],
            "response_metadata": {"next_cursor": str(after) if after < len(whole) else ""},
        }

    def on_conversations_info(self, given: Json) -> Json:
        return {"channel": {"id": given["channel"], **self.channels.get(given["channel"], {})}}

    def on_conversations_open(self, given: Json) -> Json:
        return {"channel": {"id": "D" + given["users"][1:]}}

    def on_conversations_replies(self, given: Json) -> Json:
        found = [
            message for message in self.said(given["channel"])
            if given["ts"] in (message["ts"], message.get("thread_ts"))
        ]  # fmt: skip
        if not found:
            raise Refused("thread_not_found")
        return {"messages": found}

    def ts(self) -> str:
        return f"{int(time.time())}.{next(self._ids):06}"

    def post(self, channel: str, **more: Any) -> str:
        """A message that is there already."""
        ts = more.pop("ts", None) or self.ts()
        self.messages[channel, ts] = {"ts": ts, "channel": channel, **more}
        return ts

    def on_chat_postMessage(self, given: Json) -> Json:
        channel = given["channel"]
        if self.channels.get(channel, {}).get("is_archived"):
            raise Refused("is_archived")
        if len(given.get("text") or "") > 40_000:
            raise Refused("msg_too_long")
        ts = self.post(channel, user=BOT, bot_id=BOT_ID, **{k: v for k, v in given.items() if k != "channel"})
        return {"ts": ts, "channel": channel}

    def on_chat_update(self, given: Json) -> Json:
        message = self._mine(given)
        if message.get("streaming") and not self.streams_close_by_themselves:
            raise Refused("streaming_state_conflict")
        message |= {k: v for k, v in given.items() if k in ("text", "blocks")}
        message["edits"] = message.get("edits", 0) + 1
        return {"ts": given["ts"]}

    def on_chat_delete(self, given: Json) -> None:
        self._mine(given)
        del self.messages[given["channel"], given["ts"]]

    def on_chat_postEphemeral(self, given: Json) -> Json:
        self.ephemeral.append(given)
        return {"message_ts": self.ts()}

    def on_chat_startStream(self, given: Json) -> Json:
        if not self.streams:
            raise Refused("unknown_method")
        if not given.get("thread_ts"):
            raise Refused("missing_thread_ts")
        if not given["channel"].startswith("D") and not (
            given.get("recipient_user_id") and given.get("recipient_team_id")
        ):
            raise Refused("missing_recipient_user_id")
        if self.channels.get(given["channel"], {}).get("is_archived"):
            raise Refused("is_archived")
        said = given.get("markdown_text") or ""
        ts = self.post(
            given["channel"], user=BOT, bot_id=BOT_ID, text=said, thread_ts=given["thread_ts"], streaming=True
        )
        return {"ts": ts}

    def on_chat_appendStream(self, given: Json) -> Json:
        message = self._streaming(given)
        message["text"] += given["markdown_text"]
        return {"ts": given["ts"]}

    def on_chat_stopStream(self, given: Json) -> Json:
        message = self._streaming(given)
        message["text"] += given.get("markdown_text") or ""
        message |= {"streaming": False, "streamed": True, "blocks": given.get("blocks") or []}
        return {"ts": given["ts"]}

    def _streaming(self, given: Json) -> Json:
        message = self._mine(given)
        if not message.get("streaming"):
            raise Refused("message_not_in_streaming_state")
        if len(given.get("markdown_text") or "") > 12_000:
            raise Refused("msg_too_long")
        return message

    def _mine(self, given: Json) -> Json:
        if (given["channel"], given["ts"]) not in self.messages:
            raise Refused("message_not_found")
        return self.messages[given["channel"], given["ts"]]

    def on_assistant_threads_setStatus(self, given: Json) -> None:
        self.statuses.append(given)

    def on_assistant_threads_setSuggestedPrompts(self, given: Json) -> None:
        self.prompts.append(given)

    def on_views_open(self, given: Json) -> Json:
        view = {**given["view"], "id": f"V{next(self._ids)}"}
        self.views[view["id"]] = view
        return {"view": view}

    def on_views_update(self, given: Json) -> Json:
        view = {**given["view"], "id": given["view_id"]}
        self.views[view["id"]] = view
        return {"view": view}

    def on_views_publish(self, given: Json) -> None:
        self.homes[given["user_id"]] = given["view"]

    def on_files_getUploadURLExternal(self, _: Json) -> Json:
        return {"upload_url": f"{self.url}/upload", "file_id": f"F{next(self._ids)}"}

    def on_files_completeUploadExternal(self, given: Json) -> Json:
        return {"files": given["files"]}

    def on_oauth_v2_access(self, given: Json) -> Json:
        if given.get("code") != "good":
            raise Refused("invalid_code")
        return {
            "access_token": "xoxb-other", "bot_user_id": "U0OTHER", "scope": "commands", "app_id": "A1",
            "team": {"id": "T0OTHER", "name": "Other"}, "enterprise": None, "authed_user": {"id": "U0ADMIN"},
        }  # fmt: skip


def known(method: str, given: Json) -> None:
    """Refuses an argument that the SDK's own function for the method doesn't have."""
    function = getattr(AsyncWebClient, method.replace(".", "_"), None)
    if function is None:
        return
    names = {*inspect.signature(function).parameters, *OF_BODY}
    strange = set(given) - names
    if strange and not method.startswith("files."):
        raise Refused(f"invalid_arguments: {sorted(strange)}")


def check_blocks(blocks: list[Json], most: int) -> None:
    """Slack's limits, as its documentation states them."""
    assert len(blocks) <= most, f"{len(blocks)} blocks"
    for block in blocks:
        kind = block["type"]
        if kind == "section":
            assert 0 < len(block["text"]["text"]) <= 3000, "text of a section"
        elif kind == "context":
            assert 0 < len(block["elements"]) <= 10
            assert all(0 < len(one["text"]) <= 3000 for one in block["elements"])
        elif kind == "actions":
            assert 0 < len(block["elements"]) <= 25
            names = [one["action_id"] for one in block["elements"]]
            assert len(names) == len(set(names)), "two buttons of one name"
            for one in block["elements"]:
                assert len(one["text"]["text"]) <= 75
                assert len(one.get("value", "")) <= 2000
        elif kind == "header":
            assert 0 < len(block["text"]["text"]) <= 150
        elif kind == "input":
            assert len(block["label"]["text"]) <= 2000
        else:
            assert kind == "divider", kind
        for text in texts(block):
            if text["type"] == "mrkdwn":
                assert "<!" not in text["text"], "nobody is notified"


def texts(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        if value.get("type") in ("mrkdwn", "plain_text"):
            yield value
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


def check_view(view: Json) -> None:
    check_blocks(view["blocks"], 100)
    if view["type"] == "modal":
        assert len(view["title"]["text"]) <= 24
        assert len(view.get("private_metadata", "")) <= 3000


@contextmanager
def slack_api() -> Iterator[SlackApi]:
    """The API on a port of its own; its state can be looked at and changed meanwhile."""
    api = SlackApi()

    async def method(request: Request) -> Response:
        name = request.path_params["method"]
        given = await arguments(request)
        api.calls.append((name, given, time.monotonic()))
        if api.faults.get(name):
            status, body, headers = api.faults[name].pop(0)
            if status == HANGS:
                await asyncio.sleep(3)
            return JSONResponse(body, status, headers)
        try:
            return JSONResponse({"ok": True, **api.call(name, given)})
        except Refused as error:
            return JSONResponse({"ok": False, "error": str(error)})
        except AssertionError as error:
            return JSONResponse({"ok": False, "error": f"invalid_blocks: {error}"})

    async def respond(request: Request) -> Response:
        body = await request.json()
        check_blocks(body.get("blocks") or [], 50)
        api.responses.append(body)
        return PlainTextResponse("ok")

    async def upload(request: Request) -> Response:
        api.snippets.append((await request.body()).decode(errors="replace"))
        return PlainTextResponse("OK")

    app = Starlette(
        routes=[
            Route("/api/{method}", method, methods=["GET", "POST"]),
            Route("/respond/{id}", respond, methods=["POST"]),
            Route("/upload", upload, methods=["POST"]),
        ]
    )
    with served(app) as api.url:
        yield api


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Its address, while it listens in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


async def arguments(request: Request) -> Json:
    """Of a call in whichever of the forms that the SDK sends; JSON inside of a form is read, too."""
    if request.headers.get("content-type", "").startswith("application/json"):
        return await request.json()
    form = dict(request.query_params) | dict(await request.form())
    made: Json = {}
    for name, value in form.items():
        text = str(value)
        made[name] = json.loads(text) if name in ("blocks", "view", "files") and text[:1] in "[{" else text
    if "limit" in made:
        made["limit"] = int(made["limit"])
    return made
