"""Tokens of one's own, for scripts: made and dropped only by somebody who has signed in."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from assistant.errors import NotThere
from assistant.store import conversations, logins
from assistant.surfaces.api.access import SESSION, Caller, Desk, Role, needs
from assistant.surfaces.api.wire import Line

router = APIRouter(prefix="/api/v1/tokens", tags=["tokens"])
Person = Annotated[Caller, Depends(needs(Role.AGENT, SESSION))]
Scope = Literal["chat", "admin", "metrics"]


class Token(BaseModel):
    id: UUID
    name: str
    scopes: list[str]
    created_at: dt.datetime
    expires_at: dt.datetime
    used_at: dt.datetime | None


class Wanted(BaseModel):
    name: Line
    """what it is for, in your words"""
    scopes: list[Scope] = Field(min_length=1, max_length=3)
    """`chat`: ask and read; `admin`: what your role allows beyond; `metrics`: only /metrics"""
    days: int = Field(default=90, ge=1, le=logins.TOKEN_DAYS)


class Made(BaseModel):
    id: UUID
    token: str
    """shown once and kept nowhere"""


@router.get("")
def list_tokens(caller: Person, assistant: Desk) -> list[Token]:
    """Your tokens; what they are is not kept."""
    with assistant.database.writer() as connection:
        return [Token(**row) for row in logins.tokens(connection, caller.principal.id)]


@router.post("", status_code=201)
def add_token(wanted: Wanted, caller: Person, assistant: Desk) -> Made:
    """A token that may do what you may, as far as its scopes go."""
    with assistant.database.writer() as connection:
        made, secret = logins.add_token(
            connection, caller.principal.id, wanted.name, sorted(set(wanted.scopes)), days=wanted.days
        )
        conversations.audit(connection, actor=caller.principal.id, action="token.add", object=str(made))
    return Made(id=made, token=secret)


@router.delete("/{token}", status_code=204)
def drop_token(token: UUID, caller: Person, assistant: Desk) -> None:
    """It ends at once."""
    with assistant.database.writer() as connection:
        if not logins.drop_token(connection, caller.principal.id, token):
            raise NotThere("You have no token of this id. Nothing was changed.")
        conversations.audit(connection, actor=caller.principal.id, action="token.drop", object=str(token))
