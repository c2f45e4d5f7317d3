"""The hooks by which sources say that something changed.

A hook is only a hint: nothing of its body is believed or kept. A signed one asks
for a sync, which then reads the source itself.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from typing import Annotated
from weakref import WeakKeyDictionary

import structlog
from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.concurrency import run_in_threadpool

from assistant.app import Assistant
from assistant.errors import ConfigError
from assistant.store import sources
from assistant.surfaces.api.access import Desk

BYTES = 4 * 2**20
A_MINUTE = 120
"""of one source; more are refused, and the schedule finds what they hinted at"""

log = structlog.get_logger()
router = APIRouter(include_in_schema=False)
_recent: WeakKeyDictionary[Assistant, defaultdict[str, deque[float]]] = WeakKeyDictionary()


@router.post("/hooks/{name}", status_code=202)
async def hook(
    assistant: Desk, request: Request, name: Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
) -> dict[str, str]:
    """Ask for a sync of the source, if this call is signed by it."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BYTES:
            raise HTTPException(413, "The body is larger than a hook's may be.")
    headers = {key.lower(): value for key, value in request.headers.items()}
    await run_in_threadpool(_accept, assistant, name, headers, bytes(body))
    return {"status": "accepted"}


def _accept(assistant: Assistant, name: str, headers: dict[str, str], body: bytes) -> None:
    """Raises `HTTPException` for a call that isn't signed by the source, or one too many."""
    # Who may not know whether a source of this name exists gets the same answer for both.
    refusal = HTTPException(403, "No source of this name takes this signature.")
    with assistant.database.writer() as connection:
        try:
            source = sources.get(connection, name)
            connector = assistant.connector(source)
        except ConfigError:
            raise refusal from None
        try:
            signed = connector.hint(headers, body)
        finally:
            connector.close()
        if not signed:
            log.warning("hook refused", source=source.id)
            raise refusal
        _count(_recent.setdefault(assistant, defaultdict(deque))[name])
        if not source.paused:
            sources.request(connection, source)


def _count(calls: deque[float]) -> None:
    now = time.monotonic()
    while calls and calls[0] < now - 60:
        calls.popleft()
    if len(calls) >= A_MINUTE:
        raise HTTPException(429, "Too many calls; the schedule finds what changed.")
    calls.append(now)
