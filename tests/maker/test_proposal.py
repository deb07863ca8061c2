"""Proposals: the same bytes on any machine, at most the share, and never more than was granted."""

import subprocess
import sys
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maker.proposal import propose, reservation_request, shrink
from support.builders import NOW, instrument
from wire.instruments import Listing
from wire.positions import Position
from wire.quotes import PutQuote
from wire.reservations import Reservation, ReservationState

# What any node sends for AAA, 3 lots long at version 12, by revision 57, second attempt. If this changes, makers of the
# old and the new version that run side by side propose different quotes under one id.
GOLDEN = (
    b'{"symbol":"AAA","quote":{"quote_id":"AAA-v12-r57-a2","reservation_id":"AAA-v12-r57-a2-r","position_version":12,'
    b'"revision":57,"attempt":2,"bid_price":"99.86","bid_quantity":10,"ask_price":"99.99","ask_quantity":10}}'
)


def position(net_quantity: int = 0, version: int = 12, symbol: str = "AAA") -> Position:
    return Position(symbol=symbol, net_quantity=net_quantity, position_version=version)


def proposal(**changes: Decimal | int) -> PutQuote:
    proposed = propose(Listing(instrument(**changes), 12), position(), 1)
    assert proposed is not None
    return proposed


def reservation(bid: int, ask: int, state: ReservationState = "active") -> Reservation:
    return Reservation(
        reservation_id="AAA-v12-a1-r",
        quote_id="AAA-v12-a1",
        symbol="AAA",
        reserved_bid_quantity=bid,
        reserved_ask_quantity=ask,
        state=state,
        granted_at=NOW,
        activated_at=None,
        expires_at=NOW,
    )


def test_a_proposal_has_the_golden_bytes() -> None:
    assert msgspec.json.encode(propose(Listing(instrument(), 12, 57), position(3), 2)) == GOLDEN


def test_another_process_proposes_the_same_bytes() -> None:
    """The other process has another hash seed and another decimal context."""
    script = (
        "import decimal; decimal.getcontext().prec = 5; decimal.getcontext().rounding = decimal.ROUND_UP\n"
        "import sys, msgspec; sys.path.insert(0, 'tests')\n"
        "from support.builders import instrument\n"
        "from maker.proposal import propose\n"
        "from wire.instruments import Listing\n"
        "from wire.positions import Position\n"
        "at = Position(symbol='AAA', net_quantity=3, position_version=12)\n"
        "sys.stdout.buffer.write(msgspec.json.encode(propose(Listing(instrument(), 12, 57), at, 2)))\n"
    )
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, capture_output=True, env={"PYTHONHASHSEED": "4711"}, check=True, timeout=30)
    assert ran.stdout == GOLDEN


@given(st.integers(-10_000, 10_000), st.integers(0, 2**53), st.integers(1, 2**31), st.integers(1, 50))
def test_the_same_facts_give_the_same_bytes(net_quantity: int, version: int, attempt: int, share: int) -> None:
    """The time of the position and its last fill do not matter."""
    bare = position(net_quantity, version)
    full = msgspec.structs.replace(bare, last_fill_id="AAA-f1", updated_at=NOW)
    first, second = (propose(Listing(instrument(), share), at, attempt) for at in (bare, full))
    assert msgspec.json.encode(first) == msgspec.json.encode(second)


def test_ids_derive_from_facts() -> None:
    quote = proposal().quote
    assert (quote.quote_id, quote.reservation_id) == ("AAA-v12-a1", "AAA-v12-a1-r")


def test_a_side_without_a_price_has_no_quantity() -> None:
    quote = proposal(reference_price=Decimal("0.05")).quote
    assert (quote.bid_price, quote.bid_quantity) == (0, 0)
    assert (quote.ask_price > 0, quote.ask_quantity) == (True, 10)


def test_without_any_price_there_is_no_proposal() -> None:
    assert propose(Listing(instrument(reference_price=Decimal("0.05")), 12), position(1000), 1) is None


@pytest.mark.parametrize(("quote_size", "share", "quantity"), [(10, 12, 10), (20, 12, 12), (1, 1, 1)])
def test_the_size_is_the_quote_size_but_at_most_the_share(quote_size: int, share: int, quantity: int) -> None:
    proposed = propose(Listing(instrument(quote_size=quote_size), share), position(), 1)
    assert proposed is not None
    assert (proposed.quote.bid_quantity, proposed.quote.ask_quantity) == (quantity, quantity)


def test_each_side_may_have_its_own_size() -> None:
    quote = proposal(bid_size=3, ask_size=20).quote
    assert (quote.bid_quantity, quote.ask_quantity) == (3, 12)
    quote = proposal(ask_size=4).quote
    assert (quote.bid_quantity, quote.ask_quantity) == (10, 4)


@pytest.mark.parametrize(
    ("net_quantity", "bid", "ask"),
    [(0, 10, 10), (20, 5, 10), (24, 1, 10), (25, 0, 10), (40, 0, 10), (-24, 10, 1), (-25, 10, 0), (-99, 10, 0)],
)
def test_towards_the_largest_position_a_side_shrinks_and_at_it_only_the_other_is_quoted(
    net_quantity: int, bid: int, ask: int
) -> None:
    proposed = propose(Listing(instrument(max_position=25), 12), position(net_quantity), 1)
    assert proposed is not None
    quote = proposed.quote
    assert (quote.bid_quantity, quote.ask_quantity) == (bid, ask)
    assert (quote.bid_price > 0, quote.ask_price > 0) == (bid > 0, ask > 0)


@pytest.mark.parametrize(("most", "gross", "bid"), [(None, 25, 5), (22, 25, 2), (30, 25, 5), (None, None, 10)])
def test_a_symbols_share_of_the_gross_position_is_a_largest_position_too(
    most: int | None, gross: int | None, bid: int
) -> None:
    proposed = propose(Listing(instrument(max_position=most), 12, gross=gross), position(20), 1)
    assert proposed is not None
    assert (proposed.quote.bid_quantity, proposed.quote.ask_quantity) == (bid, 10)


@pytest.mark.parametrize(("net_quantity", "bid", "ask"), [(4, 0, 4), (-4, 4, 0), (40, 0, 10), (-40, 10, 0)])
def test_close_only_quotes_the_side_that_reduces_the_position_and_for_no_more(
    net_quantity: int, bid: int, ask: int
) -> None:
    proposed = propose(Listing(instrument(state="close_only"), 12), position(net_quantity), 1)
    assert proposed is not None
    assert (proposed.quote.bid_quantity, proposed.quote.ask_quantity) == (bid, ask)


def test_close_only_of_a_flat_position_quotes_nothing() -> None:
    assert propose(Listing(instrument(state="close_only"), 12), position(0), 1) is None


@given(st.integers(1, 60), st.integers(-90, 90), st.integers(1, 30), st.integers(1, 30))
def test_no_fill_of_a_quote_leads_beyond_the_largest_position(most: int, net: int, size: int, share: int) -> None:
    proposed = propose(Listing(instrument(max_position=most, quote_size=size), share), position(net), 1)
    assert proposed is not None
    beyond = max(most, abs(net))
    assert net + proposed.quote.bid_quantity <= beyond
    assert net - proposed.quote.ask_quantity >= -beyond


def test_the_whole_proposal_is_reserved() -> None:
    request = reservation_request(proposal())
    assert (request.quote_id, request.symbol) == ("AAA-v12-a1", "AAA")
    assert (request.bid_quantity, request.ask_quantity) == (10, 10)


@given(st.integers(0, 30), st.integers(0, 30))
def test_shrinking_leaves_at_most_what_was_granted_at_the_same_prices(bid: int, ask: int) -> None:
    proposed = proposal()
    granted = shrink(proposed, reservation(bid, ask))
    if not bid and not ask:
        assert granted is None
        return
    assert granted is not None
    assert (granted.quote.bid_quantity, granted.quote.ask_quantity) == (min(10, bid), min(10, ask))
    assert (granted.quote.bid_price, granted.quote.ask_price) == (proposed.quote.bid_price, proposed.quote.ask_price)
    assert msgspec.json.decode(msgspec.json.encode(granted), type=PutQuote) == granted


@pytest.mark.parametrize("state", ["released", "expired"])
def test_nothing_is_left_of_a_reservation_that_ended(state: ReservationState) -> None:
    assert shrink(proposal(), reservation(10, 10, state)) is None
