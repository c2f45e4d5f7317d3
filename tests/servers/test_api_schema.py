"""The API's description: requests made of it at random end in no server's error, and its page needs nobody else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from assistant.config import Settings
from assistant.store import logins
from assistant.surfaces.api import access, limits
from tests.servers.served import ADA, ROOT, Served, shared

SLOW = {"/api/v1/admin/health": 1}
"""path → examples, where each takes seconds"""
EXAMPLES = 3


@pytest.fixture(scope="module")
def web(embedded: Settings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with shared(embedded, template, tmp_path_factory.mktemp("state")) as made:
        yield made


def signed_in(web: Served) -> dict[str, str]:
    """What a browser of an admin sends."""
    with web.assistant.database.writer() as connection:
        secret = logins.open_session(connection, ROOT)
    return {"Cookie": f"{access.COOKIE}={secret}", access.CSRF: access.csrf(secret)}


def test_random_requests_end_in_no_servers_error(web: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "A_MINUTE", dict.fromkeys(limits.A_MINUTE, 1_000_000))
    described = httpx.get(f"{web.url}/api/openapi.json", headers=signed_in(web)).json()
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=web.url)
    bad: list[str] = []
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 20
    for operation, mode in itertools.product(operations, GenerationMode):

        @hypothesis_settings(
            max_examples=SLOW.get(operation.path, EXAMPLES),
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            # Signed in anew each time: one of the operations is to sign out.
            response = case.call(headers={**(case.headers or {}), **signed_in(web)}, timeout=60)
            if response.status_code >= 500:
                bad.append(
                    f"{case.method} {case.formatted_path}: {response.status_code} {response.text[:300]}"
                )

        with suppress(Unsatisfiable):  # an operation that takes nothing can't be asked wrongly
            ask()
    assert not bad, "\n".join(bad)


def test_every_operation_says_what_it_does_and_who_is_let_in(web: Served) -> None:
    with web.client(ADA, "chat") as client:
        schema = client.get("/api/openapi.json").json()
    silent = [
        f"{method} {path}"
        for path, item in schema["paths"].items()
        for method, operation in item.items()
        if not operation.get("description") and not operation.get("summary")
    ]
    assert not silent
    assert schema["security"] == [{"token": []}, {"session": []}]
    assert {"/v1/chat/completions", "/api/v1/admin/sources", "/api/v1/tokens"} <= set(schema["paths"])


def test_the_page_asks_no_other_server(web: Served) -> None:
    with web.client(ADA, "chat") as client:
        page, style = client.get("/api/docs"), client.get("/api/docs.css")
    assert page.status_code == style.status_code == 200
    linked = re.findall(r"""(?:src|href)=["']([^"'#][^"']*)""", page.text)
    assert linked
    assert all(address.startswith("/") for address in linked)
    assert "<script" not in page.text
    assert "url(" not in style.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for anchor in re.findall(r'href="#([^"]+)"', page.text):
        assert f'id="{anchor}"' in page.text
    assert httpx.get(f"{web.url}/api/docs").status_code == 401
