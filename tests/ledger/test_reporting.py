"""Which reported fills can be recorded, and how they reduce the quote that they name."""

from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from ledger.positions import Account
from ledger.reporting import check_id, market_after, record
from support.builders import NOW, instrument, quote_activated, recorded_fill
from support.builders import reported_fill as fill
from wire.errors import Refusal, Refused
from wire.quotes import QuoteWithdrawn

INSTRUMENT = instrument()
QUOTE = quote_activated(lifetime=30.0)
MARKET = market_after(Account("AAA"), QUOTE, 1)


def executed(**changes: Any) -> Any:
    """Return a fill of 4 that QUOTE could have executed."""
    values = {"quote_id": QUOTE.quote_id, "quantity": 4, "price": QUOTE.ask_price, "created_at": NOW}
    return fill(**(values | changes))


def test_a_booking_advances_the_number_and_reduces_no_quote() -> None:
    recorded = record(fill(quote_id="elsewhere", price=Decimal("7.00"), quantity=500), MARKET, INSTRUMENT)
    assert (recorded.number, recorded.origin) == (1, "reported")
    assert (recorded.remaining_bid_quantity, recorded.remaining_ask_quantity) == (10, 10)
    assert (recorded.order_quantity, recorded.limit_price) == (500, Decimal("7.00"))


def test_a_buy_reduces_the_latest_quotes_ask() -> None:
    recorded = record(executed(side="buy"), MARKET, INSTRUMENT)
    assert (recorded.remaining_bid_quantity, recorded.remaining_ask_quantity) == (10, 6)


def test_a_sell_reduces_the_latest_quotes_bid() -> None:
    recorded = record(executed(side="sell", price=QUOTE.bid_price), MARKET, INSTRUMENT)
    assert (recorded.remaining_bid_quantity, recorded.remaining_ask_quantity) == (6, 10)


def test_a_report_follows_the_last_fill_and_reduces_what_that_left() -> None:
    last = recorded_fill(number=7, remaining_bid_quantity=2, remaining_ask_quantity=5)
    recorded = record(executed(), market_after(Account("AAA", -3, last, sequence=4), QUOTE, 1), INSTRUMENT)
    assert (recorded.number, recorded.remaining_bid_quantity, recorded.remaining_ask_quantity) == (8, 2, 1)


def test_a_quote_after_the_last_fill_has_its_full_quantity() -> None:
    last = recorded_fill(number=7, remaining_bid_quantity=0, remaining_ask_quantity=0)
    market = market_after(Account("AAA", -3, last, sequence=4), QUOTE, 9)
    assert (market.remaining_bid, market.remaining_ask, market.fill_number) == (10, 10, 7)


def test_without_any_quote_a_report_is_a_booking() -> None:
    assert record(executed(), market_after(Account("AAA"), None, 0), INSTRUMENT).remaining_ask_quantity == 0


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"quantity": 11}, "has 10 left"),
        ({"price": QUOTE.ask_price + Decimal("0.01")}, "executes a buy at 100.10"),
        ({"side": "sell"}, "executes a sell at 99.90"),
        ({"created_at": QUOTE.activated_at - timedelta(microseconds=1)}, "was active from"),
        ({"created_at": QUOTE.expires_at}, "was active from"),
    ],
)
def test_a_fill_that_the_latest_quote_could_not_execute_is_refused(changes: dict[str, Any], fact: str) -> None:
    with pytest.raises(Refused, match=fact) as refused:
        record(executed(**changes), MARKET, INSTRUMENT)
    assert refused.value.refusal is Refusal.FILL_CONTRADICTS


def test_a_withdrawn_quote_executes_nothing() -> None:
    withdrawn = QuoteWithdrawn(
        symbol="AAA",
        quote_id=QUOTE.quote_id,
        reservation_id=QUOTE.reservation_id,
        position_version=0,
        attempt=1,
        withdrawn_at=NOW,
    )
    with pytest.raises(Refused, match="is withdrawn"):
        record(executed(), market_after(Account("AAA"), withdrawn, 2), INSTRUMENT)


def test_a_fill_of_a_quote_whose_expiry_is_in_the_log_is_booked() -> None:
    expired = QuoteWithdrawn(
        symbol="AAA",
        quote_id=QUOTE.quote_id,
        reservation_id=QUOTE.reservation_id,
        position_version=0,
        attempt=1,
        withdrawn_at=QUOTE.expires_at,
        reason="expired",
    )
    booked = record(executed(), market_after(Account("AAA"), expired, 2), INSTRUMENT)
    assert (booked.number, booked.remaining_bid_quantity, booked.remaining_ask_quantity) == (1, 0, 0)


def test_the_last_instant_of_a_quote_is_before_it_expires() -> None:
    created_at = QUOTE.expires_at - timedelta(microseconds=1)
    assert record(executed(created_at=created_at), MARKET, INSTRUMENT).remaining_ask_quantity == 6


def test_times_are_logged_in_utc() -> None:
    report = executed(created_at=NOW.astimezone(timezone(timedelta(hours=9))))
    recorded = record(report, MARKET, INSTRUMENT)
    assert recorded.created_at.isoformat() == NOW.isoformat()
    assert recorded.fill == report.fill


@pytest.mark.parametrize("fill_id", ["AAA-f1", "AAA-f007", "B-f-f2"])
def test_ids_that_the_exchange_makes_are_reserved(fill_id: str) -> None:
    with pytest.raises(Refused, match="reserved"):
        check_id(fill(fill_id=fill_id), {"AAA", "B-f"})


@pytest.mark.parametrize("fill_id", ["AAA-fx", "AAA-f", "AAA-f1x", "AAA-f1-f", "venue-f7", "f7"])
def test_other_ids_are_free(fill_id: str) -> None:
    check_id(fill(fill_id=fill_id), {"AAA", "B-f"})
