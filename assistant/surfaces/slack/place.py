"""Where something was said in Slack, and how fast one may speak there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from slack_bolt.context.async_context import AsyncBoltContext
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from assistant.store.slack import Workspace

APART = 1.05
"""seconds between two messages, or edits, in one channel: Slack allows about one a second"""
KEPT = 2_000
"""channels whose last message is remembered"""


@dataclass(frozen=True, slots=True)
class Where:
    """A place and who spoke there, with the client that may answer."""

    client: AsyncWebClient
    workspace: Workspace
    channel: str
    user: str
    thread: str = ""
    """the message that the thread hangs on; empty outside of one"""
    response_url: str = ""
    """for answers that one person sees; used five times at most, within half an hour"""

    @property
    def team(self) -> str:
        return self.workspace.team

    @property
    def alone(self) -> bool:
        """Whether it is a conversation of the bot and one person."""
        return self.channel.startswith("D")

    @property
    def owner(self) -> str:
        """The id under which the channel itself asks."""
        return f"slack:{self.team}:{self.channel}".lower()

    def in_thread(self, thread: str) -> Where:
        return replace(self, thread=thread)


def place(context: AsyncBoltContext, body: Mapping[str, Any]) -> Where:
    """Of an event, a command, a click or a shortcut."""
    client = context.client
    assert client is not None, "bolt makes one a request"  # noqa: S101 - states an invariant
    container: Mapping[str, Any] = body.get("container") or {}
    message: Mapping[str, Any] = body.get("message") or {}
    return Where(
        client,
        context["workspace"],
        context.channel_id or container.get("channel_id") or "",
        context.user_id or "",
        context.thread_ts or container.get("thread_ts") or message.get("thread_ts") or "",
        context.response_url or "",
    )


FAILED = (SlackApiError, aiohttp.ClientError, TimeoutError)
"""how a call of Slack's API ends that did not work: refused, unreachable, or without an answer in time"""


def problem(error: BaseException) -> str:
    """What was wrong, in Slack's word where it has one."""
    if not isinstance(error, SlackApiError):
        return type(error).__name__
    try:
        return str(error.response["error"])
    except (KeyError, TypeError, AttributeError):
        return "unknown"


class Pace:
    """Keeps what one process says in a channel apart; the others are held off by Slack's own limit."""

    def __init__(self, apart: float = APART) -> None:
        self._apart = apart
        self._next: dict[tuple[str, str], float] = {}

    @asynccontextmanager
    async def turn(self, where: Where) -> AsyncGenerator[None]:
        """Wait until something may be said there."""
        key = (where.team, where.channel)
        now = time.monotonic()
        at = max(now, self._next.get(key, 0.0))
        self._next[key] = at + self._apart
        if len(self._next) > KEPT:
            self._next = {k: t for k, t in self._next.items() if t > now}
        await asyncio.sleep(at - now)
        yield
