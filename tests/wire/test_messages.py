"""Messages: strict, exact, and refusing what makes no sense by the name of its field."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.builders import order, quote_activated, quote_request, recorded_fill
from wire.fields import Message
from wire.orders import Order, RecordedFill
from wire.quotes import QuoteActivated, QuoteEvent, QuoteRequest
from wire.reservations import ReservationRequest
from wire.units import FieldError

ORDER = {"order_id": "o1", "symbol": "AAPL", "side": "buy", "quantity": 5, "limit_price": "100.05"}


def every_message(kind: type[Message] = Message) -> list[type[Message]]:
    return [kind, *(found for sub in kind.__subclasses__() for found in every_message(sub))]


@pytest.mark.parametrize("kind", every_message())
def test_every_message_is_frozen_and_refuses_unknown_fields(kind: type[Message]) -> None:
    config = kind.__struct_config__
    assert config.frozen
    assert config.forbid_unknown_fields


@pytest.mark.parametrize("message", [order(), recorded_fill(), quote_request()])
def test_a_message_survives_the_wire(message: Message) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=type(message)) == message


def test_a_quote_event_tells_its_kind() -> None:
    event = quote_activated()
    decoded = msgspec.json.decode(msgspec.json.encode(event), type=QuoteEvent)
    assert isinstance(decoded, QuoteActivated)
    assert decoded == event


@pytest.mark.parametrize(
    ("raw", "price"), [('"100.05"', "100.05"), ("100.05", "100.05"), ("100.1000000000000000000", "100.1"), ("7", "7")]
)
def test_prices_are_exact_from_strings_and_numbers(raw: str, price: str) -> None:
    body = f'{{"order_id":"o1","symbol":"AAPL","side":"buy","quantity":5,"limit_price":{raw}}}'
    assert msgspec.json.decode(body, type=Order).limit_price == Decimal(price)


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": "5"},
        {"quantity": 5.0},
        {"quantity": True},
        {"quantity": 0},
        {"symbol": "A.B"},
        {"symbol": "A\n"},
        {"symbol": ""},
        {"symbol": "A" * 33},
        {"order_id": "x" * 101},
        {"order_id": "ä"},
        {"side": "BUY"},
        {"more": 1},
    ],
)
def test_an_order_is_decoded_strictly(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(ORDER | change), type=Order)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bid_price": Decimal("100.10")}, "bid_price"),
        ({"bid_price": Decimal(0)}, "bid_price"),
        ({"ask_price": Decimal("NaN")}, "ask_price"),
        ({"bid_quantity": 0, "ask_quantity": 0}, "bid_quantity"),
    ],
)
def test_a_quote_that_makes_no_sense_is_refused_by_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        quote_request(**change)
    assert caught.value.field == field


def test_a_one_sided_quote_needs_no_price_on_the_other_side() -> None:
    quote = quote_request(bid_quantity=0, bid_price=Decimal(0))
    assert isinstance(quote, QuoteRequest)


def test_a_reservation_asks_for_something() -> None:
    with pytest.raises(FieldError):
        ReservationRequest(quote_id="q", symbol="AAA", bid_quantity=0, ask_quantity=0)


def test_a_recorded_fill_shows_clients_the_fill_alone() -> None:
    recorded = recorded_fill()
    assert set(msgspec.to_builtins(recorded)) - set(msgspec.to_builtins(recorded.fill)) == {
        "number",
        "remaining_bid_quantity",
        "remaining_ask_quantity",
        "order_quantity",
        "limit_price",
    }, "what has its default is left out"
    assert isinstance(recorded, RecordedFill)
