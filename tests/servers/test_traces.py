"""Traces as a collector gets them from real processes: what is in them, and what never is."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from assistant import traces
from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.runtime.up import environment
from assistant.surfaces.api.serve import address
from assistant.weights import State, check
from tests.paths import PROJECT
from tests.servers.served import ADA, Served, fill, served

QUESTION = "Which port does the relay listen on?"
WORK = """
from assistant import traces
from assistant.config import settings
from workers import schedule, sync
traces.configure(settings(), "worker")
schedule.tick.apply()
sync.work.apply()
"""


class Collector:
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.raw = b""
        self.spans: list[Span] = []
        self.processes: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {a.key: a.value.string_value for a in resource.resource.attributes}
            self.processes.add(named["deskhand.process"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def named(self, name: str) -> Span:
        return next(span for span in self.spans if span.name == name)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def traced(settings: Settings, collector: Collector) -> Settings:
    if check(settings.embedder, settings) is not State.PRESENT:
        pytest.skip("the embedding model is not here: `deskhand models pull`")
    return settings.model_copy(update={"traces": collector.url})


def web_asked(settings: Settings, web: Served) -> str:
    """A web server in a process of its own is asked, and ended; the answer's text."""
    settings.state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "assistant.surfaces.api.serve"]
    process = subprocess.Popen(command, env=environment(settings), cwd=PROJECT)
    try:
        wait(lambda: bool(address(settings.state)))
        body = {"model": "deskhand", "messages": [{"role": "user", "content": QUESTION}]}
        headers = {"Authorization": f"Bearer {web.token(ADA, 'chat')}"}
        wait(lambda: answers(address(settings.state)))
        reply = httpx.post(
            f"{address(settings.state)}/v1/chat/completions", json=body, headers=headers, timeout=60
        )
        return str(reply.json()["choices"][0]["message"]["content"])
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_an_answer_is_one_trace_of_steps_without_texts(traced: Settings, collector: Collector) -> None:
    with served(traced.model_copy(update={"traces": ""})) as web:
        fill(web.assistant)
        text = web_asked(traced, web)
    assert "7420" in text
    answer = collector.named("answer")
    steps = {span.name for span in collector.spans if span.parent_span_id == answer.span_id}
    assert {"rewrite", "retrieve", "read", "generate", "verify"} <= steps
    retrieve = collector.named("retrieve")
    below = {span.name for span in collector.spans if span.parent_span_id == retrieve.span_id}
    assert "DeskRetriever.retrieve" in below, "what LlamaIndex does is told below the step"
    statements = [a for span in collector.spans for a in span.attributes if a.key == "db.statement"]
    assert any("set_config" in a.value.string_value for a in statements), "and what psycopg does"
    told = {a.key for a in answer.attributes}
    assert {"deskhand.model", "deskhand.passages", "deskhand.declined"} <= told
    assert collector.processes == {"web"}
    for secret in (b"7420", b"relay", ADA.encode(), b"keepalive"):
        assert secret not in collector.raw.lower(), secret


def test_texts_are_told_where_the_settings_say_so(traced: Settings, collector: Collector) -> None:
    loud = traced.model_copy(update={"trace_texts": True})
    with served(traced.model_copy(update={"traces": ""})) as web:
        fill(web.assistant)
        text = web_asked(loud, web)
    told = {a.key: a.value.string_value for a in collector.named("answer").attributes}
    assert (told["deskhand.question"], told["deskhand.answer"]) == (QUESTION, text)


def test_a_workers_task_is_a_trace_and_the_tick_is_none(traced: Settings, collector: Collector) -> None:
    subprocess.run(
        [sys.executable, "-c", WORK], env=environment(traced), cwd=PROJECT, check=True, timeout=120
    )
    names = {span.name for span in collector.spans}
    assert "run/workers.sync.work" in names
    assert not any(traces.TICK in name for name in names)
    assert collector.processes == {"worker"}


def test_what_an_error_says_stays_here(traced: Settings, collector: Collector) -> None:
    program = (
        "from assistant import traces\nfrom assistant.config import settings\n"
        "from opentelemetry import trace\ntraces.configure(settings(), 'web')\n"
        "with trace.get_tracer('x').start_as_current_span('broken'):\n"
        "    raise ValueError('Key (name)=(Ada Lovelace) is there already')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(traced),
        cwd=PROJECT,
        capture_output=True,
        check=False,
    )
    assert b"Lovelace" in run.stderr
    broken = collector.named("broken")
    assert [a.value.string_value for a in broken.events[0].attributes] == ["ValueError"]
    assert b"Lovelace" not in collector.raw


def test_without_the_extra_a_sentence_says_what_to_install(
    traced: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "NEEDED", ("opentelemetry.nothing_of_this_name",))
    with pytest.raises(ConfigError, match=r"deskhand\[traces\]"):
        traces.configure(traced, "web")
