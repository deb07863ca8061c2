"""Requests for reservations are checked."""

import pytest

from wire.reservations import ReservationRequest
from wire.units import FieldError


def test_a_reservation_request_of_nothing_is_refused() -> None:
    with pytest.raises(FieldError):
        ReservationRequest(quote_id="q", symbol="AAA", bid_quantity=0, ask_quantity=0)
