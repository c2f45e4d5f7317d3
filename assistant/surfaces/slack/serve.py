"""Runs the Slack bot: `python -m assistant.surfaces.slack.serve`."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, suppress

import aiohttp
import structlog
import uvicorn
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.adapter.starlette.async_handler import (
    AsyncSlackRequestHandler,
    to_async_bolt_request,
    to_starlette_response,
)
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.oauth.async_oauth_flow import AsyncOAuthFlow
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from assistant.app import Assistant
from assistant.config import Settings, settings
from assistant.errors import ConfigError
from assistant.log import configure
from assistant.surfaces.slack import alerts, check
from assistant.surfaces.slack.bot import Bot, application
from assistant.surfaces.slack.install import CALLBACK, EVENTS, INSTALL, flow
from assistant.surfaces.slack.place import FAILED, problem

BODY = 2**20
"""bytes of a request; Slack's are far smaller"""
ENDING_SECONDS = 3.0
"""for answers that are nearly done, when it is told to stop"""

log = structlog.get_logger()


def web(bot: Bot, app: AsyncApp) -> Starlette:
    """What is reachable over HTTP: deliveries where there is a secret to check them by, installing where allowed."""
    handler = AsyncSlackRequestHandler(app)
    config = bot.settings
    routes: list[Route] = []

    async def events(request: Request) -> Response:
        if int(request.headers.get("content-length") or 0) > BODY:
            return PlainTextResponse("larger than anything Slack sends", 413)
        return await handler.handle(request)

    if config.slack_signing_secret:
        routes.append(Route(EVENTS, events, methods=["POST"]))
    if config.slack_client_id and config.slack_client_secret:
        made = flow(bot.workspaces, config, bot.client, bot.run)
        routes += [Route(INSTALL, _installing(made)), Route(CALLBACK, _returning(made))]
    return Starlette(routes=routes)


def _installing(made: AsyncOAuthFlow):
    async def install(request: Request) -> Response:
        return to_starlette_response(await made.handle_installation(to_async_bolt_request(request, b"")))

    return install


def _returning(made: AsyncOAuthFlow):
    async def returned(request: Request) -> Response:
        return to_starlette_response(await made.handle_callback(to_async_bolt_request(request, b"")))

    return returned


async def run(config: Settings, stop: asyncio.Event) -> None:
    """Until `stop`. Raises `ConfigError` where Slack refuses what the settings say."""
    async with AsyncExitStack() as stack:
        assistant = Assistant(config)
        stack.callback(assistant.close)
        bot = Bot(assistant)
        stack.push_async_callback(bot.close)
        bot.client.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=bot.client.timeout))
        try:
            await bot.workspaces.start(bot.client)
        except FAILED as error:
            raise ConfigError(
                f"Slack can't be reached, or refuses DESKHAND_SLACK_BOT_TOKEN ({problem(error)}). Nothing was lost; "
                "it is tried again."
            ) from error
        app = application(bot)
        if config.slack_app_token:
            socket = AsyncSocketModeHandler(app, config.slack_app_token.get_secret_value())
            stack.push_async_callback(socket.close_async)
            await socket.connect_async()
        if config.slack_port:
            await stack.enter_async_context(_Server(web(bot, app), config))
        watching = asyncio.create_task(alerts.watch(bot))
        stack.callback(watching.cancel)
        log.info("slack.started", socket=bool(config.slack_app_token), port=config.slack_port)
        await stop.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(bot.idle(), ENDING_SECONDS)


class _Server:
    """uvicorn inside a loop that is ours."""

    def __init__(self, app: Starlette, config: Settings) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=config.web_host,
                port=config.slack_port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._serving = asyncio.create_task(self._server._serve())  # pyright: ignore[reportPrivateUsage] - serve() takes the process's signals
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise ConfigError("The port DESKHAND_SLACK_PORT can't be listened on. Choose another.")
            await asyncio.sleep(0.02)

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


async def _main(config: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    await run(config, stop)


def main() -> None:
    config = settings()
    configure(config.log_level)
    for name in [name for name in os.environ if name.startswith("SLACK_")]:
        del os.environ[name]  # bolt would take some of them for settings
    try:
        check(config)
        asyncio.run(_main(config))
    except ConfigError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
