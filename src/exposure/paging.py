"""Pages of the live reservations: there may be thousands, and a response is bounded. Pure."""

from datetime import datetime

from msgspec.structs import replace

from wire.errors import Refusal, Refused
from wire.reservations import Exposure, Reservation

PAGE = 1_000
"""Reservations in a response, at most; they take 350 KB."""


def page(exposure: Exposure, after: str | None) -> tuple[Exposure, str | None]:
    """Return the page that begins after a position, and the position after which the next page begins, None at the end.

    The reservations are in the order in which they were granted. A position remains valid after its reservation has
    ended, so a reservation that lives during the whole query is returned exactly once.

    Raises:
        Refused: INVALID_FIELD: `after` is not a position that a page has returned.
    """
    rest = exposure.reservations
    if after is not None:
        beyond = _position(after)
        rest = [reservation for reservation in rest if _key(reservation) > beyond]
    shown = rest[:PAGE]
    following = f"{shown[-1].granted_at.isoformat()},{shown[-1].reservation_id}" if len(rest) > PAGE else None
    return replace(exposure, reservations=shown), following


def _key(reservation: Reservation) -> tuple[datetime, str]:
    return reservation.granted_at, reservation.reservation_id


def _position(text: str) -> tuple[datetime, str]:
    granted_at, _, reservation_id = text.partition(",")
    try:
        at = datetime.fromisoformat(granted_at)
    except ValueError as error:
        raise Refused(Refusal.INVALID_FIELD, "is not a position that a page has returned", field="after") from error
    if at.tzinfo is None or not reservation_id:
        raise Refused(Refusal.INVALID_FIELD, "is not a position that a page has returned", field="after")
    return at, reservation_id
