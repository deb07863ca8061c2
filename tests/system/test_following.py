"""One order followed through a running system: by its trace, and by the log lines that name its ids."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from support.collector import Collector, Span
from support.http import plain_client
from support.stack import Desk, Stack
from support.waiting import STACK_HANG, eventually

pytestmark = pytest.mark.system

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """The collector of the system's spans."""
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Stack]:
    """One symbol that a maker quotes, no order flow, with traces and debug logs."""
    own = Stack(
        tmp_path_factory.mktemp("following"),
        ["AAA"],
        LOADGEN_RATE=0.001,
        STACK_LOG_LEVEL="debug",
        STACK_TRACES=collector.url,
    )
    own.environ["OTEL_BSP_SCHEDULE_DELAY"] = "100"
    own.start()
    yield own
    assert own.stop() == 0, own.output()


@pytest.fixture
async def desk(stack: Stack) -> AsyncIterator[Desk]:
    """A client of that system."""
    async with plain_client(timeout=STACK_HANG) as http:
        yield Desk(stack, http)


async def executed(desk: Desk, order_id: str, **headers: str) -> tuple[dict[str, str], str]:
    """Execute an order. Return its fill, and the id of the quote that replaces the one it executed on."""
    body = {"order_id": order_id, "symbol": "AAA", "side": "buy", "quantity": 1, "limit_price": "200.00"}

    async def filled() -> dict[str, str] | None:
        result = (await desk.http.post(desk.stack.url("exchange", "/orders"), json=body, headers=headers)).json()
        return result["fills"][0] if result["fills"] else None

    fill = await eventually(filled, STACK_HANG)

    async def replaced() -> str | None:
        quote = (await desk.get("exchange", "/quotes/AAA"))["quote_id"]
        return quote if quote != fill["quote_id"] else None

    return fill, await eventually(replaced, STACK_HANG)


def step(span: Span) -> tuple[str, str]:
    """Return the service and the name of a span; for an append to the market log, also the kind of message."""
    subject = str(span.about.get("subject", "")).partition(".")[0]
    return span.service, f"{span.name} {subject}".strip()


async def test_one_trace_follows_an_order_to_the_quote_that_replaces_the_one_it_executed_on(
    desk: Desk, collector: Collector
) -> None:
    fill, quote_id = await executed(desk, "traced-1", traceparent=f"00-{TRACE}-{CLIENT}-01")
    follows_from = {
        ("exchange", "POST /orders"): None,
        ("exchange", "order"): ("exchange", "POST /orders"),
        ("exchange", "append fills"): ("exchange", "order"),
        ("ledger", "commit"): ("exchange", "append fills"),
        ("ledger", "publish"): ("ledger", "commit"),
        ("maker", "attempt"): ("ledger", "publish"),
        ("exposure", "rpc.exposure.reserve"): ("maker", "prefetch"),
        ("maker", "prefetch"): ("exchange", "append fills"),
        ("exchange", "rpc.exchange.put-quote"): ("maker", "attempt"),
        ("exposure", "rpc.exposure.activate"): ("exchange", "rpc.exchange.put-quote"),
        ("exposure", "decide"): ("exposure", "rpc.exposure.activate"),
        ("exchange", "append quotes"): ("exchange", "rpc.exchange.put-quote"),
    }

    def spans() -> dict[tuple[str, str], Span] | None:
        """Return the last span of each step: an order without a quote, and the decision on `reserve`, come before."""
        last = {step(span): span for span in collector.trace(TRACE)}
        return last if follows_from.keys() <= last.keys() else None

    if ("maker", "prefetch") not in {step(span) for span in await eventually(lambda: reserved(collector))}:
        # The maker received the position before the fill.
        del follows_from["maker", "prefetch"]
        follows_from["exposure", "rpc.exposure.reserve"] = ("maker", "attempt")
    found = await eventually(spans, STACK_HANG)
    assert found.keys() == follows_from.keys()
    for name, before in follows_from.items():
        assert found[name].parent == (found[before].id if before else CLIENT), name
        assert found[name].began <= found[name].ended
    order = found["exchange", "order"]
    assert (order.about["order_id"], order.about["fill_id"]) == ("traced-1", fill["fill_id"])
    assert found["maker", "attempt"].about["quote_id"] == quote_id


def reserved(collector: Collector) -> list[Span] | None:
    """Return the spans of the trace if they include the attempt."""
    spans = collector.trace(TRACE)
    return spans if ("maker", "attempt") in {step(span) for span in spans} else None


async def test_an_order_that_did_not_execute_is_logged_with_the_reason(desk: Desk) -> None:
    cheap = ""

    async def rejected_for_its_price() -> bool:
        """The reason is another one while an earlier test has bought the whole quote."""
        nonlocal cheap
        cheap = f"cheap-{next(numbers)}"
        return bool((await desk.order(cheap, "AAA", "buy", 1, "1.00"))["reason"] == "not_marketable")

    numbers = itertools.count(1)
    await eventually(rejected_for_its_price, STACK_HANG)
    body = {"order_id": "off-tick-1", "symbol": "AAA", "side": "buy", "quantity": 1, "limit_price": "1.001"}
    assert (await desk.post("exchange", "/orders", body)).status_code == 400
    rejected = {"event": "rejected", "order_id": cheap, "symbol": "AAA", "reason": "not_marketable"}
    refused = {"event": "refused", "order_id": "off-tick-1", "symbol": "AAA", "reason": "invalid-field"}
    for wanted in (rejected, refused):

        def logged(wanted: dict[str, str] = wanted) -> bool:
            return any(wanted.items() <= line.items() for line in desk.stack.logs("exchange"))

        await eventually(logged, STACK_HANG)


def test_debug_logs_contain_only_lines_of_the_services_and_not_of_libraries(stack: Stack) -> None:
    """So an order is easy to find, without every statement of the ledger's database in between."""
    for service in stack.ports:
        assert {
            line["logger"] for line in stack.logs(service) if line["level"] == "debug" and "logger" in line
        } == set()


async def test_the_log_lines_of_every_service_name_an_order_or_what_it_led_to(desk: Desk) -> None:
    fill, quote_id = await executed(desk, "logged-1")
    version = int(quote_id.removeprefix("AAA-v").partition("-")[0])
    of_fill = {key: fill[key] for key in ("order_id", "fill_id", "symbol", "quote_id")} | {"position_version": version}
    of_quote = {"symbol": "AAA", "quote_id": quote_id, "position_version": version}
    of_reservation = {"symbol": "AAA", "quote_id": quote_id, "reservation_id": f"{quote_id}-r"}
    for service, event, ids in (
        ("exchange", "filled", of_fill),
        ("ledger", "fill applied", of_fill),
        ("ledger", "position published", {"symbol": "AAA", "position_version": version}),
        ("maker", "reservation granted", of_quote),
        ("exposure", "granted", of_reservation),
        ("exposure", "activated", of_reservation),
        ("exchange", "quote active", of_quote | of_reservation),
        ("maker", "quote active", of_quote),
    ):
        wanted = {"event": event, **ids}

        def logged(service: str = service, wanted: dict[str, object] = wanted) -> bool:
            return any(wanted.items() <= line.items() for line in desk.stack.logs(service))

        await eventually(logged, STACK_HANG)
