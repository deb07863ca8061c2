"""Orders are decoded strictly, and prices exactly."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.builders import recorded_fill
from wire.orders import Order, RecordedFill

ORDER = {"order_id": "o1", "symbol": "AAPL", "side": "buy", "quantity": 5, "limit_price": "100.05"}


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


def test_clients_see_only_the_fill_of_a_recorded_fill() -> None:
    recorded = recorded_fill()
    assert set(msgspec.to_builtins(recorded)) - set(msgspec.to_builtins(recorded.fill)) == {
        "number",
        "remaining_bid_quantity",
        "remaining_ask_quantity",
        "order_quantity",
        "limit_price",
    }, "fields with their default are omitted"
    assert isinstance(recorded, RecordedFill)
