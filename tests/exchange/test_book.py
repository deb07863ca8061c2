"""Pure decisions: which orders execute, and which quote is active."""

from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import book
from support.builders import NOW, instrument, order, quote_activated, quote_request, recorded_fill
from wire.errors import Refusal, Refused
from wire.market import SymbolMarket
from wire.orders import OrderResult, RecordedFill
from wire.quotes import QuoteActivated, QuoteWithdrawn
from wire.reservations import Reservation

INSTRUMENT = instrument()


def quoted_market(**changes: object) -> SymbolMarket:
    """AAA with an active quote: 10 × 99.90 / 100.10 × 10."""
    market = SymbolMarket("AAA")
    market.apply_quote(1, quote_activated(**changes))  # type: ignore[arg-type]
    return market


def withdrawn_market() -> SymbolMarket:
    market = quoted_market()
    market.apply_quote(2, book.withdraw(market, None, NOW))
    return market


def only(batch: book.Batch) -> OrderResult:
    (answer,) = batch.answers
    assert isinstance(answer, OrderResult)
    return answer


@pytest.mark.parametrize(
    ("side", "limit", "price"),
    [("buy", "100.10", "100.10"), ("buy", "101", "100.10"), ("sell", "99.90", "99.90"), ("sell", "90", "99.90")],
)
def test_a_crossing_order_fills_at_the_quotes_price(side: str, limit: str, price: str) -> None:
    sent = order(side=side, limit_price=Decimal(limit))
    batch = book.match(quoted_market(), [sent], {}, NOW, INSTRUMENT)
    result = only(batch)
    assert (result.status, result.filled_quantity, result.leaves_quantity) == ("filled", 5, 0)
    assert result.fills[0].price == Decimal(price)
    assert result.fills[0].created_at == NOW
    assert [fill.fill for fill in batch.fills] == result.fills


def test_an_order_larger_than_what_is_left_fills_partially_and_the_rest_is_cancelled() -> None:
    batch = book.match(quoted_market(), [order(quantity=15)], {}, NOW, INSTRUMENT)
    result = only(batch)
    assert (result.status, result.filled_quantity, result.leaves_quantity) == ("partially_filled", 10, 5)
    assert batch.fills[0].remaining_ask_quantity == 0
    assert batch.fills[0].remaining_bid_quantity == 10


def test_orders_of_a_batch_share_what_is_left_in_order() -> None:
    orders = [order(quantity=4), order(quantity=4), order(quantity=4), order(quantity=4)]
    batch = book.match(quoted_market(), orders, {}, NOW, INSTRUMENT)
    assert [getattr(answer, "filled_quantity", None) for answer in batch.answers] == [4, 4, 2, 0]
    assert [fill.number for fill in batch.fills] == [1, 2, 3]
    assert [fill.fill_id for fill in batch.fills] == ["AAA-f1", "AAA-f2", "AAA-f3"]
    assert [fill.remaining_ask_quantity for fill in batch.fills] == [6, 2, 0]
    assert getattr(batch.answers[3], "reason", None) == "quote_exhausted"


@pytest.mark.parametrize(
    ("market", "sent", "later", "reason"),
    [
        (SymbolMarket("AAA"), order(), 0.0, "no_active_quote"),
        (withdrawn_market(), order(), 0.0, "no_active_quote"),
        (quoted_market(), order(), 30.0, "quote_expired"),
        (quoted_market(), order(limit_price=Decimal("100.09")), 0.0, "not_marketable"),
        (quoted_market(), order(side="sell", limit_price=Decimal("99.91")), 0.0, "not_marketable"),
        (quoted_market(ask_quantity=0), order(), 0.0, "quote_exhausted"),
    ],
)
def test_a_rejection_states_its_reason_and_has_no_fill(
    market: SymbolMarket, sent: object, later: float, reason: str
) -> None:
    batch = book.match(market, [sent], {}, NOW + timedelta(seconds=later), INSTRUMENT)  # type: ignore[list-item]
    result = only(batch)
    assert (result.status, result.reason, result.filled_quantity) == ("rejected", reason, 0)
    assert result.leaves_quantity == result.leaves_quantity
    assert batch.fills == []
    assert batch.rejected


def test_the_last_instant_of_a_quote_executes_and_its_expiry_does_not() -> None:
    market = quoted_market(lifetime=1.0)
    expires = NOW + timedelta(seconds=1)
    assert only(book.match(market, [order()], {}, expires - timedelta(microseconds=1), INSTRUMENT)).status == "filled"
    assert only(book.match(market, [order()], {}, expires, INSTRUMENT)).reason == "quote_expired"


def test_an_executed_order_id_gets_its_first_answer_even_when_the_quote_is_gone() -> None:
    sent = order(quantity=15)
    first = book.match(quoted_market(), [sent], {}, NOW, INSTRUMENT)
    again = book.match(
        SymbolMarket("AAA"), [sent], {sent.order_id: first.fills[0]}, NOW + timedelta(seconds=60), INSTRUMENT
    )
    assert again.answers == first.answers
    assert again.fills == []
    assert not again.rejected


def test_an_order_id_twice_in_one_batch_executes_once() -> None:
    sent = order()
    batch = book.match(quoted_market(), [sent, sent], {}, NOW, INSTRUMENT)
    assert len(batch.fills) == 1
    assert batch.answers[0] == batch.answers[1]


@pytest.mark.parametrize(
    "change", [{"quantity": 6}, {"side": "sell"}, {"limit_price": Decimal(199)}, {"symbol": "BBB"}]
)
def test_an_executed_order_id_with_other_content_is_refused(change: dict[str, object]) -> None:
    sent = order(order_id="x")
    first = book.match(quoted_market(), [sent], {}, NOW, INSTRUMENT)
    other = order(order_id="x", **change)
    (answer,) = book.match(quoted_market(), [other], {"x": first.fills[0]}, NOW, INSTRUMENT).answers
    assert isinstance(answer, Refused)
    assert answer.refusal is Refusal.ORDER_ID_REUSED


@given(
    orders=st.lists(
        st.builds(
            order,
            side=st.sampled_from(["buy", "sell"]),
            quantity=st.integers(1, 12),
            limit_price=st.sampled_from([Decimal("99.80"), Decimal("99.90"), Decimal("100.10"), Decimal("100.20")]),
        ),
        max_size=30,
    ),
    bid=st.integers(0, 20),
    ask=st.integers(1, 20),
)
def test_fills_of_a_side_never_exceed_it_and_every_answer_agrees_with_its_fill(
    orders: list, bid: int, ask: int
) -> None:
    market = quoted_market(bid_quantity=bid, ask_quantity=ask)
    batch = book.match(market, orders, {}, NOW, INSTRUMENT)
    for side, quantity in (("buy", ask), ("sell", bid)):
        assert sum(fill.quantity for fill in batch.fills if fill.side == side) <= quantity
    by_order: dict[str, RecordedFill] = {fill.order_id: fill for fill in batch.fills}
    for sent, answer in zip(orders, batch.answers, strict=True):
        assert isinstance(answer, OrderResult)
        fill = by_order.get(sent.order_id)
        assert answer.filled_quantity == (fill.quantity if fill else 0)
        assert answer.filled_quantity + answer.leaves_quantity == sent.quantity
    assert market.apply_fills(2, batch.fills) == bool(batch.fills)
    filled_ask = sum(fill.quantity for fill in batch.fills if fill.side == "buy")
    assert market.remaining_ask == ask - filled_ask


def test_orders_off_the_tick_are_refused() -> None:
    with pytest.raises(Refused) as caught:
        book.checked_order(order(limit_price=Decimal("100.001")), instrument())
    assert caught.value.field == "limit_price"


@pytest.mark.parametrize("written", ["230", "230.0", "230.00", "230.000"])
def test_a_price_is_written_with_the_decimals_of_its_tick_however_it_was_sent(written: str) -> None:
    price = Decimal(written)
    assert str(book.checked_order(order(limit_price=price), instrument()).limit_price) == "230.00"
    quote = book.checked_quote(quote_request(bid_price=price, ask_price=price + 1), instrument())
    assert (str(quote.bid_price), str(quote.ask_price)) == ("230.00", "231.00")


def test_the_price_of_a_side_without_quantity_stays_a_plain_zero() -> None:
    quote = book.checked_quote(quote_request(bid_price=Decimal("0.000"), bid_quantity=0), instrument())
    assert str(quote.bid_price) == "0"


def test_quotes_off_the_tick_are_refused() -> None:
    with pytest.raises(Refused) as caught:
        book.checked_quote(quote_request(ask_price=Decimal("100.101")), instrument())
    assert caught.value.field == "ask_price"


@pytest.mark.parametrize(("version", "attempt"), [(5, 2), (5, 1), (4, 9), (0, 1)])
def test_a_quote_that_is_not_newer_is_stale(version: int, attempt: int) -> None:
    market = quoted_market(position_version=5, attempt=3)
    with pytest.raises(Refused) as caught:
        book.accepted_quote(market, quote_request(position_version=version, attempt=attempt))
    assert caught.value.refusal is Refusal.STALE_QUOTE


@pytest.mark.parametrize(("version", "attempt"), [(5, 4), (6, 1), (7, 1)])
def test_a_newer_version_or_attempt_may_replace(version: int, attempt: int) -> None:
    market = quoted_market(position_version=5, attempt=3)
    assert book.accepted_quote(market, quote_request(position_version=version, attempt=attempt)) is None


@pytest.mark.parametrize(
    ("version", "revision", "attempt", "newer"),
    [(5, 57, 4, True), (5, 58, 1, True), (6, 57, 1, True), (6, 56, 1, False), (5, 56, 9, False), (4, 58, 1, False)],
)
def test_a_quote_is_newer_by_position_revision_and_attempt_and_never_by_an_older_revision(
    version: int, revision: int, attempt: int, *, newer: bool
) -> None:
    market = quoted_market(position_version=5, revision=57, attempt=3)
    request = quote_request(position_version=version, revision=revision, attempt=attempt)
    with nullcontext() if newer else pytest.raises(Refused, match="stale-quote"):
        assert book.accepted_quote(market, request) is None


def test_a_quote_that_names_no_revision_gets_the_one_in_force_and_keeps_it() -> None:
    market = quoted_market(quote_id="by-hand", revision=57)
    asked = quote_request(quote_id="by-hand", revision=None)
    assert book.with_revision(SymbolMarket("AAA"), asked, 58).revision == 58
    assert book.with_revision(market, asked, 58).revision == 57
    assert book.with_revision(market, quote_request(revision=50), 58).revision == 50


def test_a_position_version_is_the_number_of_a_fill_that_has_happened() -> None:
    market = quoted_market()
    with pytest.raises(Refused) as caught:
        book.check_position(market, quote_request(position_version=1))
    assert caught.value.refusal is Refusal.POSITION_UNKNOWN
    market.apply_fills(2, [recorded_fill(quantity=1, remaining_ask_quantity=9)])
    book.check_position(market, quote_request(position_version=1))


def test_staleness_outlives_the_quote() -> None:
    with pytest.raises(Refused) as caught:
        book.accepted_quote(withdrawn_market(), quote_request())
    assert caught.value.refusal is Refusal.STALE_QUOTE


def test_the_same_quote_sent_again_is_returned_with_its_remaining_quantities() -> None:
    market = quoted_market()
    market.apply_fills(2, [recorded_fill(quantity=1, remaining_ask_quantity=9)])
    accepted = book.accepted_quote(market, quote_request())
    assert accepted is not None
    assert (accepted.ask_quantity, accepted.remaining_ask_quantity) == (10, 9)


def test_the_same_quote_id_with_other_content_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        book.accepted_quote(quoted_market(), quote_request(bid_quantity=9))
    assert caught.value.refusal is Refusal.QUOTE_ID_REUSED


def reservation(expires_in: float = 30.0) -> Reservation:
    return Reservation(
        reservation_id="AAA-v0-a1-r",
        quote_id="AAA-v0-a1",
        symbol="AAA",
        reserved_bid_quantity=10,
        reserved_ask_quantity=10,
        state="active",
        granted_at=NOW,
        activated_at=NOW,
        expires_at=NOW + timedelta(seconds=expires_in),
    )


def test_a_quote_expires_with_its_reservation() -> None:
    event = book.activate("AAA", quote_request(), reservation(7.5), NOW)
    assert isinstance(event, QuoteActivated)
    assert event.expires_at == NOW + timedelta(seconds=7.5)


def test_an_expired_reservation_activates_no_quote() -> None:
    with pytest.raises(Refused) as caught:
        book.activate("AAA", quote_request(), reservation(7.5), NOW + timedelta(seconds=7.5))
    assert caught.value.refusal is Refusal.RESERVATION_NOT_ACTIVE


def test_withdrawing_names_the_quote() -> None:
    event = book.withdraw(quoted_market(), "AAA-v0-a1", NOW)
    assert isinstance(event, QuoteWithdrawn)
    assert (event.quote_id, event.reservation_id) == ("AAA-v0-a1", "AAA-v0-a1-r")


def test_withdrawing_another_quote_than_the_active_one_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        book.withdraw(quoted_market(), "AAA-v0-a9", NOW)
    assert caught.value.refusal is Refusal.STALE_QUOTE


@pytest.mark.parametrize(
    ("market", "later", "refusal"),
    [
        (SymbolMarket("AAA"), 0.0, Refusal.NEVER_QUOTED),
        (quoted_market(), 30.0, Refusal.QUOTE_EXPIRED),
        (withdrawn_market(), 0.0, Refusal.QUOTE_WITHDRAWN),
    ],
)
def test_the_refusal_states_why_no_quote_is_active(market: SymbolMarket, later: float, refusal: Refusal) -> None:
    with pytest.raises(Refused) as caught:
        book.active_quote(market, NOW + timedelta(seconds=later))
    assert caught.value.refusal is refusal


@pytest.mark.parametrize(
    ("latest", "asked", "right"),
    [
        (None, (0, 1), True),
        (None, (0, 1000), True),
        (None, (0, 1001), False),
        (None, (0, 2**31), False),
        ((0, 1), (0, 2), True),
        ((0, 7), (0, 1007), True),
        ((0, 7), (0, 1008), False),
        ((0, 2**31), (0, 2**31 + 1), True),
        ((0, 900), (1, 1000), True),
        ((0, 900), (1, 1001), False),
    ],
)
def test_an_attempt_is_not_far_beyond_the_latest_of_its_version(
    latest: tuple[int, int] | None, asked: tuple[int, int], right: bool
) -> None:
    """Otherwise there might be no later attempt, and the symbol could not be quoted until its position changes."""
    market = SymbolMarket("AAA")
    if latest is not None:
        market.apply_quote(1, quote_activated(position_version=latest[0], attempt=latest[1]))
    request = quote_request(position_version=asked[0], attempt=asked[1])
    if right:
        book.check_attempt(market, request)
        return
    with pytest.raises(Refused) as caught:
        book.check_attempt(market, request)
    assert (caught.value.refusal, caught.value.field) == (Refusal.ATTEMPT_TOO_FAR, "attempt")
