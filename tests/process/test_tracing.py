"""Spans and their links, as an exporter in memory receives them; and that nothing happens while tracing is off."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from process import tracing
from process.settings import SettingsError

CLIENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def ended(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_trace_continues_from_the_headers_of_a_message(spans: InMemorySpanExporter) -> None:
    with tracing.span("sends", tracing.extract(CLIENT)):
        sent = tracing.inject()
    with tracing.request_span("answers", sent):
        assert tracing.inject() not in (sent, {})
    assert tracing.inject() == {}
    found = ended(spans)
    sends, answers = found["sends"], found["answers"]
    assert sends.parent is not None
    assert f"{sends.parent.span_id:016x}" == "b7ad6b7169203331"
    assert answers.parent is not None
    assert answers.parent.span_id == sends.context.span_id
    assert f"{answers.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    "headers", [None, {}, {"Nats-Msg-Id": "1"}, {"traceparent": ""}, {"traceparent": "00-1-2-3\r\nx: y"}]
)
def test_a_message_without_a_valid_trace_has_no_span(
    spans: InMemorySpanExporter, headers: dict[str, str] | None
) -> None:
    with tracing.request_span("answers", headers):
        assert tracing.inject() == {}
    assert spans.get_finished_spans() == ()


def test_a_trace_that_is_not_sampled_is_passed_on_unrecorded(spans: InMemorySpanExporter) -> None:
    unsampled = {"traceparent": CLIENT["traceparent"].removesuffix("01") + "00"}
    with tracing.request_span("answers", unsampled):
        assert tracing.inject()["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
        assert tracing.inject()["traceparent"].endswith("-00")
    assert spans.get_finished_spans() == ()


def test_a_batch_is_a_span_of_the_first_trace_linked_to_the_others(
    spans: InMemorySpanExporter,
) -> None:
    orders = [tracing.begin(f"order {number}", tracing.root()) for number in range(3)]
    with tracing.batch("append", orders):
        carried = tracing.inject()["traceparent"]
    shared, *own = sorted(spans.get_finished_spans(), key=lambda span: len(span.links), reverse=True)
    assert carried.split("-")[2] == f"{shared.context.span_id:016x}"
    first, *others = [order.get_span_context() for order in orders]
    assert shared.parent is not None
    assert shared.parent.span_id == first.span_id
    assert [link.context.span_id for link in shared.links] == [order.span_id for order in others]
    assert {span.parent.span_id for span in own if span.parent} == {order.span_id for order in others}
    assert [[link.context.span_id for link in span.links] for span in own] == [[shared.context.span_id]] * 2


def test_a_request_without_a_trace_does_not_join_that_of_the_previous_request(
    spans: InMemorySpanExporter,
) -> None:
    """The next request on a connection may be read while the previous one is being answered."""
    request = ("POST", "/orders", [(b"host", b"x")])
    with tracing.within(tracing.http_span(*request), ends=True):
        tracing.http_span(*request).end()
    one, other = spans.get_finished_spans()
    assert (one.parent, other.parent) == (None, None)
    assert one.context.trace_id != other.context.trace_id


async def test_requests_that_only_read_have_no_span(spans: InMemorySpanExporter) -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        return

    traced = tracing.trace_requests(app)
    for method in ("GET", "PUT"):
        await traced({"type": "http", "method": method, "path": "/quotes/AAA", "headers": []}, None, None)
    await traced({"type": "websocket", "path": "/positions/stream", "headers": []}, None, None)
    assert list(ended(spans)) == ["PUT /quotes"]


@pytest.mark.parametrize(
    ("path", "name"), [("/", "POST /"), ("*", "POST /*"), ("//" + "x" * 5000, f"POST /{'x' * 98}")]
)
def test_the_name_of_a_span_is_short_whatever_is_requested(spans: InMemorySpanExporter, path: str, name: str) -> None:
    tracing.http_span("POST", path, [(b"traceparent", b"\xff")]).end()
    assert list(ended(spans)) == [name]


def test_while_tracing_is_off_opentelemetry_is_not_imported() -> None:
    """In a separate process that imports every traced service."""
    program = """
import sys
import exchange.service, exposure.service, ledger.service, maker.service, web.serve
from process import tracing
tracing.configure("exchange", "")
with tracing.span("a", tracing.root()), tracing.request_span("b", {"traceparent": "%s"}):
    assert tracing.inject() == {} and tracing.current() is None
async def app(scope, receive, send): ...
assert tracing.trace_requests(app) is app
found = [name for name in sys.modules if name.partition(".")[0] in ("opentelemetry", "google", "requests")]
assert found == [], found
"""
    done = subprocess.run([sys.executable, "-c", program % CLIENT["traceparent"]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_opentelemetry_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(SettingsError, match="uv sync --extra traces"):
        tracing.configure("exchange", "http://127.0.0.1:1")
    assert tracing.tracer is None
