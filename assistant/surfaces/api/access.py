"""Who calls: every route says with `needs` what it takes, and gets to know who it is.

A browser comes with a session's cookie, and with the session's CSRF token on whatever changes
something; a script with a token of its own. What a caller may read is not decided here but
in the database, by their principal.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, HTTPException, Request

from assistant.app import Assistant
from assistant.model import Principal
from assistant.store import logins
from assistant.store.logins import Role
from assistant.surfaces.api import limits

__all__ = [
    "ALL",
    "COOKIE",
    "CSRF",
    "SESSION",
    "TOKEN_SCOPES",
    "Caller",
    "Desk",
    "Role",
    "csrf",
    "desk",
    "needs",
]

COOKIE = "deskhand_session"
CSRF = "X-CSRF-Token"
SESSION = "session"
"""what only somebody who signed in may do, and no token: passwords, tokens"""
TOKEN_SCOPES = ("chat", "admin", "metrics")
"""what a token may be for"""
ALL = frozenset({*TOKEN_SCOPES, SESSION})
_SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Caller:
    principal: Principal
    name: str
    role: Role
    scopes: frozenset[str]
    """what their token is for; `ALL` for a session"""


def desk(request: Request) -> Assistant:
    return cast(Assistant, request.app.state.assistant)


Desk = Annotated[Assistant, Depends(desk)]


def csrf(session: str) -> str:
    """The CSRF token of a session: made of its secret, so nothing is stored, and it ends with it."""
    return hmac.new(session.encode(), b"deskhand csrf", hashlib.sha256).hexdigest()


def bearer(request: Request) -> str:
    """The token of a script; empty when it has none."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def identify(request: Request) -> Caller | None:
    """Who calls, whatever they want; None for nobody we know."""
    token, session = bearer(request), request.cookies.get(COOKIE, "")
    if not token and not session:
        return None
    with desk(request).database.writer() as connection:
        # A script's token counts alone: a wrong one is not made good by a cookie.
        login = logins.of_token(connection, token) if token else logins.of_session(connection, session)
    if login is None:
        return None
    scopes = ALL if login.scopes is None else login.scopes
    return Caller(login.principal, login.name, login.role, scopes)


def needs(role: Role, scope: str = "chat") -> Callable[[Request], Caller]:
    """A dependency that lets in whoever has the role and, with a token, the scope; everybody else gets 401 or 403."""

    def check(request: Request) -> Caller:
        caller = identify(request)
        if caller is None:
            raise HTTPException(401, "Sign in first, or again: your session has ended. Nothing was lost.")
        if request.method not in _SAFE and not bearer(request):
            sent = request.headers.get(CSRF, "")
            if not hmac.compare_digest(sent.encode(), csrf(request.cookies.get(COOKIE, "")).encode()):
                raise HTTPException(
                    403,
                    "This request did not come from Deskhand's own page. Nothing was changed; reload the page.",
                )
        if not caller.role.covers(role):
            raise HTTPException(
                403, f"This takes the role «{role}»; you are «{caller.role}». Nothing was changed."
            )
        if scope not in caller.scopes:
            raise HTTPException(403, f"This takes a token for «{scope}». Nothing was changed.")
        limits.count(desk(request).settings, "requests", caller.principal.id)
        return caller

    check.needs = (role, scope)  # type: ignore[attr-defined] - read by the test that walks all routes
    return check
