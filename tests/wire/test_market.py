"""The fold of one symbol's market log."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import NOW, quote_activated, recorded_fill
from wire.market import SymbolMarket
from wire.orders import RecordedFill
from wire.quotes import QuoteActivated, QuoteEvent, QuoteWithdrawn


def withdrawn(quote: QuoteActivated) -> QuoteWithdrawn:
    return QuoteWithdrawn(
        symbol=quote.symbol,
        quote_id=quote.quote_id,
        reservation_id=quote.reservation_id,
        position_version=quote.position_version,
        attempt=quote.attempt,
        withdrawn_at=NOW,
    )


def test_a_quote_is_active_until_it_expires() -> None:
    market = SymbolMarket("AAA")
    assert market.status_at(NOW) == "never"
    market.apply_quote(1, quote_activated(lifetime=2.0))
    assert market.status_at(NOW + timedelta(seconds=1.999)) == "active"
    assert market.status_at(NOW + timedelta(seconds=2)) == "expired"


def test_a_withdrawn_quote_is_no_longer_active_but_its_version_counts() -> None:
    market = SymbolMarket("AAA")
    quote = quote_activated(position_version=3, attempt=2)
    market.apply_quote(1, quote)
    market.apply_quote(2, withdrawn(quote))
    assert market.status_at(NOW) == "withdrawn"
    assert market.quote() is None
    assert market.version == (3, 0, 2)


def test_a_quote_whose_expiry_is_in_the_log_has_expired_whatever_the_time() -> None:
    market = SymbolMarket("AAA")
    quote = quote_activated(position_version=3, attempt=2)
    market.apply_quote(1, quote)
    market.apply_quote(2, msgspec.structs.replace(withdrawn(quote), reason="expired"))
    assert market.status_at(NOW) == "expired"
    assert market.quote() is None
    assert (market.version, market.remaining_bid, market.remaining_ask) == ((3, 0, 2), 0, 0)


def test_fills_set_the_remaining_quantities_that_they_carry() -> None:
    market = SymbolMarket("AAA")
    market.apply_quote(1, quote_activated())
    market.apply_fills(2, [recorded_fill(number=1, remaining_ask_quantity=7)])
    assert (market.remaining_bid, market.remaining_ask, market.fill_number) == (10, 7, 1)


def test_a_message_that_was_folded_before_is_skipped() -> None:
    market = SymbolMarket("AAA")
    market.apply_quote(5, quote_activated())
    assert not market.apply_quote(5, quote_activated(attempt=2))
    assert not market.apply_fills(4, [recorded_fill()])
    assert (market.head, market.version, market.fill_number) == (5, (0, 0, 1), 0)


@pytest.mark.parametrize("numbers", [[3], [1], [2, 4], []])
def test_fills_that_do_not_continue_with_the_next_number_are_quarantined(numbers: list[int]) -> None:
    market = SymbolMarket("AAA")
    market.apply_fills(1, [recorded_fill(number=1)])
    invalid = [recorded_fill(number=number, remaining_ask_quantity=1) for number in numbers]
    assert not market.apply_fills(2, invalid)
    assert (market.head, market.fill_number, market.remaining_ask) == (2, 1, 9)


Event = QuoteEvent | list[RecordedFill]


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """A symbol's log as an exchange writes it."""
    log: list[Event] = []
    number = attempt = 0
    active: QuoteActivated | None = None
    remaining = 0
    for _ in range(draw(st.integers(0, 25))):
        choice = draw(st.sampled_from(["quote", "fills", "withdraw"]))
        if choice == "fills" and active is not None and remaining:
            fills = []
            for _ in range(draw(st.integers(1, min(3, remaining)))):
                number, remaining = number + 1, remaining - 1
                fills.append(recorded_fill(number=number, quote_id=active.quote_id, remaining_ask_quantity=remaining))
            log.append(fills)
        elif choice == "withdraw" and active is not None:
            log.append(withdrawn(active))
            active = None
        else:
            attempt += 1
            remaining = draw(st.integers(1, 10))
            active = quote_activated(attempt=attempt, ask_quantity=remaining)
            log.append(active)
    return log


def fold(market: SymbolMarket, sequence: int, event: Event) -> None:
    if isinstance(event, list):
        market.apply_fills(sequence, event)
    else:
        market.apply_quote(sequence, event)


@given(log=logs())
def test_the_last_message_of_each_subject_is_enough_to_rebuild_the_fold(log: list[Event]) -> None:
    whole = SymbolMarket("AAA")
    last: dict[bool, tuple[int, Event]] = {}
    for sequence, event in enumerate(log, start=1):
        fold(whole, sequence, event)
        last[isinstance(event, list)] = (sequence, event)
    rebuilt = SymbolMarket("AAA")
    for sequence, event in sorted(last.values(), key=lambda entry: entry[0]):
        fold(rebuilt, sequence, event)
    assert rebuilt == whole
