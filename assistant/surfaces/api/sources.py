"""The panel beside an answer: a source as it is now, with what stands before and after the passage."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from assistant.errors import NotThere
from assistant.model import Audience
from assistant.store import search
from assistant.surfaces import asking
from assistant.surfaces.api import shapes
from assistant.surfaces.api.access import Caller, Desk, Role, needs

router = APIRouter(prefix="/api/v1", tags=["sources"])
Agent = Annotated[Caller, Depends(needs(Role.AGENT))]


@router.get("/sources/{document}")
def show(
    assistant: Desk,
    caller: Agent,
    document: Annotated[int, Path(ge=0, lt=2**63)],
    chunk: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    customer: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
) -> dict[str, Any]:
    """A passage of a document, by default its first, and its neighbours. 404: gone, or not this person's to read.

    `customer`: whom the conversation is about; of others' tickets one gets what its answers may rest on.
    """
    about = None if customer is None else asking.of_id(assistant, caller.principal, customer)
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        found = shapes.masked(connection, search.document(connection, document, chunk=chunk), about)
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
