"""Signing in with a password: who gets in, who doesn't, and what a session is good for."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from assistant.config import Settings
from assistant.errors import ConfigError, LockedOut
from assistant.store import logins
from assistant.store.db import Database
from assistant.store.logins import Role
from tests.servers.web import PASSWORD, let_in, serving, signed_in

MARA, IRIS = "mara@fernhill.example", "iris@fernhill.example"


@pytest.fixture
def url(settings: Settings, database: Database) -> Iterator[str]:
    let_in(database, MARA)
    let_in(database, IRIS, Role.ADMIN)
    with serving(settings) as address:
        yield address


def test_a_session_says_who_one_is(url: str) -> None:
    with signed_in(url, " Mara@Fernhill.example ") as client:
        told = client.get("/api/v1/session").json()
        assert told["person"] == {"id": MARA, "name": MARA, "role": "agent"}
        assert told["csrf"] == client.headers["X-CSRF-Token"]
        cookie = client.get("/api/v1/session").request.headers["Cookie"]
    assert httpx.get(f"{url}/api/v1/session").status_code == 204
    assert httpx.get(f"{url}/api/v1/session", headers={"Cookie": cookie + "x"}).status_code == 204


def test_the_cookie_is_for_the_server_alone(url: str) -> None:
    response = httpx.post(f"{url}/api/v1/login", json={"email": MARA, "password": PASSWORD})
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie, "this server speaks no TLS"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")


def test_the_apps_files_are_compressed_and_no_answer_of_the_api_is(url: str) -> None:
    assert httpx.get(url).headers["Content-Encoding"] == "gzip"
    with signed_in(url, MARA) as client:
        page = client.get("/api/v1/conversations").raise_for_status()
        assert "Content-Encoding" not in page.headers


def test_behind_a_proxy_that_speaks_tls_browsers_are_told(settings: Settings, database: Database) -> None:
    let_in(database, MARA)
    with serving(settings.model_copy(update={"web_url": "https://desk.example"})) as address:
        answer = httpx.post(f"{address}/api/v1/login", json={"email": MARA, "password": PASSWORD})
        assert "Secure" in answer.headers["Set-Cookie"]
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_a_wrong_password_and_an_unknown_address_look_alike(url: str) -> None:
    answers = [
        httpx.post(f"{url}/api/v1/login", json={"email": email, "password": "wrong " + PASSWORD})
        for email in (MARA, "nobody@fernhill.example")
    ]
    assert [a.status_code for a in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()


def test_five_wrong_passwords_lock_out_whoever_it_is(url: str, database: Database) -> None:
    def tries(email: str, password: str) -> int:
        return httpx.post(f"{url}/api/v1/login", json={"email": email, "password": password}).status_code

    for email in (MARA, "nobody@fernhill.example"):
        assert [tries(email, "wrong") for _ in range(6)] == [401] * 5 + [429]
    assert tries(MARA, PASSWORD) == 429, "the right one comes too late as well"
    assert tries(IRIS, PASSWORD) == 200, "others are not concerned"
    with database.writer() as connection:
        logins.set_password(connection, MARA, "another " + PASSWORD)
    assert tries(MARA, "another " + PASSWORD) == 200, "an admin lets them in again"


def test_attempts_at_the_same_time_are_all_counted(database: Database) -> None:
    with database.writer() as connection:
        for _ in range(logins.ATTEMPTS):
            logins.attempt(connection, MARA)
        with pytest.raises(LockedOut, match="15 minutes"):
            logins.attempt(connection, MARA)
        connection.execute("update login_attempt set last_at = now() - interval '16 minutes'")
        logins.attempt(connection, MARA)


def test_signing_out_ends_the_session_at_once(url: str) -> None:
    with signed_in(url, MARA) as client, signed_in(url, MARA) as other:
        cookie = client.get("/api/v1/session").request.headers["Cookie"]
        assert client.post("/api/v1/logout").status_code == 204
        assert httpx.get(f"{url}/api/v1/session", headers={"Cookie": cookie}).status_code == 204
        assert other.get("/api/v1/session").status_code == 200


def test_what_changes_something_needs_the_csrf_token(url: str) -> None:
    with signed_in(url, MARA) as client, signed_in(url, IRIS) as other:
        for token in ("", "0" * 64, other.headers["X-CSRF-Token"], "ü"):
            answer = client.post("/api/v1/logout", headers={"X-CSRF-Token": token.encode("latin-1")})
            assert answer.status_code == 403, token
        assert client.get("/api/v1/session").status_code == 200


def test_a_page_elsewhere_can_sign_nobody_in(url: str) -> None:
    answer = httpx.post(
        f"{url}/api/v1/login",
        json={"email": MARA, "password": PASSWORD},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


def test_a_new_password_takes_the_old_one_and_ends_other_sessions(url: str) -> None:
    with signed_in(url, MARA) as client, signed_in(url, MARA) as other:
        new = "something else entirely"
        assert client.post("/api/v1/password", json={"old": "guess", "new": new}).status_code == 400
        weak = client.post("/api/v1/password", json={"old": PASSWORD, "new": "short"})
        assert weak.status_code == 400
        assert "10 to 200" in weak.json()["detail"]
        assert other.get("/api/v1/session").status_code == 200
        assert client.post("/api/v1/password", json={"old": PASSWORD, "new": new}).status_code == 204
        assert client.get("/api/v1/session").status_code == 200
        assert other.get("/api/v1/session").status_code == 204
    with signed_in(url, MARA, new) as client:
        assert client.get("/api/v1/session").status_code == 200


def test_a_session_ends_with_its_time_and_with_the_login(url: str, database: Database) -> None:
    for end in (
        "update session set expires_at = now()",
        "update session set seen_at = now() - interval '13 hours'",
        "update login set disabled = true where role = 'agent'",
    ):
        with signed_in(url, MARA) as client:
            assert client.get("/api/v1/session").status_code == 200
            with database.writer() as connection:
                connection.execute(end.encode())
            assert client.get("/api/v1/session").status_code == 204, end
    refused = httpx.post(f"{url}/api/v1/login", json={"email": MARA, "password": PASSWORD})
    assert refused.status_code == 401


def test_a_token_is_for_scripts_and_for_its_scopes(url: str, database: Database) -> None:
    with database.writer() as connection:
        _, chat = logins.add_token(connection, MARA, "script", ["chat"], days=1)
        _, metrics = logins.add_token(connection, MARA, "prometheus", ["metrics"], days=1)
        _, old = logins.add_token(connection, MARA, "old", ["chat"], days=0)

    def call(token: str, method: str = "GET", path: str = "session") -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(method, f"{url}/api/v1/{path}", headers=headers).status_code

    assert call(chat) == 200
    assert [call(old), call(chat + "x"), call("dh_")] == [204, 204, 204]
    assert [call(token, path="conversations") for token in (chat, metrics, old)] == [200, 403, 401]
    assert call(chat, "POST", "logout") == 403, "a token can't do what takes a person"


def test_the_last_admin_stays(database: Database) -> None:
    let_in(database, IRIS, Role.ADMIN)
    let_in(database, MARA)
    for change in (
        lambda c: logins.set_role(c, IRIS, Role.OWNER),
        lambda c: logins.set_disabled(c, IRIS, True),
    ):
        with pytest.raises(ConfigError, match="last admin"), database.writer() as connection:
            change(connection)
    with database.writer() as connection:
        assert {row["id"]: row["role"] for row in logins.everybody(connection)} == {
            IRIS: "admin",
            MARA: "agent",
        }


def test_nothing_stored_opens_a_door(url: str, database: Database) -> None:
    with signed_in(url, MARA) as client:
        secret = client.cookies["deskhand_session"]
    with database.writer() as connection:
        _, token = logins.add_token(connection, MARA, "script", ["chat"], days=1)
        rows = connection.execute("select l::text as l, s::text as s, t::text as t from login l join session s using"
            " (principal_id) join api_token t using (principal_id)").fetchall()  # fmt: skip
    assert rows
    for hidden in (secret, token, PASSWORD):
        assert hidden not in str(rows)
