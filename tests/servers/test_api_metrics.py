"""What Prometheus and whatever restarts Deskhand get to see: numbers, no names, and only with a token."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed
from pydantic import SecretStr

from assistant.config import Settings
from assistant.store import sources
from tests.servers.served import ADA, EVE, PORT, ROOT, Served, served, shared


@pytest.fixture(scope="module")
def web(embedded: Settings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with shared(embedded, template, tmp_path_factory.mktemp("state")) as made:
        yield made


def scraped(web: Served) -> dict[tuple[str, ...], float]:
    """By name and labels' values."""
    with web.client(ROOT, "metrics") as client:
        response = client.get("/metrics")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parsed(response.text)
        for sample in family.samples
    }


def ask(web: Served, question: str) -> None:
    with web.client(EVE, "chat") as client:
        body = {"model": "deskhand", "messages": [{"role": "user", "content": question}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 200


def test_answers_and_declines_are_counted_with_their_times(web: Served) -> None:
    before = scraped(web)
    ask(web, "Which port does the relay listen on?")
    ask(web, "Who won the chess tournament in 1972?")
    after = scraped(web)
    for outcome in ("answered", "declined"):
        key = ("deskhand_answers_total", outcome)
        assert after[key] == before.get(key, 0) + 1
    assert (
        after[("deskhand_first_token_seconds_count",)] >= before[("deskhand_first_token_seconds_count",)] + 1
    )
    assert after[("deskhand_answer_seconds_count",)] == before[("deskhand_answer_seconds_count",)] + 2


def test_sources_and_queues_are_told_by_number(web: Served) -> None:
    told = scraped(web)
    with web.assistant.database.writer() as connection:
        number = str(sources.get(connection, "files").id)
    assert told[("deskhand_sources", "done")] == 1
    assert told[("deskhand_sources", "failed")] == 0
    assert told[("deskhand_source_documents", number)] == 3
    assert told[("deskhand_source_pending", number)] == 0
    assert told[("deskhand_source_last_run_timestamp_seconds", number)] > 1_700_000_000
    assert told[("deskhand_queue_documents",)] == 0
    assert told[("deskhand_queue_messages", "ingest")] == 0


def test_no_name_and_no_text_is_told(web: Served) -> None:
    ask(web, "Which port does the relay listen on?")
    with web.client(ROOT, "metrics") as client:
        text = client.get("/metrics").text.lower()
    for secret in ("files", "acme", "ada", "relay", "ports", PORT.lower()):
        assert not re.search(rf"\b{secret}\b", text), secret


def test_a_token_is_needed_even_on_this_machine(web: Served) -> None:
    assert httpx.get(f"{web.url}/metrics").status_code == 401
    for who, scope in ((ADA, "metrics"), (ROOT, "chat")):
        with web.client(who, scope) as client:
            assert client.get("/metrics").status_code == 403
    with web.client(ROOT, "metrics") as client:
        assert client.get("/v1/models").status_code == 403, "and it is good for nothing else"
        assert client.get("/api/v1/admin/sources").status_code == 403


def test_alive_and_ready(web: Served) -> None:
    assert httpx.get(f"{web.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{web.url}/readyz").json() == {"status": "ready", "missing": []}


def test_without_a_broker_it_is_alive_and_not_ready(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    with served(away) as web:
        assert httpx.get(f"{web.url}/healthz").status_code == 200
        response = httpx.get(f"{web.url}/readyz")
        assert response.status_code == 503
        assert response.json() == {"status": "not ready", "missing": ["broker"]}
        told = scraped(web)
        assert not any(name == "deskhand_queue_messages" for name, *_ in told)
