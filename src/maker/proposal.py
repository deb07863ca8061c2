"""Makes a proposal: the quote for a position and an attempt, byte for byte the same on any machine (I12). Pure."""

from decimal import Decimal
from typing import NamedTuple

import msgspec

from maker.pricing import prices
from wire import ids
from wire.ids import QuoteVersion
from wire.instruments import Listing
from wire.positions import Position
from wire.quotes import PutQuote, QuoteRequest
from wire.reservations import Reservation, ReservationRequest

_NO_PRICE = Decimal(0)


def propose(listing: Listing, position: Position, attempt: int) -> PutQuote | None:
    """Return the quote for a position, before anything is granted; None if there is nothing to quote on either side.

    A side has price and quantity 0 if its price is None, if any fill would exceed the largest position, or if the
    instrument is close-only and the side would not reduce the position.
    """
    bid, ask = prices(listing.instrument, position.net_quantity, listing.price)
    sizes = _sizes(listing, position.net_quantity)
    if not sizes.bid:
        bid = None
    if not sizes.ask:
        ask = None
    if bid is None and ask is None:
        return None
    quote_id = ids.quote_id(position.symbol, QuoteVersion(position.position_version, listing.revision, attempt))
    quote = QuoteRequest(
        quote_id=quote_id,
        reservation_id=ids.reservation_id(quote_id),
        position_version=position.position_version,
        revision=listing.revision,
        attempt=attempt,
        bid_price=_NO_PRICE if bid is None else bid,
        bid_quantity=0 if bid is None else sizes.bid,
        ask_price=_NO_PRICE if ask is None else ask,
        ask_quantity=0 if ask is None else sizes.ask,
    )
    return PutQuote(symbol=position.symbol, quote=quote)


class _Sizes(NamedTuple):
    """Lots for bid and ask."""

    bid: int
    ask: int


def _sizes(listing: Listing, net_quantity: int) -> _Sizes:
    """Return the wanted size of each side: at most the symbol's share, and never beyond the largest position, or beyond
    a flat position if the instrument is close-only."""
    instrument = listing.instrument
    bid = min(instrument.bid_size or instrument.quote_size, listing.share)
    ask = min(instrument.ask_size or instrument.quote_size, listing.share)
    if instrument.state == "close_only":
        return _Sizes(max(0, min(bid, -net_quantity)), max(0, min(ask, net_quantity)))
    largest = listing.position_limit
    if largest is None:
        return _Sizes(bid, ask)
    return _Sizes(max(0, min(bid, largest - net_quantity)), max(0, min(ask, largest + net_quantity)))


def reservation_request(proposal: PutQuote) -> ReservationRequest:
    """Return the request that reserves exposure for the whole proposal."""
    return ReservationRequest(
        quote_id=proposal.quote.quote_id,
        symbol=proposal.symbol,
        bid_quantity=proposal.quote.bid_quantity,
        ask_quantity=proposal.quote.ask_quantity,
    )


def shrink(proposal: PutQuote, reservation: Reservation) -> PutQuote | None:
    """Return the proposal, reduced to what was granted; None if nothing was, or the reservation has ended."""
    quote = proposal.quote
    bid = min(quote.bid_quantity, reservation.reserved_bid_quantity)
    ask = min(quote.ask_quantity, reservation.reserved_ask_quantity)
    if reservation.state != "active" or not (bid or ask):
        return None
    granted = msgspec.structs.replace(
        quote, reservation_id=reservation.reservation_id, bid_quantity=bid, ask_quantity=ask
    )
    return PutQuote(symbol=proposal.symbol, quote=granted)
