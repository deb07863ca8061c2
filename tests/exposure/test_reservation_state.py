"""The lots that one reservation holds: every row of the module's table."""

from typing import Any, Literal

import pytest
from msgspec.structs import replace

from exposure.reservation_state import NO_LOTS, end_reason, held_lots
from support.builders import NOW, quote_activated, recorded_fill
from wire.market import SymbolMarket
from wire.quotes import QuoteWithdrawn
from wire.reservations import ReservationRecord

RESERVED = ReservationRecord(
    reservation_id="AAA-v3-a2-r",
    quote_id="AAA-v3-a2",
    symbol="AAA",
    reserved_bid_quantity=10,
    reserved_ask_quantity=8,
    state="active",
    granted_at=NOW,
    activated_at=None,
    expires_at=NOW,
    outcome="granted",
    asked_bid_quantity=10,
    asked_ask_quantity=8,
    granted_bid_quantity=10,
    granted_ask_quantity=8,
)
ACTIVATED = replace(RESERVED, activated_at=NOW, position_version=3, attempt=2, activation="one")


def market_with(version: int | None, attempt: int = 1, **changes: Any) -> SymbolMarket:
    """Return a symbol whose latest quote event has that version; None means that it was never quoted."""
    market = SymbolMarket("AAA")
    if version is not None:
        event = quote_activated(
            position_version=version, attempt=attempt, **({"bid_quantity": 9, "ask_quantity": 7} | changes)
        )
        market.apply_quote(1, event)
    return market


@pytest.mark.parametrize(
    ("record", "market", "holds", "end"),
    [
        pytest.param(replace(ACTIVATED, state="released"), market_with(None), (0, 0), None, id="released"),
        pytest.param(replace(RESERVED, state="expired"), market_with(None), (0, 0), None, id="expired"),
        pytest.param(RESERVED, market_with(None), (10, 8), None, id="granted"),
        pytest.param(RESERVED, market_with(9), (10, 8), None, id="granted, the market far ahead"),
        pytest.param(RESERVED, market_with(3, 2), (10, 8), None, id="granted, its id quoted before"),
        pytest.param(ACTIVATED, market_with(None), (10, 8), None, id="activated, no quote event yet"),
        pytest.param(ACTIVATED, market_with(3, 1), (10, 8), None, id="activated, an earlier attempt is the latest"),
        pytest.param(ACTIVATED, market_with(3, 2), (9, 7), None, id="its quote is the latest"),
        pytest.param(ACTIVATED, market_with(3, 2, bid_quantity=20), (10, 7), None, id="never more than reserved"),
        pytest.param(ACTIVATED, market_with(3, 3), (0, 0), "replaced", id="a later attempt is the latest"),
        pytest.param(ACTIVATED, market_with(4, 1), (0, 0), "replaced", id="a later version is the latest"),
        pytest.param(
            ACTIVATED, market_with(3, 2, quote_id="other"), (10, 8), None, id="another quote of its very version"
        ),
        pytest.param(
            replace(ACTIVATED, position_version=5),
            market_with(3, 2),
            (10, 8),
            None,
            id="its id was quoted before, for an older version",
        ),
    ],
)
def test_the_lots_that_a_reservation_holds(
    record: ReservationRecord, market: SymbolMarket, holds: tuple[int, int], end: str | None
) -> None:
    assert held_lots(record, market) == holds
    assert end_reason(record, market) == end


def test_fills_of_its_quote_shrink_what_it_holds() -> None:
    market = market_with(3, 2)
    market.apply_fills(2, [recorded_fill(remaining_bid_quantity=9, remaining_ask_quantity=2)])
    assert held_lots(ACTIVATED, market) == (9, 2)


def test_a_fully_filled_quote_holds_nothing() -> None:
    market = market_with(3, 2)
    market.apply_fills(2, [recorded_fill(remaining_bid_quantity=0, remaining_ask_quantity=0)])
    assert held_lots(ACTIVATED, market) == NO_LOTS
    assert end_reason(ACTIVATED, market) == "filled"


@pytest.mark.parametrize("reason", ["withdrawn", "expired"])
def test_a_quote_whose_end_is_in_the_log_holds_nothing(reason: Literal["withdrawn", "expired"]) -> None:
    market = market_with(3, 2)
    market.apply_quote(
        2,
        QuoteWithdrawn(
            symbol="AAA",
            quote_id="AAA-v3-a2",
            reservation_id="AAA-v3-a2-r",
            position_version=3,
            attempt=2,
            withdrawn_at=NOW,
            reason=reason,
        ),
    )
    assert held_lots(ACTIVATED, market) == NO_LOTS
    assert end_reason(ACTIVATED, market) == reason
