"""The web application: the pages, the API they speak, and the hooks of sources."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import redis
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse

from assistant import servers, traces
from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import DeskhandError
from assistant.surfaces.api import (
    admin_models,
    admin_people,
    admin_quality,
    admin_sources,
    chat,
    conversations,
    customers,
    docs,
    escalations,
    files,
    hooks,
    login,
    mcp,
    metrics,
    oidc,
    openai,
    sources,
    tokens,
)
from assistant.surfaces.api.access import Desk
from assistant.surfaces.api.guard import Guard
from assistant.surfaces.api.pages import STATIC, Pages
from assistant.surfaces.api.problems import problem, status
from assistant.surfaces.api.stream import Runs

ROUTERS = (
    hooks.router,
    login.router,
    oidc.router,
    chat.router,
    files.router,
    conversations.router,
    sources.router,
    customers.router,
    escalations.router,
    tokens.router,
    admin_sources.router,
    admin_people.router,
    admin_models.router,
    admin_quality.router,
    openai.router,
    mcp.router,
    metrics.router,
    docs.router,
)
log = structlog.get_logger()


def create(settings: Settings) -> FastAPI:
    """The application with everything it needs, made once a process."""
    assistant = Assistant(settings)
    runs = Runs(lambda: servers.redis_url(settings))

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncGenerator[None]:
        async with mcp.running(app):
            yield
        runs.close()
        assistant.close()
        traces.flush()

    api = FastAPI(title="Deskhand", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)
    api.state.assistant, api.state.runs = assistant, runs
    api.add_middleware(Guard, tls=settings.web_url.startswith("https://"))
    api.get("/health", include_in_schema=False)(health)
    for router in ROUTERS:
        api.include_router(router)
    api.add_exception_handler(DeskhandError, _trouble)
    api.add_exception_handler(redis.RedisError, _no_broker)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(UnicodeEncodeError, _no_text)
    api.add_exception_handler(Exception, _unforeseen)
    if STATIC.is_dir():
        # The app's files alone: what an answer of the API weighs would tell of secrets that stand beside a text.
        api.mount("/", GZipMiddleware(Pages(directory=STATIC, html=True)))
    return api


def health(assistant: Desk) -> dict[str, str]:
    assistant.database.ping()
    return {"status": "ok"}


def _trouble(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DeskhandError)  # noqa: S101 - it is registered for these
    return problem(status(error), str(error))


def _no_broker(_request: Request, _error: Exception) -> JSONResponse:
    return problem(503, "The message broker can't be reached. Nothing was lost; try again in a moment.")


def _no_text(_request: Request, _error: Exception) -> JSONResponse:
    return problem(400, "It holds half a character (a lone surrogate). Nothing was stored; leave it out.")


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """Which part of a request is not usable, as one sentence; its value is not repeated."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for these
    told = [
        f"{'.'.join(str(part) for part in e['loc'][1:]) or e['loc'][0]}: {e['msg']}" for e in error.errors()
    ]
    return problem(422, f"This request is not usable: {'; '.join(told)}. Nothing was changed.")


def _unforeseen(_request: Request, error: Exception) -> JSONResponse:
    log.error("web.unforeseen", error=type(error).__name__, exc_info=error)
    return problem(500, "An error that Deskhand did not foresee. Nothing that was stored is lost; try again.")
