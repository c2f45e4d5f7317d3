"""People for admins: whose accounts in the sources are whose, and who may sign in as what."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from assistant.errors import NotThere
from assistant.store import conversations, logins, manage, principals
from assistant.store.db import Row
from assistant.store.logins import Role
from assistant.surfaces.api.access import Caller, Desk, needs
from assistant.surfaces.api.wire import Line, Text

router = APIRouter(prefix="/api/v1/admin", tags=["admin: people"])
Admin = Annotated[Caller, Depends(needs(Role.ADMIN, "admin"))]


class Account(BaseModel):
    """An account of a source and the person it is taken for."""

    source: str
    account: str
    taken_for: str | None
    """their address; null: nobody, so it lends its rights to nobody"""
    fixed: bool
    """an admin said so, whatever the source says"""
    groups: int


class TakenFor(BaseModel):
    source: Line
    account: Line
    taken_for: Line | None
    """null: believe the source again, from its next permission sync on"""


class Login(BaseModel):
    id: str
    email: str
    name: str
    role: Role
    state: str
    """active or disabled"""
    local: bool
    """has a password here"""
    providers: list[str]
    """identity providers that they have signed in at"""
    created_at: dt.datetime
    last_login_at: dt.datetime | None


class NewLogin(BaseModel):
    email: Line
    name: Text = Field(default="", max_length=300)
    role: Role = Role.AGENT


class Password(BaseModel):
    password: str
    """told once and kept nowhere"""


class Change(BaseModel):
    role: Role | None = None
    disabled: bool | None = None


@router.get("/people")
def list_accounts(_: Admin, assistant: Desk, source: Line | None = None) -> list[Account]:
    """The sources' accounts and whom they are taken for."""
    with assistant.database.writer() as connection:
        rows = principals.accounts(connection, source=source)
    return [Account(taken_for=row.pop("person"), **row) for row in rows]


@router.put("/people")
def take_for(wanted: TakenFor, caller: Admin, assistant: Desk) -> Account:
    """Say whose account it is. It holds at once."""
    with assistant.database.writer() as connection:
        manage.take_for(connection, wanted.source, wanted.account, wanted.taken_for, by=caller.principal.id)
        rows = principals.accounts(connection, source=wanted.source)
    row = next(row for row in rows if row["account"] == wanted.account)
    return Account(taken_for=row.pop("person"), **row)


@router.get("/logins")
def list_logins(_: Admin, assistant: Desk) -> list[Login]:
    """Who may sign in."""
    with assistant.database.writer() as connection:
        return [_login(row) for row in logins.everybody(connection)]


@router.post("/logins", status_code=201)
def add_login(wanted: NewLogin, caller: Admin, assistant: Desk) -> Password:
    """Let somebody sign in with a password, which they change afterwards."""
    made = Password(password=logins.made_up())
    with assistant.database.writer() as connection:
        logins.add(connection, wanted.email, wanted.role, name=wanted.name, password=made.password)
        conversations.audit(
            connection,
            actor=caller.principal.id,
            action=f"login.add {wanted.role}",
            object=logins.normal(wanted.email),
        )
    return made


@router.post("/logins/{login}/reset")
def reset(login: Line, caller: Admin, assistant: Desk) -> Password:
    """A new password; ends their sessions and a lock-out."""
    made = Password(password=logins.made_up())
    with assistant.database.writer() as connection:
        logins.set_password(connection, login, made.password)
        conversations.audit(
            connection, actor=caller.principal.id, action="login.reset", object=logins.normal(login)
        )
    return made


@router.patch("/logins/{login}")
def change_login(login: Line, wanted: Change, caller: Admin, assistant: Desk) -> Login:
    """Give another role, shut somebody out, or let them in again. One admin always stays."""
    with assistant.database.writer() as connection:
        for action, done in _changes(wanted).items():
            if isinstance(done, Role):
                logins.set_role(connection, login, done)
            else:
                logins.set_disabled(connection, login, done)
            conversations.audit(
                connection, actor=caller.principal.id, action=action, object=logins.normal(login)
            )
        rows = logins.everybody(connection)
    changed = [row for row in rows if row["id"] == logins.normal(login)]
    if not changed:
        raise NotThere(f"«{login}» has no login. Nothing was changed.")
    return _login(changed[0])


def _changes(wanted: Change) -> dict[str, Role | bool]:
    """What is to be changed, by its name in the trail."""
    made: dict[str, Role | bool] = {}
    if wanted.role is not None:
        made[f"login.role {wanted.role}"] = wanted.role
    if wanted.disabled is not None:
        made["login.disable" if wanted.disabled else "login.enable"] = wanted.disabled
    return made


def _login(row: Row) -> Login:
    return Login(
        id=row["id"],
        email=row["id"],
        name=row["name"],
        role=Role(row["role"]),
        state="disabled" if row["disabled"] else "active",
        local=row["local"],
        providers=row["providers"],
        created_at=row["created_at"],
        last_login_at=row["seen_at"],
    )
