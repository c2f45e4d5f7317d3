"""Every route × who may call it, made from the routes themselves: a new one can't be forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Mount

from assistant.config import Settings
from assistant.store import logins
from assistant.store.db import Database
from assistant.store.logins import Role
from assistant.surfaces.api import access
from assistant.surfaces.api.app import create
from tests.servers.web import let_in, serving, signed_in

OPEN = {
    ("GET", "/health"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("POST", "/hooks/{name}"),
    ("GET", "/api/v1/session"),
    ("GET", "/api/v1/login"),
    ("POST", "/api/v1/login"),
    ("GET", "/api/v1/oidc/{provider}/start"),
    ("GET", "/api/v1/oidc/{provider}/callback"),
}
"""what nobody in particular may call"""
NOBODYS = "00000000-0000-0000-0000-000000000000"
PEOPLE = {role: f"{role.value}@fernhill.example" for role in Role}


def routes(settings: Settings) -> list[APIRoute]:
    """All, however they were included."""

    def below(found: Any) -> Iterator[APIRoute]:
        for route in found:
            if isinstance(route, APIRoute):
                yield route
            elif isinstance(route, Mount):
                assert route.path in ("", "/mcp"), f"what stands behind {route.path} is not looked at here"
            elif hasattr(route, "original_router"):  # an included router, as FastAPI keeps it
                yield from below(route.original_router.routes)
            else:
                raise AssertionError(f"{route} declares nobody")

    return list(below(create(settings).routes))


def wanted(route: APIRoute) -> tuple[Role, str] | None:
    """What the route says with `needs`."""
    found = [d.call.needs for d in _dependants(route.dependant) if hasattr(d.call, "needs")]
    assert len(found) <= 1, f"{route.path} says it twice"
    return found[0] if found else None


def _dependants(dependant: Any) -> Iterator[Any]:
    for one in dependant.dependencies:
        yield one
        yield from _dependants(one)


def calls(settings: Settings) -> list[tuple[str, str, tuple[Role, str] | None]]:
    return [(m, r.path, wanted(r)) for r in routes(settings) for m in sorted(r.methods)]


def at(path: str) -> str:
    """An address of the route, of things that are nobody's."""
    names = {
        "conversation": NOBODYS,
        "escalation": NOBODYS,
        "provider": "sso",
        "name": "nothing",
        "token": NOBODYS,
    }
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda m: names.get(m[1], "999999"), path)


def test_every_route_says_whom_it_takes(settings: Settings) -> None:
    silent = {(method, path) for method, path, needs in calls(settings) if needs is None}
    assert silent - OPEN == set(), "declare these with Depends(needs(...))"


@pytest.fixture
def url(settings: Settings, database: Database) -> Iterator[str]:
    for role, email in PEOPLE.items():
        let_in(database, email, role)
    with serving(settings) as address:
        yield address


def test_nobody_gets_nothing(url: str, settings: Settings) -> None:
    for method, path, needs in calls(settings):
        if needs is not None:
            for headers in (
                {},
                {"Cookie": "deskhand_session=guessed"},
                {"Authorization": "Bearer dh_guessed"},
            ):
                answer = httpx.request(method, url + at(path), headers=headers, timeout=60)
                assert answer.status_code == 401, f"{method} {path} {headers}"
                told = answer.json()
                # OpenAI's clients read another shape.
                assert (told.get("detail") or told["error"]["message"]).startswith("Sign in")


@pytest.mark.parametrize("role", list(Role))
def test_a_role_opens_what_it_covers_and_nothing_else(url: str, settings: Settings, role: Role) -> None:
    refused = "This takes the role"
    with signed_in(url, PEOPLE[role]) as client:
        for method, path, needs in calls(settings):
            if needs is None or path in ("/api/v1/logout",):
                continue
            answer = client.request(method, at(path))
            told = answer.text
            if role.covers(needs[0]):
                assert refused not in told, f"{method} {path}"
                assert answer.status_code not in (401, 500), f"{method} {path}: {told[:200]}"
            else:
                assert (answer.status_code, refused in told) == (403, True), f"{method} {path}: {told[:200]}"


def test_what_changes_something_takes_the_csrf_token_and_reading_does_not(
    url: str, settings: Settings
) -> None:
    with signed_in(url, PEOPLE[Role.ADMIN]) as client:
        del client.headers["X-CSRF-Token"]
        for method, path, needs in calls(settings):
            if needs is not None:
                answer = client.request(method, at(path))
                assert ("own page" in answer.text) == (method != "GET"), (
                    f"{method} {path}: {answer.text[:200]}"
                )


def test_a_token_opens_its_scope_alone(url: str, settings: Settings, database: Database) -> None:
    made: dict[str, str] = {}
    with database.writer() as connection:
        for scope in access.TOKEN_SCOPES:
            made[scope] = logins.add_token(connection, PEOPLE[Role.ADMIN], scope, [scope], days=1)[1]
    for scope, token in made.items():
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
            for method, path, needs in calls(settings):
                if needs is not None:
                    told = client.request(method, at(path)).text
                    assert ("takes a token for" in told) == (scope != needs[1]), (
                        f"{scope} {method} {path}: {told[:99]}"
                    )


def test_what_is_nobodys_is_not_there(url: str, settings: Settings) -> None:
    """The same for somebody else's things: test_web_chat compares the two."""
    with signed_in(url, PEOPLE[Role.AGENT]) as client:
        for method, path, needs in calls(settings):
            if needs is not None and needs[0] is Role.AGENT and "{" in path and method == "GET":
                assert client.get(at(path)).status_code in (204, 404), path
