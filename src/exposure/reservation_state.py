"""The state of one reservation: the lots of the limit that it holds, by its record and its symbol's market log. Pure.

    record                                              lots held on each side
    released or expired                                 none
    never activated                                     the reserved lots: its quote may be in flight
    activated for a version older than the latest's     none: its quote was replaced, or can no longer become active
    activated for the latest quote event's version
      and the event activates its quote                 the quote's remaining lots, at most the reserved ones
      and the event ends its quote                      none
    otherwise                                           the reserved lots: the quote event is in flight, or not yet read

An older quote can no longer become active because the exchange appends a quote event only if its version is newer than
that of the latest. So the version of a symbol's quote events only grows.

The lots that a record holds never increase as the market log advances: versions only grow, and remaining quantities
only shrink.
"""

from typing import Literal, NamedTuple

from wire.market import SymbolMarket
from wire.quotes import QuoteWithdrawn
from wire.reservations import ReservationRecord

EndReason = Literal["replaced", "withdrawn", "expired", "filled"]
"""How the market log has ended an activated reservation."""


class Lots(NamedTuple):
    """Lots on each side."""

    bid: int
    ask: int


NO_LOTS = Lots(0, 0)


def is_quoted(record: ReservationRecord, market: SymbolMarket) -> bool:
    """Return True if the symbol's latest quote event belongs to the quote for which this reservation was activated.

    The version must match too: an id may be granted again long after its earlier reservation has ended.
    """
    return (
        market.event is not None
        and market.event.reservation_id == record.reservation_id
        and market.version == record.version
    )


def end_reason(record: ReservationRecord, market: SymbolMarket) -> EndReason | None:
    """Return how the market log has ended a reservation whose record is still active; None if it has not."""
    version = record.version
    if record.state != "active" or version is None:
        return None
    if version < market.version:
        return "replaced"
    if not is_quoted(record, market):
        return None
    if isinstance(market.event, QuoteWithdrawn):
        return market.event.reason
    return None if market.remaining_bid or market.remaining_ask else "filled"


def held_lots(record: ReservationRecord, market: SymbolMarket) -> Lots:
    """Return the lots of the limit that a reservation holds."""
    if record.state != "active" or end_reason(record, market):
        return NO_LOTS
    reserved = Lots(record.reserved_bid_quantity, record.reserved_ask_quantity)
    if is_quoted(record, market):
        return Lots(min(reserved.bid, market.remaining_bid), min(reserved.ask, market.remaining_ask))
    return reserved
