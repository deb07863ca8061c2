"""Decides how a fill executed elsewhere is recorded, or why it is refused: the core of `POST /fills`. Pure.

A report that names the symbol's latest quote reduces that quote's remaining quantity, so the quote must have been able
to execute it. A report that names any other quote, or a quote whose expiry is in the log already, is a booking: it
changes the position and no quote.
"""

from collections.abc import Container
from datetime import UTC

from ledger.positions import Account
from wire import ids
from wire.errors import Refusal, Refused
from wire.instruments import Instrument
from wire.market import SymbolMarket
from wire.orders import Fill, RecordedFill, ReportedFill
from wire.quotes import QuoteActivated, QuoteEvent
from wire.units import ONE, ZERO


def market_after(account: Account, event: QuoteEvent | None, event_sequence: int) -> SymbolMarket:
    """Return the fold of a symbol's market log, given its last fill that counts and its latest quote event."""
    market = SymbolMarket(account.symbol)
    last = [account.last_fill] if account.last_fill else []
    if event is not None and event_sequence < account.sequence:
        market.apply_quote(event_sequence, event)
    market.apply_fills(account.sequence, last)
    if event is not None:
        market.apply_quote(event_sequence, event)
    return market


def check_id(fill: Fill, symbols: Container[str]) -> None:
    """Refuse the id of an unrecorded fill if only the exchange assigns such ids: that execution never happened.

    Raises:
        Refused: FILL_CONTRADICTS.
    """
    symbol = fill.fill_id.rpartition("-f")[0]
    if (symbol == fill.symbol or symbol in symbols) and ids.fill_number(symbol, fill.fill_id) is not None:
        raise Refused(
            Refusal.FILL_CONTRADICTS, f"{fill.fill_id} is reserved for the exchange, which recorded no such fill"
        )


def record(
    fill: ReportedFill, market: SymbolMarket, instrument: Instrument | None, asker: str | None = None
) -> RecordedFill:
    """Return the fill as it is appended to the market log, following everything that `market` has folded.

    The multiplier is the instrument's, and so is the fee unless the fill names one. If the symbol has no instrument,
    the multiplier is that of its last fill, and the fee is 0. `asker` is recorded as the reporter.

    Raises:
        Refused: FILL_CONTRADICTS: the fill names the latest quote, which could not have executed it.
    """
    remaining_bid, remaining_ask = market.remaining_bid, market.remaining_ask
    if _takes_from_quote(fill, market.event):
        remaining_bid, remaining_ask = _remaining_after(fill, market)
    if instrument is not None:
        multiplier, fee = instrument.multiplier, instrument.fee(fill.quantity, fill.price)
    else:
        multiplier, fee = market.last_fill.multiplier if market.last_fill is not None else ONE, ZERO
    if fill.fee is not None:
        fee = fill.fee or ZERO
    return RecordedFill(
        fill_id=fill.fill_id,
        order_id=fill.order_id,
        symbol=fill.symbol,
        side=fill.side,
        quantity=fill.quantity,
        price=fill.price,
        quote_id=fill.quote_id,
        created_at=fill.created_at.astimezone(UTC),
        number=market.fill_number + 1,
        remaining_bid_quantity=remaining_bid,
        remaining_ask_quantity=remaining_ask,
        order_quantity=fill.quantity,
        limit_price=fill.price,
        origin="reported",
        asker=asker,
        multiplier=multiplier,
        fee=fee,
    )


def _takes_from_quote(fill: Fill, latest: QuoteEvent | None) -> bool:
    """True if a fill names the latest quote, and that quote's expiry is not in the log."""
    if latest is None or latest.quote_id != fill.quote_id:
        return False
    return isinstance(latest, QuoteActivated) or latest.reason == "withdrawn"


def _remaining_after(fill: Fill, market: SymbolMarket) -> tuple[int, int]:
    """Return the remaining bid and ask quantity of the latest quote after the fill. A `buy` reduces the ask."""
    quote = market.event
    if not isinstance(quote, QuoteActivated):
        raise _contradicts(fill, "is withdrawn")
    if not quote.activated_at <= fill.created_at < quote.expires_at:
        raise _contradicts(fill, f"was active from {quote.activated_at} until {quote.expires_at}, exclusive")
    buys = fill.side == "buy"
    price = quote.ask_price if buys else quote.bid_price
    left = market.remaining_ask if buys else market.remaining_bid
    if fill.quantity > left:
        raise _contradicts(fill, f"has {left} left for a {fill.side}, not {fill.quantity}")
    if fill.price != price:
        raise _contradicts(fill, f"executes a {fill.side} at {price}, not at {fill.price}")
    if buys:
        return market.remaining_bid, left - fill.quantity
    return left - fill.quantity, market.remaining_ask


def _contradicts(fill: Fill, fact: str) -> Refused:
    return Refused(Refusal.FILL_CONTRADICTS, f"{fill.fill_id}: quote {fill.quote_id} {fact}")
