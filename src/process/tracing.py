"""Traces: what one order led to, across services, for an OpenTelemetry collector. Off unless a setting names one.

A span is one step: its name, when it began and ended, and the span that it follows from. From process to process that
travels as the header `traceparent` (W3C Trace Context) of an HTTP request, of a request over NATS and of a message in a
log. Shells hand it on; cores do not know of it.

While tracing is off nothing of OpenTelemetry is imported. Where thousands of orders a second pass, `tracer` is looked
at first; elsewhere these functions are called as they are, and do nothing.
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
"""Seconds the collector may take for a batch of spans: those that it does not take in time are lost."""

AnySpan: TypeAlias = "Span | None"
"""A span, or none: while tracing is off there are none."""

MAX_PATH = 100
"""Characters of a request's path that are told: strangers may ask for anything."""

tracer: "Tracer | None" = None
"""Makes spans; None while tracing is off."""

_OFF: AbstractContextManager[None] = nullcontext()

Attribute = str | int | float


def configure(service: str, url: str) -> None:
    """Have this process's spans sent to the OTLP/HTTP collector at `url`; empty for none.

    OpenTelemetry's own variables say the rest, such as which share of the traces is kept (`OTEL_TRACES_SAMPLER`).

    Raises:
        SettingsError: OpenTelemetry is not installed.
    """
    global tracer  # noqa: PLW0603 # as with logs, there is one in a process
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
    """Begin a span; whoever does ends it. Only while tracing is on.

    Args:
        name: what is done, of few values.
        parent: the span it follows from; None for the current one, and for a new trace if there is none.
        attributes: ids and figures that it speaks of.
        began: when, by `time.perf_counter`, if not now.
        links: other spans that it follows from.
    """
    from opentelemetry import trace

    assert tracer is not None  # noqa: S101 # for the type checker: callers have looked
    return tracer.start_span(
        name,
        None if parent is None else trace.set_span_in_context(parent),
        attributes=dict(attributes),
        links=[trace.Link(span.get_span_context()) for span in links],
        start_time=None if began is None else time.time_ns() - int((time.perf_counter() - began) * 1e9),
        record_exception=False,
    )


def within(span: AnySpan, *, ends: bool = False) -> AbstractContextManager[AnySpan]:
    """Have a span be the current one, and, if it `ends`, end it then."""
    if span is None:
        return _OFF
    from opentelemetry import trace

    return trace.use_span(span, end_on_exit=ends, record_exception=False)


def span(name: str, parent: AnySpan, **attributes: Attribute) -> AbstractContextManager[AnySpan]:
    """A span around a block, which is the current one there. See `begin`; none if it follows from nothing."""
    return _OFF if tracer is None or parent is None else within(begin(name, parent, attributes), ends=True)


@contextmanager
def batch(name: str, parents: Sequence["Span"], **attributes: Attribute) -> Iterator[None]:
    """A span around a block in which something is done for several at once. Only while tracing is on.

    It follows from the first of them and is linked to the others. Each of those gets a span of its own of the same
    name, linked to it. For none there is none.
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
    """The current span; None if there is none."""
    if tracer is None:
        return None
    from opentelemetry import trace

    found = trace.get_current_span()
    return found if found.get_span_context().is_valid else None


def inject() -> dict[str, str]:
    """The headers that have whoever gets a message go on from the current span; none if there is none."""
    if (span := current()) is None:
        return {}
    at = span.get_span_context()
    return {TRACEPARENT: f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"}


def extract(headers: Mapping[str, str] | None) -> AnySpan:
    """The span that a message's headers name, to go on from; None if they name none, and while tracing is off."""
    if tracer is None or not headers or TRACEPARENT not in headers:
        return None
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {TRACEPARENT: headers[TRACEPARENT]}
    found = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier, Context()))
    return found if found.get_span_context().is_valid else None


def root() -> AnySpan:
    """What begins a new trace, as a parent; None while tracing is off."""
    if tracer is None:
        return None
    from opentelemetry import trace

    return trace.INVALID_SPAN


def request_span(subject: str, headers: Mapping[str, str] | None) -> AbstractContextManager[AnySpan]:
    """A span around the answer to a request over NATS, if the request is part of a trace."""
    return span(subject, extract(headers))


def http_span(method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> "Span":
    """Begin the span of an HTTP request. Only while tracing is on."""
    fields = {key.decode("latin-1"): value.decode("latin-1") for key, value in headers}
    attributes = {"http.request.method": method, "url.path": path[:MAX_PATH]}
    return begin(f"{method} /{path[:MAX_PATH].strip('/').partition('/')[0]}", extract(fields) or root(), attributes)


def trace_requests(app: Callable[..., Any]) -> Callable[..., Any]:
    """An ASGI app with a span around each request that may change something; `app` itself while tracing is off."""
    if tracer is None:
        return app

    async def around(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await app(scope, receive, send)
            return
        with within(http_span(scope["method"], scope["path"], scope["headers"]), ends=True):
            await app(scope, receive, send)

    return around
