"""Signing in at an identity provider: a real one, on a port of its own, and what is forged or played again."""

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
    user("m-3", email=MARA, email_verified=False, groups=["desk", "it"]),
    user("x-1", email="x@fernhill.example", email_verified=True, groups=["elsewhere"]),
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


def test_a_verified_address_is_the_person_whom_the_sources_know(url: str, database: Database) -> None:
    assert came_in(url, "m-1") == ("/", {"id": MARA, "name": "Mara", "role": "agent"})
    assert came_in(url, "m-1")[1] is not None, "and again, by subject"
    with database.writer() as connection:
        row = logins.everybody(connection)[0]
    assert (row["id"], row["local"]) == (MARA, False)


def test_an_address_that_is_not_verified_makes_nobody_somebody_else(url: str, database: Database) -> None:
    let_in(database, MARA)
    _, person = came_in(url, "m-3")
    assert person is not None
    assert person["id"].startswith("oidc:")
    assert person["role"] == "admin", "the groups are the provider's word all the same"


def test_whoever_gets_an_address_later_does_not_become_who_had_it(url: str, database: Database) -> None:
    assert came_in(url, "m-1")[0] == "/"
    assert came_in(url, "m-2") == ("/?problem=taken", None)
    with database.writer() as connection:
        assert logins.unlink(connection, MARA) == 1
    assert came_in(url, "m-2")[0] == "/"


def test_groups_decide_who_comes_in_and_as_what(url: str, database: Database) -> None:
    assert came_in(url, "x-1") == ("/?problem=group", None)
    let_in(database, MARA, Role.OWNER)
    assert came_in(url, "m-1")[1] == {"id": MARA, "name": "Mara", "role": "agent"}
    with database.writer() as connection:
        connection.execute("update login set disabled = true")
    assert came_in(url, "m-1") == ("/?problem=disabled", None)


def test_a_state_is_for_one_browser_and_one_time(url: str) -> None:
    with httpx.Client(base_url=url) as client, httpx.Client(base_url=url) as other:
        where = back_from(client, "m-1")
        cookie = client.cookies["deskhand_oidc"]
        for forged in (where, where.replace("state=", "state=x"), where.partition("state=")[0]):
            assert other.get(forged).headers["Location"] == "/?problem=state", forged
        assert client.get(where).headers["Location"] == "/"
        client.cookies.clear()
        again = client.get(where, headers={"Cookie": f"deskhand_oidc={cookie}"})
        assert again.headers["Location"] == "/?problem=state", "played again"
        assert "deskhand_session" not in again.headers["Set-Cookie"]


def test_a_code_of_another_sign_in_is_of_no_use(url: str) -> None:
    """A code that was issued for somebody else's start comes with their nonce."""
    with httpx.Client(base_url=url) as thief, httpx.Client(base_url=url) as victim:
        stolen = parse_qs(urlsplit(back_from(victim, "m-1")).query)["code"][0]
        own = back_from(thief, "x-1")
        code = parse_qs(urlsplit(own).query)["code"][0]
        assert thief.get(own.replace(code, stolen)).headers["Location"] == "/?problem=refused"


def test_a_person_who_says_no_and_a_provider_that_is_away(url: str, settings: Settings) -> None:
    with httpx.Client(base_url=url) as client:
        away = client.get(START).headers["Location"]
        denied = httpx.post(away, data={"action": "deny"}).headers["Location"]
        state = parse_qs(urlsplit(away).query)["state"][0]
        denied += "" if "state=" in denied else f"&state={state}"
        assert client.get(denied).headers["Location"] == "/?problem=refused"
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
