"""One process's Slack bot: what it works with, and the bolt application that Slack's deliveries come to."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import structlog
from fastapi import HTTPException
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.response import BoltResponse
from slack_sdk.http_retry.builtin_async_handlers import (
    AsyncConnectionErrorRetryHandler,
    AsyncRateLimitErrorRetryHandler,
    AsyncServerErrorRetryHandler,
)
from slack_sdk.web.async_client import AsyncWebClient

from assistant.app import Assistant
from assistant.errors import DeskhandError, NotRunning
from assistant.store import slack
from assistant.surfaces.api import limits
from assistant.surfaces.slack.install import Workspaces, authorizing
from assistant.surfaces.slack.place import FAILED, Pace, Where, problem
from assistant.surfaces.slack.who import People

ANSWERS = 16
"""made at once by one process; the others wait for their turn"""
BLOCKING = 8
"""threads for what is short: the database, the broker"""
RETRIES = 2
TIMEOUT = 20
"""seconds for one call of Slack's API"""
DEAD = ("token_revoked", "token_expired", "account_inactive", "invalid_auth", "not_authed")
"""what Slack says of a token that will never be good again"""

log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")


class Busy(DeskhandError):
    """Somebody asked too often; said once a minute, then nothing."""


class Bot:
    """Made inside the event loop that it works in. `close` it."""

    def __init__(self, assistant: Assistant, *, pace: Pace | None = None) -> None:
        self.assistant = assistant
        self.settings = assistant.settings
        self.answers = ThreadPoolExecutor(ANSWERS, "answer")
        self._blocking = ThreadPoolExecutor(BLOCKING, "slack")
        self.pace = pace or Pace()
        self.people = People(assistant, self.run)
        self.workspaces = Workspaces(assistant, self.run)
        # It logs bodies of requests at lower levels: people's texts.
        self.logger = logging.getLogger("slack")
        self.logger.setLevel(logging.ERROR)
        self.client = AsyncWebClient(
            base_url=self.settings.slack_api_url,
            timeout=TIMEOUT,
            logger=self.logger,
            retry_handlers=[
                AsyncConnectionErrorRetryHandler(max_retry_count=RETRIES),
                AsyncRateLimitErrorRetryHandler(max_retry_count=RETRIES),
                AsyncServerErrorRetryHandler(max_retry_count=RETRIES),
            ],
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def run(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """A function that blocks, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._blocking, partial(function, *args, **more))

    def client_of(self, workspace: slack.Workspace) -> AsyncWebClient:
        """For what is said unasked."""
        return AsyncWebClient(
            token=workspace.token,
            base_url=self.client.base_url,
            timeout=TIMEOUT,
            logger=self.logger,
            retry_handlers=self.client.retry_handlers,
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that outlives its delivery, which Slack waits three seconds for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def idle(self) -> None:
        """Wait until nothing is worked on any more."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def turn(self, *key: str) -> asyncio.Lock:
        """Held by whoever answers in a thread: a follow-up waits for the answer that it follows."""
        return self._turns.setdefault(key, asyncio.Lock())

    async def first(self, team: str, key: str) -> bool:
        """Whether this delivery was not taken up before, in any process. Raises `NotRunning`."""
        return await self.run(self._claim, team, key)

    def _claim(self, team: str, key: str) -> bool:
        with self.assistant.database.writer() as connection:
            return slack.claim(connection, team, key)

    async def count(self, who: str) -> None:
        """Raises `Busy` for somebody who asked too often within a minute."""
        try:
            await self.run(limits.count, self.settings, "questions", who)
        except HTTPException as error:
            raise Busy(str(error.detail)) from None

    async def once_a_minute(self, what: str, who: str) -> bool:
        """Whether somebody was not told this within a minute."""

        def first() -> bool:
            broker = limits.client(limits.servers.redis_url(self.settings))
            return bool(broker.set(f"deskhand:slack:{what}:{who}", 1, nx=True, ex=60))

        try:
            return await self.run(first)
        except Exception as error:  # a notice too many does no harm
            log.warning("slack.notice", error=type(error).__name__)
            return True

    async def trouble(self, where: Where, error: Exception) -> str:
        """What to tell of an error; what can't be told is logged. Empty: nothing is to be said."""
        if isinstance(error, Busy):
            told = await self.once_a_minute("busy", f"{where.team}:{where.user}")
            return str(error) if told else ""
        if isinstance(error, DeskhandError):
            if isinstance(error, NotRunning):
                log.warning("slack.not_running", reason=str(error))
                return "Deskhand can't reach its database at the moment. Nothing was lost; try again in a moment."
            return str(error)
        if isinstance(error, FAILED):
            log.warning("slack.api", error=problem(error), team=where.team)
            if problem(error) in DEAD:
                await self.workspaces.remove(where.team)
            return ""
        log.error("slack.unforeseen", error=type(error).__name__, exc_info=error)
        return "An error that Deskhand did not foresee. Nothing that was stored is lost; try again."

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.answers.shutdown(wait=False, cancel_futures=True)
        self._blocking.shutdown(wait=False, cancel_futures=True)
        if self.client.session is not None:
            await self.client.session.close()


def application(bot: Bot) -> AsyncApp:
    """What deliveries are dispatched to, signed over HTTP or by Socket Mode."""
    from assistant.surfaces.slack import (
        actions,
        alerts,
        channels,
        commands,
        events,
        handovers,
        home,
        shortcuts,
    )  # fmt: skip

    secret = bot.settings.slack_signing_secret
    app = AsyncApp(
        logger=bot.logger,
        name="deskhand",
        client=bot.client,
        # Without a secret nothing over HTTP is let in.
        signing_secret=secret.get_secret_value() if secret else secrets.token_hex(32),
        authorize=authorizing(bot.workspaces),
        user_facing_authorize_error_message=(
            "Deskhand is not installed in this workspace, or no longer. Nothing was lost; ask whoever runs it."
        ),
    )
    for part in (events, commands, shortcuts, actions, handovers, channels, home, alerts):
        part.register(app, bot)

    @app.error
    async def failed(error: Exception) -> BoltResponse:
        log.error("slack.listener", error=type(error).__name__, exc_info=error)
        return BoltResponse(status=200, body="")

    _ = failed
    return app
