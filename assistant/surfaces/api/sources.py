"""The panel beside an answer: a source as it is now, with what stands before and after the passage."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from assistant.errors import NotThere
from assistant.model import Audience
from assistant.store import search
from assistant.surfaces.api import shapes
from assistant.surfaces.api.access import Caller, Desk, Role, needs

router = APIRouter(prefix="/api/v1", tags=["sources"])
Agent = Annotated[Caller, Depends(needs(Role.AGENT))]
BIGINT = 2**63


@router.get("/sources/{document}")
def show(assistant: Desk, caller: Agent, document: int, chunk: int | None = None) -> dict[str, Any]:
    """A passage of a document, by default its first, and its neighbours. 404: gone, or not this person's to read."""
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        known = 0 < document < BIGINT and (chunk is None or 0 <= chunk < BIGINT)
        found = search.document(connection, document, chunk=chunk) if known else []
    if not found:
        raise NotThere(shapes.GONE)
    ids = [passage.chunk_id for passage in found]
    # A passage that was indexed anew has another number; the document's beginning is shown then.
    place = ids.index(chunk) if chunk in ids else 0
    return {
        **shapes.source(found[place]),
        "before": found[place - 1].text if place else None,
        "after": found[place + 1].text if place + 1 < len(found) else None,
    }
