"""Pages of live reservations."""

from datetime import timedelta

import pytest

from exposure.paging import PAGE, page
from support.builders import NOW
from wire.errors import Refusal, Refused
from wire.reservations import Exposure, Reservation, SideUsage


def exposure(live: int) -> Exposure:
    """Return an exposure with `live` reservations, each three of which were granted at the same time."""
    side = SideUsage(used=0, free=100)
    reservations = [
        Reservation(
            reservation_id=f"q-{number:05}-r",
            quote_id=f"q-{number:05}",
            symbol="AAA",
            reserved_bid_quantity=1,
            reserved_ask_quantity=1,
            state="active",
            granted_at=NOW + timedelta(microseconds=number // 3),
            activated_at=None,
            expires_at=NOW + timedelta(seconds=30),
        )
        for number in range(live)
    ]
    return Exposure(limit=100, bid=side, ask=side, reservations=reservations)


@pytest.mark.parametrize("live", [0, 1, PAGE - 1, PAGE, PAGE + 1, 2500, 3 * PAGE])
def test_pages_have_every_reservation_once_and_are_bounded(live: int) -> None:
    everything = exposure(live)
    found: list[Reservation] = []
    position: str | None = None
    while True:
        shown, position = page(everything, position)
        assert len(shown.reservations) <= PAGE
        assert (shown.limit, shown.bid, shown.ask) == (everything.limit, everything.bid, everything.ask)
        found += shown.reservations
        if position is None:
            break
    assert found == everything.reservations


def test_a_position_remains_valid_when_its_reservation_has_ended() -> None:
    before = exposure(PAGE + 5)
    _, position = page(before, None)
    after = Exposure(limit=100, bid=before.bid, ask=before.ask, reservations=before.reservations[PAGE + 2 :])
    shown, following = page(after, position)
    assert (shown.reservations, following) == (before.reservations[PAGE + 2 :], None)


@pytest.mark.parametrize("nonsense", ["", "x", ",", "2026-01-05", "2026-01-05T09:30:00,q-r", "2026-01-05T09:30:00Z,"])
def test_a_position_that_no_page_has_returned_is_refused(nonsense: str) -> None:
    with pytest.raises(Refused) as caught:
        page(exposure(1), nonsense)
    assert (caught.value.refusal, caught.value.field) == (Refusal.INVALID_FIELD, "after")
