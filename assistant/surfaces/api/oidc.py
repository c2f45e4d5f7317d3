"""Signing in at the organisation's identity provider: OpenID Connect, code flow with PKCE.

Somebody is known by issuer and subject. An address links them to what the sources know of
a person only when the provider has verified it, and only the first subject that comes
with it: whoever gets an address that somebody had before does not become them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlencode

import httpx2
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import RedirectResponse
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from assistant import servers
from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.store import conversations, logins
from assistant.store.db import Conn
from assistant.store.logins import Role
from assistant.surfaces.api import limits
from assistant.surfaces.api.access import Desk
from assistant.surfaces.api.login import PROVIDER, begin, secure

COOKIE = "deskhand_oidc"
SECONDS = 600
"""how long somebody may take at the provider"""
METADATA_SECONDS = 3600
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
"""signatures by a key that the provider alone has"""
PATH = "/api/v1/oidc"

log = structlog.get_logger()
router = APIRouter(prefix=PATH, tags=["sign in"])
_known: dict[str, tuple[float, dict[str, Any]]] = {}


class Refused(Exception):
    """`why`: state, refused, group, taken, disabled or unavailable; the sign-in page has the sentences."""

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(f"{why} {detail}".strip())
        self.why = why


@router.get("/{provider}/start")
def start(assistant: Desk, request: Request, provider: str) -> RedirectResponse:
    """Off to the provider; what must come back with the person is kept for ten minutes, for this browser."""
    config = _configured(assistant, provider)
    limits.count(config, "sign-ins", request.client.host if request.client else "")
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    try:
        with _client(config, request) as client:
            url, _ = client.create_authorization_url(
                _metadata(config)["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
    except (httpx2.HTTPError, KeyError, ValueError) as error:
        log.warning("oidc.unavailable", error=type(error).__name__)
        return _back("unavailable")
    broker = limits.client(servers.redis_url(config))
    broker.set(_key(state), json.dumps({"nonce": nonce, "verifier": verifier}), ex=SECONDS)
    response = RedirectResponse(url, 302)
    response.set_cookie(
        COOKIE,
        state,
        max_age=SECONDS,
        path=PATH,
        secure=secure(request),
        httponly=True,
        samesite="lax",
    )
    return response


@router.get("/{provider}/callback")
def callback(
    assistant: Desk, request: Request, provider: str, state: str = "", code: str = ""
) -> RedirectResponse:
    """Back from the provider: a session, or the sign-in page with what went wrong. A state works once."""
    config = _configured(assistant, provider)
    try:
        kept = _kept(config, state, request.cookies.get(COOKIE, ""), code)
        claims = _claims(config, request, code, kept)
        with assistant.database.writer() as connection:
            person = _person(connection, config, claims)
            secret = logins.open_session(connection, person)
            conversations.audit(connection, actor=person, action="login.in", detail={"by": PROVIDER})
    except Refused as error:
        log.warning("oidc.refused", why=str(error))
        return _back(error.why)
    except ConfigError:
        return _back("disabled")
    except (httpx2.HTTPError, KeyError, ValueError) as error:
        log.warning("oidc.unavailable", error=type(error).__name__)
        return _back("unavailable")
    response = RedirectResponse("/", 302)
    response.delete_cookie(COOKIE, path=PATH)
    begin(secret, request, response)
    return response


def _configured(assistant: Assistant, provider: str) -> Settings:
    if provider != PROVIDER or not assistant.settings.oidc_issuer:
        raise HTTPException(404, "There is no such way to sign in here.")
    return assistant.settings


def _back(why: str) -> RedirectResponse:
    response = RedirectResponse("/?" + urlencode({"problem": why}), 302)
    response.delete_cookie(COOKIE, path=PATH)
    return response


def _key(state: str) -> str:
    return "deskhand:oidc:" + hashlib.sha256(state.encode()).hexdigest()


def _kept(config: Settings, state: str, cookie: str, code: str) -> Mapping[str, str]:
    """What was kept for this state, which is forgotten with that."""
    if not state or not hmac.compare_digest(state.encode(), cookie.encode()):
        raise Refused("state", "it is not this browser's")
    found = cast("str | None", limits.client(servers.redis_url(config)).getdel(_key(state)))
    if found is None:
        raise Refused("state", "it was used, or is too old")
    if not code:
        raise Refused("refused", "by the provider, or by the person there")
    return json.loads(found)


def _metadata(config: Settings, *, fresh: bool = False) -> dict[str, Any]:
    """The provider's description of itself, with its keys; kept for an hour. Raises what `httpx2` raises."""
    at, found = _known.get(config.oidc_issuer, (0.0, {}))
    if found and not fresh and time.monotonic() - at < METADATA_SECONDS:
        return found
    with httpx2.Client(timeout=10) as client:
        told = client.get(config.oidc_issuer.rstrip("/") + "/.well-known/openid-configuration")
        found = cast("dict[str, Any]", told.raise_for_status().json())
        if found.get("issuer") != config.oidc_issuer:
            raise ValueError("it says that it is another issuer")
        found["keys"] = client.get(found["jwks_uri"]).raise_for_status().json()
    _known[config.oidc_issuer] = (time.monotonic(), found)
    return found


def _client(config: Settings, request: Request) -> Any:
    """An `OAuth2Client`, which is an `httpx2.Client` that its types don't tell."""
    secret = config.oidc_client_secret
    base = config.web_url.rstrip("/") or str(request.base_url).rstrip("/")
    return OAuth2Client(
        config.oidc_client_id,
        secret.get_secret_value() if secret else None,
        scope="openid email profile",
        redirect_uri=f"{base}{PATH}/{PROVIDER}/callback",
        code_challenge_method="S256",
        timeout=10,
    )


def _claims(config: Settings, request: Request, code: str, kept: Mapping[str, str]) -> dict[str, Any]:
    """What the provider says of the person, checked as OpenID Connect asks for."""
    metadata = _metadata(config)
    try:
        with _client(config, request) as client:
            token = client.fetch_token(metadata["token_endpoint"], code=code, code_verifier=kept["verifier"])
            claims = _checked(config, token, kept["nonce"])
            endpoint = metadata.get("userinfo_endpoint")
            if endpoint and not {"email", config.oidc_groups_claim} <= claims.keys():
                more = client.get(endpoint).raise_for_status().json()
                if more.get("sub") == claims["sub"]:
                    claims = {**more, **claims}
    except (AuthlibBaseError, JoseError) as error:
        raise Refused("refused", type(error).__name__) from error
    return claims


def _checked(config: Settings, token: Mapping[str, Any], nonce: str) -> dict[str, Any]:
    raw = str(token["id_token"])
    try:
        decoded = jwt.decode(raw, KeySet.import_key_set(_metadata(config)["keys"]), algorithms=ALGORITHMS)
    except (JoseError, ValueError):  # it may have new keys
        fresh = _metadata(config, fresh=True)["keys"]
        decoded = jwt.decode(raw, KeySet.import_key_set(fresh), algorithms=ALGORITHMS)
    claims = CodeIDToken(
        decoded.claims,
        decoded.header,
        {
            "iss": {"essential": True, "value": config.oidc_issuer},
            "aud": {"essential": True, "value": config.oidc_client_id},
        },
        {"nonce": nonce, "client_id": config.oidc_client_id, "access_token": token.get("access_token")},
    )
    claims.validate(leeway=60)
    return dict(decoded.claims)


def _person(connection: Conn, config: Settings, claims: Mapping[str, Any]) -> str:
    """Whose session it is to be; made known, and given the role of their groups."""
    issuer, subject = config.oidc_issuer, str(claims["sub"])
    role = _role(config, claims)
    known = logins.linked(connection, issuer, subject)
    if role is None:
        if known:
            logins.close_all(connection, known)
        raise Refused("group")
    if known:
        if config.oidc_roles:
            logins.follow(connection, known, role)
        return known
    email = str(claims.get("email") or "")
    verified = claims.get("email_verified") is True and "@" in email
    hidden = hashlib.sha256(f"{issuer}\0{subject}".encode()).hexdigest()[:24]
    person = logins.normal(email) if verified else f"oidc:{hidden}"
    if logins.has_link(connection, issuer, person):
        raise Refused("taken")
    logins.link(connection, issuer, subject, person, name=str(claims.get("name") or ""), role=role)
    if config.oidc_roles:
        logins.follow(connection, person, role)
    return person


def _role(config: Settings, claims: Mapping[str, Any]) -> Role | None:
    """The highest role of the person's groups; None: none of them may come in."""
    if not config.oidc_roles:
        return Role.AGENT
    groups = claims.get(config.oidc_groups_claim) or []
    mine = {groups} if isinstance(groups, str) else {str(group) for group in groups}
    given = [role for group, role in config.roles_of_groups.items() if group == "*" or group in mine]
    return max((Role(role) for role in given), key=list(Role).index, default=None)
