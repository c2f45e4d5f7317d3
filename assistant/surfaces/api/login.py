"""Signing in and out with a password of Deskhand's own, and who one is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, Field

from assistant.app import Assistant
from assistant.errors import SignInRefused
from assistant.model import Audience, Right
from assistant.store import conversations, logins, principals
from assistant.surfaces.api import files, limits
from assistant.surfaces.api.access import COOKIE, SESSION, Caller, Desk, Role, csrf, desk, identify, needs

router = APIRouter(prefix="/api/v1", tags=["sign in"])
PROVIDER = "sso"
"""the id of the one identity provider that the settings name"""

Signed = Annotated[Caller, Depends(needs(Role.AGENT, SESSION))]


class SignIn(BaseModel):
    email: str = Field(min_length=1, max_length=254)
    password: str = Field(min_length=1, max_length=1000)


class NewPassword(BaseModel):
    old: str = Field(max_length=1000)
    new: str = Field(max_length=1000)


@router.get("/session", responses={204: {"description": "nobody is signed in"}})
def session(assistant: Desk, request: Request) -> Any:
    """Who calls, what they may do, and the token to send as X-CSRF-Token with whatever changes something.

    204 for nobody: a page asks before it knows, and that is no error.
    """
    caller = identify(request)
    if caller is None:
        return Response(status_code=204)
    with assistant.database.reader(caller.principal, Audience.INTERNAL) as connection:
        escalates = principals.has(connection, Right.ESCALATE)
    secret = request.cookies.get(COOKIE, "") if SESSION in caller.scopes else ""
    return {
        "person": {"id": caller.principal.id, "name": caller.name, "role": caller.role},
        "csrf": csrf(secret) if secret else "",
        "features": {
            "escalate": escalates,
            "local": assistant.settings.local_logins,
            "question_max_chars": assistant.settings.question_max_chars,
            "max_file_mb": files.LARGEST // 2**20,
        },
    }


@router.get("/login")
def ways(assistant: Desk) -> dict[str, Any]:
    """How one can sign in here."""
    config = assistant.settings
    providers = [{"id": PROVIDER, "label": config.oidc_label}] if config.oidc_issuer else []
    return {"local": config.local_logins, "providers": providers}


@router.post("/login")
def sign_in(assistant: Desk, request: Request, response: Response, body: SignIn) -> dict[str, Any]:
    """401 for a wrong password and an unknown address alike, 429 after too many of them."""
    # A page elsewhere must not sign somebody in as somebody else.
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "This request did not come from Deskhand's own page. Nothing was changed.")
    if not assistant.settings.local_logins:
        raise HTTPException(403, "Nobody signs in with a password here; use your organisation's sign-in.")
    limits.count(assistant.settings, "sign-ins", request.client.host if request.client else "")
    person = logins.normal(body.email)
    with assistant.database.writer() as connection:
        stored = logins.attempt(connection, person)  # counted and committed before the password is looked at
    if not logins.matches(body.password, stored):
        with assistant.database.writer() as connection:
            conversations.audit(connection, actor="", action="login.refused")
        raise SignInRefused("This address and password don't belong together. Check both and try again.")
    with assistant.database.writer() as connection:
        logins.forgive(connection, person)
        begin(connection_secret := logins.open_session(connection, person), request, response)
        conversations.audit(connection, actor=person, action="login.in")
    return {"csrf": csrf(connection_secret)}


@router.post("/logout", status_code=204)
def sign_out(assistant: Desk, caller: Signed, request: Request, response: Response) -> None:
    with assistant.database.writer() as connection:
        logins.close_session(connection, request.cookies.get(COOKIE, ""))
        conversations.audit(connection, actor=caller.principal.id, action="login.out")
    response.delete_cookie(COOKIE, path="/")


@router.post("/password", status_code=204)
def change_password(
    assistant: Desk, caller: Signed, request: Request, response: Response, body: NewPassword
) -> None:
    """Choose a new password; all other sessions of this person end."""
    person = caller.principal.id
    _confirm(assistant, person, body.old)
    with assistant.database.writer() as connection:
        logins.set_password(connection, person, body.new)
        begin(logins.open_session(connection, person), request, response)
        conversations.audit(connection, actor=person, action="login.password")


def _confirm(assistant: Assistant, person: str, password: str) -> None:
    """A stolen session must not be enough to take the login over, nor to guess its password."""
    with assistant.database.writer() as connection:
        stored = logins.attempt(connection, person)
    if not logins.matches(password, stored):
        raise HTTPException(400, "That is not your present password. Nothing was changed.")


def begin(secret: str, request: Request, response: Response) -> None:
    """Give the browser a session."""
    response.set_cookie(
        COOKIE,
        secret,
        max_age=logins.SESSION_DAYS * 86_400,
        path="/",
        secure=secure(request),
        httponly=True,
        samesite="lax",
    )


def secure(request: Request) -> bool:
    """Whether people reach this server by TLS, which a proxy before it may speak."""
    return request.url.scheme == "https" or desk(request).settings.web_url.startswith("https://")
