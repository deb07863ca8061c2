"""What one reservation holds of the limit, given its record and the market log of its symbol.

    record                                              holds, on each side
    released or expired                                 nothing
    never activated                                     what it reserved: its quote may be on its way
    activated for a version older than the latest's     nothing: it was replaced, or never became active and cannot
    activated for the latest quote event's version
      and named by that event, an activation            what remains of the quote, at most what it reserved
      and named by that event, its end                  nothing
    otherwise                                           what it reserved: the quote event is on its way, or unseen here

"Cannot" rests on what the exchange promises: it appends a quote event only if its version is newer than the latest
one's, so the version of a symbol's quote events only grows.

What a record holds never grows while its symbol's market log does: versions only grow, what remains only shrinks.
"""

from typing import Literal, NamedTuple

from wire.market import SymbolMarket
from wire.quotes import QuoteWithdrawn
from wire.reservations import ReservationRecord

Ending = Literal["replaced", "withdrawn", "expired", "filled"]
"""How the market log ended an activated reservation."""


class Lots(NamedTuple):
    """Lots on each side."""

    bid: int
    ask: int


NOTHING = Lots(0, 0)


def is_quoted(record: ReservationRecord, market: SymbolMarket) -> bool:
    """Whether the symbol's latest quote event is about the quote this reservation was activated for.

    The version must agree too: an id whose reservation is long gone may have been granted again.
    """
    return (
        market.event is not None
        and market.event.reservation_id == record.reservation_id
        and market.version == record.version
    )


def ending(record: ReservationRecord, market: SymbolMarket) -> Ending | None:
    """How the market log ended a reservation whose record does not say so yet; None if it did not."""
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


def held(record: ReservationRecord, market: SymbolMarket) -> Lots:
    """What a reservation holds of the limit."""
    if record.state != "active" or ending(record, market):
        return NOTHING
    reserved = Lots(record.reserved_bid_quantity, record.reserved_ask_quantity)
    if is_quoted(record, market):
        return Lots(min(reserved.bid, market.remaining_bid), min(reserved.ask, market.remaining_ask))
    return reserved
