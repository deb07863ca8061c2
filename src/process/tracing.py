"""Traces of orders and quotes across services, for an OpenTelemetry collector. Off unless a setting names one.

A span is one step: its name, its begin and end, and its parent span. Between processes, the parent is passed on in the
header `traceparent` (W3C Trace Context) of HTTP requests, of NATS requests and of messages in logs. Only shells know of
tracing; cores do not.

While tracing is off, OpenTelemetry is not imported. Code that handles thousands of orders per second checks `tracer`
first; other code just calls these functions, which then do nothing.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from process.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

TRACEPARENT = "traceparent"

EXPORT_TIMEOUT = 1.0
"""Seconds that the collector may take to accept a batch of spans. Later ones are lost."""

AnySpan: TypeAlias = "Span | None"
"""A span, or None, which is all there is while tracing is off."""

MAX_PATH = 100
"""How many characters of a request's path a span contains, since strangers may request anything."""

tracer: "Tracer | None" = None
"""Creates spans; None while tracing is off."""

_OFF: AbstractContextManager[None] = nullcontext()

Attribute = str | int | float


def configure(service: str, url: str) -> None:
    """Send this process's spans to the OTLP/HTTP collector at `url`; do nothing if it is empty.

    OpenTelemetry's own variables configure the rest, such as the share of traces that is kept (`OTEL_TRACES_SAMPLER`).

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    global tracer  # noqa: PLW0603 # like the loggers, it is global to the process
    if not url:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(f"QS_STACK_TRACES needs {error.name}: `uv sync --extra traces` installs it") from error
    instance = os.environ.get("SUPERVISOR_PROCESS_NAME", service)
    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.instance.id": instance}))
    exporter = OTLPSpanExporter(f"{url.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("quotestream")


def begin(
    name: str,
    parent: AnySpan = None,
    attributes: Mapping[str, Attribute] = MappingProxyType({}),
    *,
    began: float | None = None,
    links: Sequence["Span"] = (),
) -> "Span":
    """Begin a span, which the caller must end. Call it only while tracing is on.

    Args:
        name: the step; one of few values.
        parent: the parent span; None for the current span, or for a new trace if there is none.
        attributes: the ids and figures concerned.
        began: when the span began, on `time.perf_counter`, if not now.
        links: further spans that it follows from.
    """
    from opentelemetry import trace

    assert tracer is not None  # noqa: S101 # for the type checker: callers have checked
    return tracer.start_span(
        name,
        None if parent is None else trace.set_span_in_context(parent),
        attributes=dict(attributes),
        links=[trace.Link(span.get_span_context()) for span in links],
        start_time=None if began is None else time.time_ns() - int((time.perf_counter() - began) * 1e9),
        record_exception=False,
    )


def within(span: AnySpan, *, ends: bool = False) -> AbstractContextManager[AnySpan]:
    """Make a span the current one within a block; with `ends`, end it with the block."""
    if span is None:
        return _OFF
    from opentelemetry import trace

    return trace.use_span(span, end_on_exit=ends, record_exception=False)


def span(name: str, parent: AnySpan, **attributes: Attribute) -> AbstractContextManager[AnySpan]:
    """Make a new span the current one within a block; see `begin`. Without a parent there is no span."""
    return _OFF if tracer is None or parent is None else within(begin(name, parent, attributes), ends=True)


@contextmanager
def batch(name: str, parents: Sequence["Span"], **attributes: Attribute) -> Iterator[None]:
    """Make a span for one step that is taken for several parents at once. Call it only while tracing is on.

    The span is a child of the first parent, and is linked to the others. Each other parent gets a child span of the
    same name, linked to the shared one. Without parents there is no span.
    """
    if not parents:
        yield
        return
    first, *others = parents
    shared = begin(name, first, attributes, links=others)
    own = [begin(name, other, attributes, links=[shared]) for other in others]
    with within(shared, ends=True):
        try:
            yield
        finally:
            for each in own:
                each.end()


def current() -> AnySpan:
    """Return the current span; None if there is none."""
    if tracer is None:
        return None
    from opentelemetry import trace

    found = trace.get_current_span()
    return found if found.get_span_context().is_valid else None


def inject() -> dict[str, str]:
    """Return the headers that make a message's receiver continue from the current span; empty if there is none."""
    if (span := current()) is None:
        return {}
    at = span.get_span_context()
    return {TRACEPARENT: f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"}


def extract(headers: Mapping[str, str] | None) -> AnySpan:
    """Return the span that a message's headers name, as a parent; None if they name none, or tracing is off."""
    if tracer is None or not headers or TRACEPARENT not in headers:
        return None
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {TRACEPARENT: headers[TRACEPARENT]}
    found = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier, Context()))
    return found if found.get_span_context().is_valid else None


def root() -> AnySpan:
    """Return the parent that begins a new trace; None while tracing is off."""
    if tracer is None:
        return None
    from opentelemetry import trace

    return trace.INVALID_SPAN


def request_span(subject: str, headers: Mapping[str, str] | None) -> AbstractContextManager[AnySpan]:
    """Make a span for the handling of a NATS request, if the request is part of a trace."""
    return span(subject, extract(headers))


def http_span(method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> "Span":
    """Begin the span of an HTTP request. Call it only while tracing is on."""
    fields = {key.decode("latin-1"): value.decode("latin-1") for key, value in headers}
    attributes = {"http.request.method": method, "url.path": path[:MAX_PATH]}
    return begin(f"{method} /{path[:MAX_PATH].strip('/').partition('/')[0]}", extract(fields) or root(), attributes)


def trace_requests(app: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an ASGI app: each request that may change something gets a span. While tracing is off, return `app`."""
    if tracer is None:
        return app

    async def around(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await app(scope, receive, send)
            return
        with within(http_span(scope["method"], scope["path"], scope["headers"]), ends=True):
            await app(scope, receive, send)

    return around
