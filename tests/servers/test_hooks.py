"""Hooks: a signed call asks for a sync, and nothing else comes of any call."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from assistant.app import Assistant
from assistant.config import Settings
from assistant.model import Batch
from assistant.store import sources
from assistant.surfaces.api import app as api
from assistant.surfaces.api import hooks
from connectors import registry
from connectors.base import Connector, ConnectorSettings
from connectors.http import signed
from connectors.network import PUBLIC, Network

SECRET = "between the two of us"


class HookedSettings(ConnectorSettings):
    webhook_secret: SecretStr


class Hooked(Connector):
    """A source that only knows how to be called."""

    Settings = HookedSettings

    def __init__(self, settings: HookedSettings, network: Network = PUBLIC) -> None:
        self._secret = settings.webhook_secret.get_secret_value()

    def check(self) -> str:
        return "fine"

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        return iter(())

    def inventory(self) -> Iterator[str]:
        return iter(())

    def hint(self, headers: Mapping[str, str], body: bytes) -> bool:
        return signed(self._secret, body, headers.get("x-signature", ""))


@pytest.fixture
def web(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setitem(registry.CONNECTORS, "hooked", "tests.servers.test_hooks:Hooked")
    assistant = Assistant(settings)
    with assistant.database.writer() as connection:
        for name in ("desk", "other"):
            sources.add(
                connection,
                name=name,
                connector="hooked",
                realm=name,
                settings={"webhook_secret": SECRET + ("" if name == "desk" else "!")},
                secrets=None,
                every_seconds=None,
            )
    with TestClient(api.create(settings)) as client:
        client.assistant = assistant
        yield client
    assistant.close()


def runs(web: TestClient) -> list[str]:
    with web.assistant.database.writer() as connection:
        rows = connection.execute(
            "select s.name from sync_run r join source s on s.id = r.source_id order by r.id"
        )
        return [row["name"] for row in rows]


def signature(body: bytes) -> dict[str, str]:
    return {"X-Signature": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}


def test_a_signed_call_asks_for_one_sync(web: TestClient) -> None:
    for body in (b"{}", b"anything at all", b""):
        response = web.post("/hooks/desk", content=body, headers=signature(body))
        assert response.status_code == 202
    assert runs(web) == ["desk"], "three hints while none was followed are one sync"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/hooks/desk", {}),
        ("/hooks/desk", {"X-Signature": "sha256=" + "0" * 64}),
        ("/hooks/desk", {"X-Signature": ""}),
        ("/hooks/desk", {"X-Signature": "ü".encode("latin-1")}),
        ("/hooks/other", signature(b"{}")),
        ("/hooks/nothing-of-this-name", signature(b"{}")),
    ],
)
def test_all_other_calls_are_refused_alike(web: TestClient, path: str, headers: dict[Any, Any]) -> None:
    response = web.post(path, content=b"{}", headers=headers)
    assert response.status_code == 403
    assert response.json() == {"detail": "No source of this name takes this signature."}
    assert runs(web) == []


def test_a_name_is_never_a_path(web: TestClient) -> None:
    for path in ("/hooks/..%2Fdesk", "/hooks/DESK", "/hooks/" + "a" * 200):
        assert web.post(path, content=b"{}", headers=signature(b"{}")).status_code in (404, 405, 422)


def test_a_body_too_large_is_cut_off(web: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "BYTES", 1000)
    assert web.post("/hooks/desk", content=b"x" * 2000).status_code == 413


def test_a_flood_of_signed_calls_is_refused_in_time(web: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "A_MINUTE", 3)
    codes = [web.post("/hooks/desk", content=b"", headers=signature(b"")).status_code for _ in range(5)]
    assert codes == [202, 202, 202, 429, 429]


def test_a_paused_source_is_not_synced_by_a_hook(web: TestClient) -> None:
    with web.assistant.database.writer() as connection:
        sources.pause(connection, sources.get(connection, "desk").id, "401")
    assert web.post("/hooks/desk", content=b"", headers=signature(b"")).status_code == 202
    assert runs(web) == []


def test_health_tells_whether_the_database_answers(web: TestClient) -> None:
    response: httpx.Response = web.get("/health")
    assert response.json() == {"status": "ok"}
