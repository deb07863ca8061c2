"""Messages from outside: prices are written in one way, and keys are unique."""

from typing import Any

import msgspec
import pytest

from wire.orders import Fill, Order
from wire.quotes import PutQuote, QuoteRequest, WithdrawQuote
from wire.strict_decoder import StrictDecoder
from wire.units import FieldError

ORDER = '{"order_id":"o1","symbol":"AAPL","side":"buy","quantity":5,"limit_price":%s}'
QUOTE = (
    '{"quote_id":"q1","reservation_id":"q1-r","position_version":1,"attempt":1,'
    '"bid_price":%s,"bid_quantity":%s,"ask_price":"200000.50","ask_quantity":5}'
)
FILL = (
    '{"fill_id":"f1","order_id":"o1","symbol":"AAPL","side":"buy","quantity":3,"price":%s,'
    '"quote_id":"q1","created_at":"2026-11-23T05:49:24.465646+00:00"}'
)

PLAIN = ['"1000.00"', "1000.00", "1000", '"0.5"', '"0.000001"', '"1.50"', '"123456.1234567891"', "0.25"]
ODD = [
    '" 1_000.00"', '"1_000.00"', '" 5"', '"5 "', '"5\\n"', '"1,000"', '"+5"', '"5."', '".5"', '"007"', '"00.5"',
    '"\uff11\uff10"', '"١٢"', '"१२"', '"2.3E+2"', '"2.3e2"', "2.3e2", "23E1", '"1e-2"', '"0.0000001"', '"\\u0035"',
]  # fmt: skip
NO_PRICE = [
    '"0"',
    '"-5"',
    "-5",
    '"NaN"',
    '"Infinity"',
    '""',
    "null",
    "true",
    "[]",
    '"1000000001"',
    '"' + "1" * 25 + '"',
]
MESSAGES: list[tuple[Any, str, str]] = [
    (Order, ORDER, "limit_price"),
    (QuoteRequest, QUOTE.replace("%s", "%(p)s", 1).replace("%s", "5").replace("%(p)s", "%s"), "bid_price"),
    (PutQuote, '{"symbol":"AAPL","quote":' + QUOTE.replace('"bid_quantity":%s', '"bid_quantity":5') + "}", "bid_price"),
    (Fill, FILL, "price"),
]


def refused(kind: Any, text: str) -> str:
    """Return the field for which a message is refused."""
    with pytest.raises(msgspec.ValidationError) as error:
        StrictDecoder(kind).decode(text.encode())
    cause = error.value.__cause__
    return cause.field if isinstance(cause, FieldError) else str(error.value)


@pytest.mark.parametrize(("kind", "text", "field"), MESSAGES)
@pytest.mark.parametrize("price", PLAIN)
def test_a_plain_price_is_accepted_exactly_and_written_unchanged(kind: Any, text: str, field: str, price: str) -> None:
    taken = StrictDecoder(kind).decode((text % price).encode())
    assert f'"{field}":"{price.strip(chr(34))}"'.encode() in msgspec.json.encode(taken)


@pytest.mark.parametrize(("kind", "text", "field"), MESSAGES)
@pytest.mark.parametrize("price", ODD)
def test_a_price_written_in_any_other_way_is_refused(kind: Any, text: str, field: str, price: str) -> None:
    assert field in refused(kind, text % price)


@pytest.mark.parametrize(("kind", "text", "field"), MESSAGES)
@pytest.mark.parametrize("price", NO_PRICE)
def test_an_invalid_price_is_refused(kind: Any, text: str, field: str, price: str) -> None:
    assert field in refused(kind, text % price)


def test_the_price_of_a_side_that_is_not_quoted_is_a_plain_zero() -> None:
    assert StrictDecoder(QuoteRequest).decode((QUOTE % ('"0"', 0)).encode()).bid_price == 0
    assert refused(QuoteRequest, QUOTE % ('"0E+3"', 0)) == "bid_price"


@pytest.mark.parametrize(
    ("kind", "text", "field"),
    [
        (Order, ORDER % '"5"', None),
        (Order, (ORDER % '"5"').replace('"symbol":', '"order_id" : "o2","symbol":'), "order_id"),
        (Order, (ORDER % '"5"').replace('"symbol":', '"order_\\u0069d":"o2","symbol":'), "order_id"),
        (Order, (ORDER % '"5"').replace("}", ',"limit_price":"6"}'), "limit_price"),
        (Order, (ORDER % '"5"').replace("}", ',"quantity":5}'), "quantity"),
        (Order, (ORDER % '"5"').replace("o1", "symbol"), None),
        (Fill, FILL % '"5"', None),
        (Fill, (FILL % '"5"').replace("}", ',"price":"6"}'), "price"),
        (PutQuote, MESSAGES[2][1] % '"5"', None),
        (PutQuote, (MESSAGES[2][1] % '"5"').replace('"attempt":1', '"attempt":1,"attempt":2'), "attempt"),
        (WithdrawQuote, '{"symbol":"A","quote_id":"q"}', None),
        (WithdrawQuote, '{"symbol":"A","quote_id":"q","symbol":"B"}', "symbol"),
    ],
)
def test_duplicate_keys_are_refused(kind: Any, text: str, field: str | None) -> None:
    if field is None:
        assert StrictDecoder(kind).decode(text.encode()) == msgspec.json.decode(text, type=kind)
    else:
        assert refused(kind, text) == field


def test_types_without_prices_are_decoded_as_usual() -> None:
    assert StrictDecoder(Any).decode(b'{"a": [1, {}]}') == {"a": [1, {}]}
    assert StrictDecoder(list[int]).decode(b"[1]") == [1]
    for body in (b"", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError, RecursionError)):
            StrictDecoder(Order).decode(body)
