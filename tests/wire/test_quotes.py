"""Quotes are checked when they are made, and quote events are decoded by their type."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.builders import quote_activated, quote_request
from wire.quotes import QuoteActivated, QuoteEvent, QuoteRequest
from wire.units import FieldError


def test_a_quote_event_is_decoded_as_its_own_type() -> None:
    event = quote_activated()
    decoded = msgspec.json.decode(msgspec.json.encode(event), type=QuoteEvent)
    assert isinstance(decoded, QuoteActivated)
    assert decoded == event


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bid_price": Decimal("100.10")}, "bid_price"),
        ({"bid_price": Decimal(0)}, "bid_price"),
        ({"ask_price": Decimal("NaN")}, "ask_price"),
        ({"bid_quantity": 0, "ask_quantity": 0}, "bid_quantity"),
    ],
)
def test_an_invalid_quote_is_refused_by_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        quote_request(**change)
    assert caught.value.field == field


def test_a_one_sided_quote_needs_no_price_on_the_other_side() -> None:
    quote = quote_request(bid_quantity=0, bid_price=Decimal(0))
    assert isinstance(quote, QuoteRequest)
