"""The web application: health, and the hooks by which sources say that something changed.

A hook is only a hint: nothing of its body is believed or kept. A signed one asks
for a sync, which then reads the source itself.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from typing import Annotated

import structlog
from fastapi import FastAPI, HTTPException, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ConfigError, DeskhandError, NotRunning
from assistant.store import sources

HOOK_BYTES = 4 * 2**20
HOOKS_A_MINUTE = 120
"""of one source; more are refused, and the schedule finds what they hinted at"""

log = structlog.get_logger()


class Hooks:
    """Takes the calls of sources: a signed one becomes a request for a sync."""

    def __init__(self, assistant: Assistant) -> None:
        self._assistant = assistant
        self._recent: defaultdict[str, deque[float]] = defaultdict(deque)

    def accept(self, name: str, headers: dict[str, str], body: bytes) -> None:
        """Raises `HTTPException` for a call that isn't signed by the source, or one too many."""
        # Who may not know whether a source of this name exists gets the same answer for both.
        refusal = HTTPException(403, "No source of this name takes this signature.")
        with self._assistant.database.writer() as connection:
            try:
                source = sources.get(connection, name)
                connector = self._assistant.connector(source)
            except ConfigError:
                raise refusal from None
            try:
                signed = connector.hint(headers, body)
            finally:
                connector.close()
            if not signed:
                log.warning("hook refused", source=source.id)
                raise refusal
            self._count(name)
            if not source.paused:
                sources.request(connection, source)

    def _count(self, name: str) -> None:
        calls = self._recent[name]
        now = time.monotonic()
        while calls and calls[0] < now - 60:
            calls.popleft()
        if len(calls) >= HOOKS_A_MINUTE:
            raise HTTPException(429, "Too many calls; the schedule finds what changed.")
        calls.append(now)


def create(settings: Settings) -> FastAPI:
    """The application with everything it needs, made once a process."""
    api = FastAPI(title="Deskhand", docs_url=None, redoc_url=None, openapi_url=None)
    assistant = Assistant(settings)
    hooks = Hooks(assistant)

    @api.get("/health")
    def health() -> dict[str, str]:
        assistant.database.ping()
        return {"status": "ok"}

    @api.post("/hooks/{name}", status_code=202)
    async def hook(
        request: Request, name: Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    ) -> dict[str, str]:
        """Ask for a sync of the source, if this call is signed by it."""
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > HOOK_BYTES:
                raise HTTPException(413, "The body is larger than a hook's may be.")
        headers = {key.lower(): value for key, value in request.headers.items()}
        await run_in_threadpool(hooks.accept, name, headers, bytes(body))
        return {"status": "accepted"}

    @api.exception_handler(DeskhandError)
    def trouble(_request: Request, error: DeskhandError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=503 if isinstance(error, NotRunning) else 400)

    _ = (health, hook, trouble)  # registered by their decorators
    return api
