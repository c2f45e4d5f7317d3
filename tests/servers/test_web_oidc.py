"""Signing in at an identity provider: what becomes of people there and here whose accounts change.

The whole way, in a browser and with a provider that checks what it is sent, is tests/browser/test_single_sign_on.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import oidc_provider_mock
import pytest
from pydantic import SecretStr

from assistant.config import Settings
from assistant.store import logins
from assistant.store.db import Database
from assistant.store.logins import Role
from tests.servers.web import PASSWORD, let_in, serving

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
MARA = "mara@fernhill.example"
START = "/api/v1/oidc/sso/start"


def user(sub: str, **claims: object) -> oidc_provider_mock.User:
    return oidc_provider_mock.User(sub=sub, claims=claims)


USERS = (
    user("m-1", email="Mara@Fernhill.example", email_verified=True, name="Mara", groups=["desk"]),
    user("m-2", email=MARA, email_verified=True, groups=["desk"]),
)


@pytest.fixture
def provider() -> Iterator[str]:
    with oidc_provider_mock.run_server_in_thread(user_claims=USERS) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
def url(settings: Settings, provider: str) -> Iterator[str]:
    config = settings.model_copy(
        update={
            "oidc_issuer": provider,
            "oidc_client_id": "deskhand",
            "oidc_client_secret": SecretStr("between us"),
            "oidc_roles": "it=admin, kb=owner, desk=agent",
        }
    )
    with serving(config) as address:
        yield address


def back_from(client: httpx.Client, subject: str) -> str:
    """Start, sign in there; the address at which the provider sends one back."""
    away = client.get(START).headers["Location"]
    return httpx.post(away, data={"sub": subject}).headers["Location"]


def came_in(url: str, subject: str) -> tuple[str, dict[str, str] | None]:
    with httpx.Client(base_url=url, timeout=30) as client:
        answer = client.get(back_from(client, subject))
        assert answer.status_code == 302
        session = client.get("/api/v1/session")
        return answer.headers["Location"], session.json()["person"] if session.status_code == 200 else None


def test_the_way_there_carries_state_nonce_and_challenge(url: str, provider: str) -> None:
    assert httpx.get(f"{url}/api/v1/login").json()["providers"] == [{"id": "sso", "label": "Single sign-on"}]
    away = urlsplit(httpx.get(url + START).headers["Location"])
    asked = {name: values[0] for name, values in parse_qs(away.query).items()}
    assert asked["redirect_uri"] == f"{url}/api/v1/oidc/sso/callback"
    assert asked["code_challenge_method"] == "S256"
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    assert "between us" not in away.query


def test_whoever_gets_an_address_later_does_not_become_who_had_it(url: str, database: Database) -> None:
    assert came_in(url, "m-1")[0] == "/"
    assert came_in(url, "m-2") == ("/?problem=taken", None)
    with database.writer() as connection:
        assert logins.unlink(connection, MARA) == 1
    assert came_in(url, "m-2")[0] == "/"


def test_a_role_follows_the_groups_and_who_is_disabled_stays_out(url: str, database: Database) -> None:
    let_in(database, MARA, Role.OWNER)
    assert came_in(url, "m-1")[1] == {"id": MARA, "name": "Mara", "role": "agent"}
    with database.writer() as connection:
        connection.execute("update login set disabled = true")
    assert came_in(url, "m-1") == ("/?problem=disabled", None)


def test_a_provider_that_is_away(settings: Settings) -> None:
    gone = settings.model_copy(update={"oidc_issuer": "http://127.0.0.1:1", "oidc_client_id": "x"})
    with serving(gone) as address:
        assert httpx.get(address + START).headers["Location"] == "/?problem=unavailable"
        assert httpx.get(f"{address}/api/v1/oidc/other/start").status_code == 404


def test_passwords_can_be_shut_off(settings: Settings, database: Database) -> None:
    let_in(database, MARA)
    with serving(settings.model_copy(update={"local_logins": False})) as address:
        assert httpx.get(f"{address}/api/v1/login").json() == {"local": False, "providers": []}
        body = {"email": MARA, "password": PASSWORD}
        assert httpx.post(f"{address}/api/v1/login", json=body).status_code == 403
