"""Workspaces: the one whose token the settings name, and those that installed the app themselves.

Whoever reaches the installation's page can install the app in a workspace of their own, where they
may give themselves any address. So a workspace gets public material alone until an admin
allows it (`deskhand slack allow`).
"""

from __future__ import annotations

import html
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from logging import Logger
from typing import Any

from slack_bolt import BoltResponse
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.context.async_context import AsyncBoltContext
from slack_bolt.error import BoltError
from slack_bolt.oauth.async_callback_options import (
    AsyncCallbackOptions,
    AsyncFailureArgs,
    AsyncSuccessArgs,
)
from slack_bolt.oauth.async_oauth_flow import AsyncOAuthFlow
from slack_bolt.oauth.async_oauth_settings import AsyncOAuthSettings
from slack_sdk.oauth.installation_store import Installation
from slack_sdk.oauth.installation_store.async_installation_store import AsyncInstallationStore
from slack_sdk.oauth.state_store.async_state_store import AsyncOAuthStateStore
from slack_sdk.web.async_client import AsyncWebClient

from assistant import servers
from assistant.app import Assistant
from assistant.config import Settings
from assistant.store import slack
from assistant.store.slack import Workspace
from assistant.surfaces.api import limits
from assistant.surfaces.slack.who import Run

KEPT_SECONDS = 60
"""how long a workspace's row is not read again: so late is it noticed that it was allowed or removed elsewhere"""
STATE_SECONDS = 600
INSTALL, CALLBACK, EVENTS = "/slack/install", "/slack/oauth_redirect", "/slack/events"


def manifest(url: str = "") -> dict[str, Any]:
    """What a company creates its Slack app from: for Socket Mode or, with our address, for HTTP."""
    made: dict[str, Any] = json.loads(
        (files("assistant.surfaces.slack") / "manifest.json").read_text(encoding="utf-8")
    )
    if url:
        base = url.rstrip("/")
        made["settings"]["socket_mode_enabled"] = False
        made["settings"]["event_subscriptions"]["request_url"] = base + EVENTS
        made["settings"]["interactivity"]["request_url"] = base + EVENTS
        made["features"]["slash_commands"][0]["url"] = base + EVENTS
        made["oauth_config"]["redirect_urls"] = [base + CALLBACK]
    return made


class Workspaces:
    """Which workspaces there are, and their tokens."""

    def __init__(self, assistant: Assistant, run: Run) -> None:
        self._assistant = assistant
        self._run = run
        self._own: Workspace | None = None
        self._kept: dict[str, tuple[float, Workspace | None]] = {}

    async def start(self, client: AsyncWebClient) -> None:
        """Ask Slack whose token the settings name. Raises what `FAILED` lists."""
        token = self._assistant.settings.slack_bot_token
        if token is None:
            return
        told = await client.auth_test(token=token.get_secret_value())
        self._own = Workspace(
            team=str(told["team_id"]),
            enterprise=told.get("enterprise_id") or "",
            name=told.get("team") or "",
            token=token.get_secret_value(),
            bot=told.get("bot_id") or "",
            bot_user=str(told["user_id"]),
            allowed=True,
        )

    async def find(self, team: str) -> Workspace | None:
        if self._own and team == self._own.team:
            return self._own
        kept = self._kept.get(team)
        if kept and time.monotonic() - kept[0] < KEPT_SECONDS:
            return kept[1]
        found = await self._run(self._read, team)
        if len(self._kept) > 1_000:
            self._kept.clear()
        self._kept[team] = (time.monotonic(), found)
        return found

    def forget(self, team: str) -> None:
        """Read its row again."""
        self._kept.pop(team, None)

    async def remove(self, team: str) -> None:
        """Its token is of no use any more."""
        self.forget(team)
        await self._run(self._drop, team)

    def _read(self, team: str) -> Workspace | None:
        with self._assistant.database.writer() as connection:
            return slack.workspace(connection, self._assistant.settings, team)

    def _drop(self, team: str) -> None:
        with self._assistant.database.writer() as connection:
            if slack.workspace(connection, self._assistant.settings, team) is not None:
                slack.remove(connection, team)

    async def save(self, made: Installation) -> None:
        self.forget(made.team_id or "")
        await self._run(self._write, made)

    def _write(self, made: Installation) -> None:
        with self._assistant.database.writer() as connection:
            slack.save_workspace(
                connection,
                self._assistant.settings,
                team=made.team_id or "",
                enterprise=made.enterprise_id or "",
                name=made.team_name or "",
                token=made.bot_token or "",
                bot=made.bot_id or "",
                bot_user=made.bot_user_id or "",
            )


def authorizing(workspaces: Workspaces) -> Callable[..., Awaitable[Any]]:
    """For bolt: with which token a request is answered; None where the app is not installed."""

    async def authorize(context: AsyncBoltContext, enterprise_id: str | None, team_id: str | None) -> Any:
        found = await workspaces.find(team_id) if team_id else None
        if found is None:
            return None
        context["workspace"] = found
        return AuthorizeResult(
            enterprise_id=enterprise_id,
            team_id=found.team,
            bot_id=found.bot,
            bot_user_id=found.bot_user,
            bot_token=found.token,
        )

    return authorize


class _Store(AsyncInstallationStore):
    """For the flow, which only saves; tokens are looked up by `authorizing`."""

    def __init__(self, workspaces: Workspaces, logger: Logger) -> None:
        self._workspaces = workspaces
        self._logger = logger

    @property
    def logger(self) -> Logger:
        return self._logger

    async def async_save(self, installation: Installation) -> None:
        if not (installation.team_id and installation.bot_token):
            raise BoltError("it can be installed in a workspace, not in a whole organisation")
        await self._workspaces.save(installation)


class _States(AsyncOAuthStateStore):
    """A state is good for one return, in whatever process."""

    def __init__(self, settings: Settings, run: Run, logger: Logger) -> None:
        self._settings = settings
        self._run = run
        self._logger = logger

    @property
    def logger(self) -> Logger:
        return self._logger

    async def async_issue(self, *args: Any, **kwargs: Any) -> str:
        state = secrets.token_urlsafe(24)
        await self._run(self._broker().set, _state(state), 1, ex=STATE_SECONDS)
        return state

    async def async_consume(self, state: str) -> bool:
        return bool(await self._run(self._broker().delete, _state(state)))

    def _broker(self) -> Any:
        return limits.client(servers.redis_url(self._settings))


def _state(state: str) -> str:
    return f"deskhand:slack:state:{state}"


def flow(workspaces: Workspaces, settings: Settings, client: AsyncWebClient, run: Run) -> AsyncOAuthFlow:
    """The way by which a workspace installs the app."""
    assert settings.slack_client_secret is not None  # noqa: S101 - whoever calls this looked
    logger = client.logger
    return AsyncOAuthFlow(
        client=client,
        logger=logger,
        settings=AsyncOAuthSettings(
            client_id=settings.slack_client_id,
            client_secret=settings.slack_client_secret.get_secret_value(),
            scopes=manifest()["oauth_config"]["scopes"]["bot"],
            user_scopes=[],
            redirect_uri=settings.web_url.rstrip("/") + CALLBACK if settings.web_url else None,
            install_path=INSTALL,
            redirect_uri_path=CALLBACK,
            authorization_url=settings.slack_api_url.replace("/api/", "/oauth/v2/authorize"),
            callback_options=AsyncCallbackOptions(success=_installed, failure=_failed),
            installation_store=_Store(workspaces, logger),
            installation_store_bot_only=True,
            state_store=_States(settings, run, logger),
            state_expiration_seconds=STATE_SECONDS,
            logger=logger,
        ),
    )


async def _installed(args: AsyncSuccessArgs) -> BoltResponse:
    team = args.installation.team_id or ""
    return _page(
        200,
        "Deskhand is installed",
        f"It answers from public material until whoever runs it allows this workspace: deskhand slack allow {team}",
    )


async def _failed(args: AsyncFailureArgs) -> BoltResponse:
    return _page(
        args.suggested_status_code,
        "Deskhand was not installed",
        f"{args.error or args.reason}. Nothing was changed; begin again at {INSTALL}.",
    )


def _page(status: int, title: str, said: str) -> BoltResponse:
    body = (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(said)}</p>"
    )
    return BoltResponse(status=status, body=body, headers={"Content-Type": "text/html; charset=utf-8"})
