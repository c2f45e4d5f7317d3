"""Files as context of one question: read at once, kept for an hour in the broker, for whoever sent them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from typing import Annotated, Any, cast
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool

from assistant import servers
from assistant.app import Assistant
from assistant.errors import NotThere
from assistant.model import Access, Chunk, Kind, SourceDocument
from assistant.retrieve.attached import Attached
from assistant.surfaces.api import limits
from assistant.surfaces.api.access import Caller, Desk, Role, needs

LARGEST = 20 * 2**20
CHUNKS = 400
"""about 80,000 words; what a file has beyond that is not read"""
KEPT_SECONDS = 3600
MOST = 5
"""files of one question"""

router = APIRouter(prefix="/api/v1", tags=["chat"])
_parsing = threading.Lock()
"""a parser serves one file after the other"""


@router.post("/files")
async def add(
    assistant: Desk,
    caller: Annotated[Caller, Depends(needs(Role.AGENT))],
    request: Request,
    name: Annotated[str, Query(min_length=1, max_length=255)],
) -> dict[str, Any]:
    """Send a file's bytes as the body; the id is for `files` of a question within the hour."""
    limits.count(assistant.settings, "files", caller.principal.id)
    too_large = HTTPException(
        413, f"The file is larger than {LARGEST // 2**20} MB. Nothing was read; send the part that matters."
    )
    if int(request.headers.get("Content-Length") or 0) > LARGEST:
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST:
            raise too_large
    return await run_in_threadpool(_keep, assistant, caller.principal.id, name, bytes(body))


def _keep(assistant: Assistant, person: str, name: str, body: bytes) -> dict[str, Any]:
    """Raises `ItemError` for what no text can be got from."""
    document = SourceDocument(
        external_id=name, kind=Kind.DOCUMENT, title=name, body=body, revision="", access=Access.nobody()
    )
    with _parsing:
        parsed = assistant.pipeline.parser.parse(document)
    chunks = assistant.pipeline.chunker.chunk(parsed.sections, title=name)[:CHUNKS]
    kept = {"name": name, "chunks": [[c.text, list(c.headings), c.page] for c in chunks]}
    made = uuid4()
    limits.client(servers.redis_url(assistant.settings)).set(
        _key(person, made), json.dumps(kept), ex=KEPT_SECONDS
    )
    return {"id": made, "name": name, "chars": sum(len(chunk.text) for chunk in chunks)}


def load(assistant: Assistant, person: str, files: Sequence[UUID]) -> list[Attached]:
    """Those files. Raises `NotThere` for one that is somebody else's, or was forgotten by now."""
    found: list[Attached] = []
    for file in files:
        kept = cast(
            "str | None", limits.client(servers.redis_url(assistant.settings)).get(_key(person, file))
        )
        if kept is None:
            raise NotThere(
                "A file is no longer there: they are kept for an hour. Nothing was asked; add it again."
            )
        told = json.loads(kept)
        chunks = [Chunk(n, text, tuple(heads), page) for n, (text, heads, page) in enumerate(told["chunks"])]
        found.append(Attached(told["name"], tuple(chunks)))
    return found


def _key(person: str, file: UUID) -> str:
    return f"deskhand:file:{hashlib.sha256(person.encode()).hexdigest()[:32]}:{file}"
