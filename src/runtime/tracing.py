"""Traces: what one order led to, across services, for an OpenTelemetry collector. Off unless a setting names one.

A span is one step: its name, when it began and ended, and the span that it follows from. From process to process that
travels as the header `traceparent` (W3C Trace Context) of an HTTP request, of a request over NATS and of a message in a
log. Shells hand it on; cores do not know of it.

While tracing is off nothing of OpenTelemetry is imported. Where thousands of orders a second pass, `tracer` is looked
at first; elsewhere these functions are called as they are, and do nothing.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from runtime.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

TRACEPARENT = "traceparent"

EXPORT_TIMEOUT = 1.0
"""Seconds the collector may take for a batch of spans: those that it does not take in time are lost."""

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
    parent: "Span | None" = None,
    about: Mapping[str, Attribute] = MappingProxyType({}),
    *,
    began: float | None = None,
    links: Sequence["Span"] = (),
) -> "Span":
    """Begin a span; whoever does ends it. Only while tracing is on.

    Args:
        name: what is done, of few values.
        parent: the span it follows from; None for the current one, and for a new trace if there is none.
        about: ids and figures that it speaks of.
        began: when, by `time.perf_counter`, if not now.
        links: other spans that it follows from.
    """
    from opentelemetry import trace

    assert tracer is not None  # noqa: S101 # for the type checker: callers have looked
    return tracer.start_span(
        name,
        None if parent is None else trace.set_span_in_context(parent),
        attributes=dict(about),
        links=[trace.Link(span.get_span_context()) for span in links],
        start_time=None if began is None else time.time_ns() - int((time.perf_counter() - began) * 1e9),
        record_exception=False,
    )


def within(span: "Span | None", *, ends: bool = False) -> AbstractContextManager["Span | None"]:
    """Have a span be the current one, and, if it `ends`, end it then."""
    if span is None:
        return _OFF
    from opentelemetry import trace

    return trace.use_span(span, end_on_exit=ends, record_exception=False)


def span(name: str, parent: "Span | None" = None, **about: Attribute) -> AbstractContextManager["Span | None"]:
    """A span around a block, which is the current one there. See `begin`; while tracing is off it is none."""
    return _OFF if tracer is None else within(begin(name, parent, about), ends=True)


@contextmanager
def batch(name: str, parents: Sequence["Span"], **about: Attribute) -> Iterator[None]:
    """A span around a block in which something is done for several at once. Only while tracing is on.

    It follows from the first of them and is linked to the others. Each of those gets a span of its own of the same
    name, linked to it.
    """
    first, others = (parents[0], parents[1:]) if parents else (None, ())
    with within(begin(name, first, about, links=others), ends=True) as shared:
        assert shared is not None  # noqa: S101 # for the type checker: it was given
        own = [begin(name, other, about, links=[shared]) for other in others]
        try:
            yield
        finally:
            for each in own:
                each.end()


def current() -> "Span | None":
    """The current span; None if there is none."""
    if tracer is None:
        return None
    from opentelemetry import trace

    found = trace.get_current_span()
    return found if found.get_span_context().is_valid else None


def inject() -> dict[str, str]:
    """The headers that have whoever gets a message go on from the current span; none if there is none."""
    span = current()
    if span is None:
        return {}
    at = span.get_span_context()
    return {TRACEPARENT: f"00-{at.trace_id:032x}-{at.span_id:016x}-{at.trace_flags:02x}"}


def extract(headers: Mapping[str, str] | None) -> "Span | None":
    """The span that a message's headers name, to go on from. One that names nothing begins a new trace.

    None while tracing is off.
    """
    if tracer is None:
        return None
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {TRACEPARENT: (headers or {}).get(TRACEPARENT, "")}
    return trace.get_current_span(TraceContextTextMapPropagator().extract(carrier, Context()))


def answering(subject: str, headers: Mapping[str, str] | None) -> AbstractContextManager["Span | None"]:
    """A span around the answer to a request over NATS, if the request is part of a trace."""
    return span(subject, extract(headers)) if headers and TRACEPARENT in headers else _OFF


def http(scope: Mapping[str, Any]) -> "Span":
    """Begin the span of an HTTP request, as ASGI tells of it. Only while tracing is on."""
    found = [value.decode("latin-1") for key, value in scope["headers"] if key == TRACEPARENT.encode()]
    parent = extract({TRACEPARENT: found[0]} if found else None)
    method, path = scope["method"], scope["path"]
    return begin(f"{method} /{path.split('/')[1]}", parent, {"http.request.method": method, "url.path": path})


def traced(app: Callable[..., Any]) -> Callable[..., Any]:
    """An ASGI app with a span around each request that may change something; `app` itself while tracing is off."""
    if tracer is None:
        return app

    async def around(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await app(scope, receive, send)
            return
        with within(http(scope), ends=True):
            await app(scope, receive, send)

    return around
