"""A page of the live reservations: there may be thousands, and an answer is bounded. Pure."""

from datetime import datetime

from msgspec.structs import replace

from wire.errors import Refusal, Refused
from wire.reservations import Exposure, Reservation

PAGE = 1_000
"""Reservations that an answer has at most: 350 KB."""


def page(exposure: Exposure, after: str | None) -> tuple[Exposure, str | None]:
    """The reservations that come after a place, in the order they were granted, and the place after which the next
    page begins; None if there is none.

    A place stays one when its reservation has ended: so reservations that live all the while are told once.

    Raises:
        Refused: INVALID_FIELD: no page has told that place.
    """
    rest = exposure.reservations
    if after is not None:
        beyond = _place(after)
        rest = [reservation for reservation in rest if _key(reservation) > beyond]
    shown = rest[:PAGE]
    following = f"{shown[-1].granted_at.isoformat()},{shown[-1].reservation_id}" if len(rest) > PAGE else None
    return replace(exposure, reservations=shown), following


def _key(reservation: Reservation) -> tuple[datetime, str]:
    return reservation.granted_at, reservation.reservation_id


def _place(text: str) -> tuple[datetime, str]:
    granted_at, _, reservation_id = text.partition(",")
    try:
        at = datetime.fromisoformat(granted_at)
    except ValueError as error:
        raise Refused(Refusal.INVALID_FIELD, "is not a position that a page has returned", field="after") from error
    if at.tzinfo is None or not reservation_id:
        raise Refused(Refusal.INVALID_FIELD, "is not a position that a page has returned", field="after")
    return at, reservation_id
