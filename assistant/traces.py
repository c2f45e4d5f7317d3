"""Traces for OpenTelemetry, where the settings ask for them: how long each step took, without people's texts.

The API that records them ships with Deskhand and does nothing by itself; what sends them is the
extra `[traces]`. What leaves is decided in one place, `_Bare`: whatever a library may put
into an error's message stays here unless `trace_texts` lets it go.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode

from assistant.config import Settings
from assistant.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

TICK = "workers.schedule.tick"
"""runs every two seconds and tells nothing"""
NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
FLUSH_MILLISECONDS = 2_000
TEXTS = ("deskhand.question", "deskhand.answer")

_tracer = trace.get_tracer("deskhand")
_texts = False
"""whether questions and answers may go into a span"""


@runtime_checkable
class _Flushing(Protocol):
    def force_flush(self, timeout_millis: int) -> bool: ...


class Answering:
    """The span of one answer, whose steps are spans below it. It is carried by hand: an answer is
    a generator, and whoever drains it may take each step in another thread."""

    def __init__(self, question: str) -> None:
        self._span: Span = _tracer.start_span("answer")
        self._below = trace.set_span_in_context(self._span)
        if _texts:
            self._span.set_attribute("deskhand.question", question)

    @contextmanager
    def step(self, name: str, *, yields: bool = False) -> Generator[None]:
        """A step; what libraries do meanwhile is told below it, unless it `yields` to others in between."""
        apart = self._apart(name) if yields else _tracer.start_as_current_span(name, context=self._below)
        with apart:
            yield

    @contextmanager
    def _apart(self, name: str) -> Generator[None]:
        span = _tracer.start_span(name, context=self._below)
        try:
            yield
        finally:
            span.end()

    def tell(self, answer: str, **values: str | int | float | bool) -> None:
        self._span.set_attributes({f"deskhand.{name}": value for name, value in values.items()})
        if _texts:
            self._span.set_attribute("deskhand.answer", answer)

    def failed(self, error: Exception) -> None:
        self._span.set_status(StatusCode.ERROR, type(error).__name__)

    def end(self) -> None:
        self._span.end()


def configure(settings: Settings, process: str) -> None:
    """Send this process's traces to where `traces` says; once a process, after its fork.

    Raises `ConfigError` when the extra is not installed.
    """
    if not settings.traces:
        return
    if not all(_installed(name) for name in NEEDED):
        raise ConfigError(
            "DESKHAND_TRACES is set, and traces need the extra [traces], which is not installed. Nothing was "
            "started: pip install 'deskhand[traces]', or leave DESKHAND_TRACES unset."
        )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter: SpanExporter = OTLPSpanExporter(endpoint=settings.traces)
    provide(BatchSpanProcessor(exporter if settings.trace_texts else _bare(exporter)), process)
    global _texts
    _texts = settings.trace_texts
    instrument()


def flush() -> None:
    """Send what was recorded and not yet sent: a process that ends on a signal does nothing more."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, _Flushing):
        provider.force_flush(FLUSH_MILLISECONDS)


def provide(processor: Any, process: str) -> None:
    """Let spans begin, and give them to `processor`."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    resource = Resource.create({"service.name": "deskhand", "deskhand.process": process})
    provider = TracerProvider(resource=resource, sampler=_sampler())
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)


def instrument() -> None:
    """What LlamaIndex, Celery and psycopg do is told from now on; SQL without its values."""
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor

    PsycopgInstrumentor().instrument(skip_dep_check=True)
    CeleryInstrumentor().instrument(skip_dep_check=True)
    _llama_index()


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _sampler() -> Any:
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult

    class NoTicks(Sampler):
        def should_sample(
            self, parent_context: Any, trace_id: int, name: str, *rest: Any, **more: Any
        ) -> Any:
            if name.endswith(TICK):
                return SamplingResult(Decision.DROP)
            return ALWAYS_ON.should_sample(parent_context, trace_id, name, *rest, **more)

        def get_description(self) -> str:
            return "all but the tick"

    return ParentBased(NoTicks())


def _bare(exporter: SpanExporter) -> SpanExporter:
    """`exporter`, given spans without what may be somebody's text."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Status

    def bare(span: ReadableSpan) -> ReadableSpan:
        events = [
            Event(
                e.name, {k: v for k, v in (e.attributes or {}).items() if k == "exception.type"}, e.timestamp
            )
            for e in span.events
        ]
        return ReadableSpan(
            name=span.name,
            context=span.get_span_context(),
            parent=span.parent,
            resource=span.resource,
            attributes={k: v for k, v in (span.attributes or {}).items() if k not in TEXTS},
            events=events,
            links=span.links,
            kind=span.kind,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    class Bare(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return exporter.export([bare(span) for span in spans])

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    return Bare()


def _llama_index() -> None:
    """A span for each of LlamaIndex's, named as it names them; arguments and results are not looked at."""
    from llama_index_instrumentation import get_dispatcher
    from llama_index_instrumentation.span import BaseSpan
    from llama_index_instrumentation.span_handlers import BaseSpanHandler

    open_spans: dict[str, tuple[Span, Any]] = {}
    lock = threading.Lock()

    def closed(id_: str, error: BaseException | None = None) -> BaseSpan:
        with lock:
            span, token = open_spans.pop(id_, (trace.INVALID_SPAN, None))
        if error is not None:
            span.set_status(StatusCode.ERROR, type(error).__name__)
        span.end()
        if token is not None:
            contexts.detach(token)
        return BaseSpan(id_=id_)

    class Spans(BaseSpanHandler[BaseSpan]):
        def new_span(self, id_: str, *_: Any, **__: Any) -> BaseSpan:
            span = _tracer.start_span(id_.partition("-")[0])
            with lock:
                open_spans[id_] = span, contexts.attach(trace.set_span_in_context(span))
            return BaseSpan(id_=id_)

        def prepare_to_exit_span(self, id_: str, *_: Any, **__: Any) -> BaseSpan:
            return closed(id_)

        def prepare_to_drop_span(
            self, id_: str, *_: Any, err: BaseException | None = None, **__: Any
        ) -> BaseSpan:
            return closed(id_, err)

    get_dispatcher().add_span_handler(Spans())
