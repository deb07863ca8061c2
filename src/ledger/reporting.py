"""Whether a fill executed elsewhere can be recorded, and how: the pure decision behind `POST /fills`.

A report that names the symbol's latest quote takes from what that quote has left, so it must be one that the quote
could have executed. A report that names any other quote, or one whose expiry is in the log already, is a booking: it
moves the position and no quote.
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
    """The symbol's market log, folded from its last fill that counts and its latest quote event."""
    market = SymbolMarket(account.symbol)
    last = [account.last_fill] if account.last_fill else []
    if event is not None and event_sequence < account.sequence:
        market.apply_quote(event_sequence, event)
    market.apply_fills(account.sequence, last)
    if event is not None:
        market.apply_quote(event_sequence, event)
    return market


def check_id(fill: Fill, symbols: Container[str]) -> None:
    """Refuse an id that only an execution on the exchange may have: it is not recorded, so it never happened.

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
    """The fill as it goes into the market log, after everything `market` has folded. `asker` is kept of who reports it.

    What it costs follows from its instrument, but for a fee that it names. Of a symbol that was removed, one lot comes
    to what it did at the last fill, and no fee is known.

    Raises:
        Refused: FILL_CONTRADICTS, if it names the latest quote and that quote could not have executed it.
    """
    remaining_bid, remaining_ask = market.remaining_bid, market.remaining_ask
    if _takes(fill, market.event):
        remaining_bid, remaining_ask = _take(fill, market)
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


def _takes(fill: Fill, latest: QuoteEvent | None) -> bool:
    """Whether a fill takes from the latest quote. Nothing is left of one whose expiry is in the log."""
    if latest is None or latest.quote_id != fill.quote_id:
        return False
    return isinstance(latest, QuoteActivated) or latest.reason == "withdrawn"


def _take(fill: Fill, market: SymbolMarket) -> tuple[int, int]:
    """What is left on the latest quote's bid and ask after the fill. A `buy` takes from the ask."""
    quote = market.event
    if not isinstance(quote, QuoteActivated):
        raise _contradicts(fill, "is withdrawn")
    if not quote.activated_at <= fill.created_at < quote.expires_at:
        raise _contradicts(fill, f"was active from {quote.activated_at} until before {quote.expires_at}")
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
