"""Everything that is decoded from the broker: any payload is either decoded, or refused as unreadable.

Each decoder gets 25 times `QS_FUZZ_EXAMPLES` payloads.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.aio.msg import Msg

from exposure.usage import Usage
from jet import api, rpc
from jet.consumer import Consumer
from jet.process_poller import ProcessPoller
from jet.tail import LastPerSubject, Tail
from ledger.positions import Books, fold, read
from maker.pricing import prices
from support.builders import (
    instrument,
    order,
    position_update,
    quote_activated,
    quote_request,
    recorded_fill,
    reservation_request,
)
from support.poison import UNDECODABLE
from ui.processes import Processes
from ui.unquoted import unquoted
from wire import subjects
from wire.errors import Problem, Refused
from wire.fields import DECODE_ERRORS
from wire.losses import Latches
from wire.market import SymbolMarket
from wire.orders import RecordedFill
from wire.positions import PositionUpdate
from wire.processes import ProcessReport
from wire.quotes import PutQuote, Quote, QuoteEvent, WithdrawQuote
from wire.reservations import LimitUsage, Reservation, ReservationAnswer, ReservationRecord, ReservationRequest

EXAMPLES = 25 * int(os.environ.get("QS_FUZZ_EXAMPLES", "4"))
NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)

QUOTE = {"type": "activated", **msgspec.to_builtins(quote_activated())}
FILL = msgspec.to_builtins(recorded_fill())
POSITION = msgspec.to_builtins(position_update())
RECORD = {
    "reservation_id": "r",
    "quote_id": "q",
    "symbol": "AAA",
    "reserved_bid_quantity": 1,
    "reserved_ask_quantity": 1,
    "state": "active",
    "granted_at": "2026-01-05T09:30:00Z",
    "activated_at": None,
    "expires_at": "2026-01-05T09:30:30Z",
    "outcome": "granted",
    "asked_bid_quantity": 1,
    "asked_ask_quantity": 1,
    "granted_bid_quantity": 1,
    "granted_ask_quantity": 1,
}

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**40), max_value=10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(
        ["sNaN", "-Infinity", "1e999999", "1e-999999", "-0", "0", "9" * 5000, "AAA", "BBB", "a.b", "*", ">", "\ud800"]
    ),
    st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "2026-02-30T00:00:00Z"]),
    st.datetimes(timezones=st.just(UTC)).map(lambda when: when.isoformat()),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def near(whole: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Return payloads that are nearly a message: fields are changed, added or missing; or they are cut or arbitrary."""
    changes = st.dictionaries(st.sampled_from([*whole, "more"]), odd, max_size=3)
    fewer = st.sets(st.sampled_from(list(whole)), max_size=1)
    built = st.builds(
        lambda change, less: _json({name: value for name, value in {**whole, **change}.items() if name not in less}),
        changes,
        fewer,
    )
    cut = st.builds(lambda text, at: text[: at % (len(text) + 1)], built, st.integers(min_value=0))
    return st.one_of(built, built, built, cut, st.binary(max_size=60), st.sampled_from(list(UNDECODABLE.values())))


def _json(value: object) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _quote(payload: bytes) -> None:
    event = msgspec.json.decode(payload, type=QuoteEvent)
    market = SymbolMarket("AAA")
    market.apply_quote(1, event)
    market.status_at(NOW)
    quote = market.quote()
    if quote is not None:
        assert quote.ask_price > 0 or not quote.ask_quantity
        msgspec.json.encode(quote)
        assert quote.expires_at + SECOND > quote.expires_at - SECOND
        quote.activated_at + 0.66 * (quote.expires_at - quote.activated_at)


def _fills(payload: bytes) -> None:
    fills = msgspec.json.decode(b"[" + payload + b"]", type=list[RecordedFill])
    SymbolMarket("AAA").apply_fills(1, fills)
    for fill in fills:
        assert fill.limit_price == fill.limit_price
        assert fill.created_at + SECOND > fill.created_at - SECOND
        msgspec.json.encode(fill)


def _ledger(payload: bytes) -> None:
    delivery = read(0, 1, subjects.fills(0, "AAA"), 1, b"[" + payload + b"]")
    changes = fold(Books(), {}, [delivery])
    assert bool(changes.quarantined) != bool(changes.fills)


def _position(payload: bytes) -> None:
    update = msgspec.json.decode(payload, type=PositionUpdate)
    prices(instrument(), update.net_quantity)
    msgspec.json.encode(update)


def _record(payload: bytes) -> None:
    record = msgspec.json.decode(payload, type=ReservationRecord)
    usage = Usage(30 * SECOND, 2 * SECOND)
    usage.fold(1, [record])
    usage.view(record)
    usage.advance_time(record.expires_at + 60 * SECOND)
    assert usage.total == (0, 0)
    msgspec.json.encode(record)


def _only(kind: Any) -> Callable[[bytes], None]:
    def check(payload: bytes) -> None:
        msgspec.json.encode(msgspec.json.decode(payload, type=kind))

    return check


def _refusal(payload: bytes) -> None:
    with contextlib.suppress(KeyError):
        Refused.from_problem(msgspec.json.decode(payload, type=Problem))


def _stats(payload: bytes) -> None:
    """Decode a reply to a discovery request, as the page does."""
    processes = Processes(("maker",), NOW)
    reports: list[ProcessReport] = []

    def observe(service: str, instance: str, report: ProcessReport) -> None:
        reports.append(report)
        processes.observe(service, instance, report, NOW)

    connection: Any = SimpleNamespace(new_inbox=lambda: "_INBOX.t")
    poller = ProcessPoller(connection, observe, lambda: None)
    poller._on_reply(Msg(None, "", "", payload, None))  # type: ignore[arg-type] # it is not answered
    processes.end_round(NOW)
    msgspec.json.encode([processes.shown(), unquoted(reports, Latches())])


STATS: dict[str, Any] = {
    "name": "maker",
    "id": "x",
    "endpoints": [],
    "data": {
        "process": "maker",
        "uptime": 1.5,
        "ready": False,
        "waiting_for": {"market": "behind"},
        "behind": 3,
        "unquoted": {"paused": ["AAA"]},
    },
}
PUT = {"symbol": "AAA", "quote": msgspec.to_builtins(quote_request())}

DECODERS: dict[str, tuple[dict[str, Any], Callable[[bytes], None]]] = {
    "quote events": (QUOTE, _quote),
    "fills": (FILL, _fills),
    "fills, as the ledger reads them": (FILL, _ledger),
    "positions": (POSITION, _position),
    "reservations": (RECORD, _record),
    "the quotes bucket": ({**QUOTE, "remaining_bid_quantity": 1, "remaining_ask_quantity": 1}, _only(Quote)),
    "a put quote": (PUT, _only(PutQuote)),
    "a withdrawal": ({"symbol": "AAA", "quote_id": "AAA-v0-a1"}, _only(WithdrawQuote)),
    "a reservation request": (msgspec.to_builtins(reservation_request()), _only(ReservationRequest)),
    "a reply of exposure": ({"outcome": "rejected", "reason": "bid_limit"}, _only(ReservationAnswer)),
    "a reservation": (RECORD, _only(Reservation)),
    "usage": ({"limit": 1, "bid": {"used": 0, "free": 1}, "ask": {"used": 0, "free": 1}, "live": 0}, _only(LimitUsage)),
    "a process report": (STATS, _stats),
    "a refusal": ({"type": "urn:quotestream:unavailable", "title": "t", "status": 503}, _refusal),
    "an order": (msgspec.to_builtins(order()), _only(type(order()))),
    "an acknowledgement": ({"seq": 1, "duplicate": False}, _only(dict)),
    "a reply of the API": ({"error": {"code": 400, "err_code": 10071}}, _only(api._Envelope)),
}

tried: dict[str, int] = {}


@pytest.fixture(scope="module", autouse=True)
def _print_counts() -> Iterator[None]:
    yield
    sys.stderr.write(f"\npayloads decoded: {tried}\n")


@pytest.mark.parametrize("name", DECODERS)
def test_any_payload_is_either_decoded_or_refused_as_unreadable(name: str) -> None:
    whole, check = DECODERS[name]

    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(payload=near(whole))
    def fuzz(payload: bytes) -> None:
        tried[name] = tried.get(name, 0) + 1
        with contextlib.suppress(*DECODE_ERRORS):
            check(payload)

    fuzz()
    assert tried[name] >= EXAMPLES // 2


@given(payload=near(PUT))
@settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
def test_an_unreadable_request_is_refused(payload: bytes) -> None:
    async def handle(request: PutQuote) -> PutQuote:
        return request

    with contextlib.suppress(Refused):
        asyncio.run(rpc._handle(rpc.Handler("x", PutQuote, handle), payload))


@given(
    reply=st.one_of(
        st.text(alphabet="$JSACK.0123456789-", max_size=60),
        st.lists(st.integers(), min_size=4, max_size=4).map(
            lambda tokens: ".".join(["$JS.ACK.MARKET-0.t.1", *map(str, tokens)])
        ),
    ),
    headers=st.dictionaries(
        st.sampled_from(["Status", "Nats-Last-Consumer", "Nats-Last-Stream", "Nats-Pending-Messages"]),
        st.sampled_from(["100", "404", "408", "409", "", "x", "-1", "9" * 30]),
    ),
)
@settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
def test_an_invalid_delivery_makes_a_tail_start_again(reply: str, headers: dict[str, str]) -> None:
    async def take() -> None:
        tail = Tail(None, "MARKET-0", [">"], LastPerSubject(), name="t")  # type: ignore[arg-type] # it sends nothing
        connection: Any = SimpleNamespace(new_inbox=lambda: "_INBOX.t")
        info = api.ConsumerInfo(name="t", stream_name="MARKET-0", config={}, num_pending=1)
        consumer = Consumer(connection, info, replicated=False)
        consumer.arrived.append(Msg(None, "fills.0.AAA", reply, b"", headers))  # type: ignore[arg-type] # as above
        batch, sound = tail._take(consumer)
        assert sound or not batch
        consumer._timer.cancel()

    asyncio.run(take())
