"""One symbol's book: decides what executes and which quote is active. Pure.

Ordering rules:
- Orders of a batch are matched in the order given, each against what the ones before it left.
- An order id that has executed is answered with its first fill, whatever has happened since.
- A quote is newer if its version is greater, and its revision is not less. Only a newer one replaces the latest.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol

from msgspec.structs import replace

from exchange.order_dedup import PENDING, Pending
from wire import ids
from wire.errors import Refusal, Refused
from wire.ids import QuoteVersion
from wire.instruments import Instrument, Listing
from wire.market import SymbolMarket
from wire.orders import Order, OrderResult, RecordedFill, RejectReason
from wire.quotes import ATTEMPTS_AHEAD, Quote, QuoteActivated, QuoteRequest, QuoteWithdrawn
from wire.reservations import Reservation
from wire.units import FieldError, check_tick, with_decimals_of


class Executed(Protocol):
    """What is known of order ids; see `order_dedup`."""

    def get(self, order_id: str, /) -> RecordedFill | Pending | None:
        """The fill of an id; PENDING while it is not known yet whether it executes."""


@dataclass(slots=True)
class Batch:
    """What a batch of orders comes to: an answer for each, and the fills to append before any answer is given.

    Attributes:
        answers: one for each order, in order.
        fills: what executes; empty if nothing does.
        rejected: whether some answer is a rejection, which is true only if the book was current.
    """

    answers: list[OrderResult | Refused] = field(default_factory=list)
    fills: list[RecordedFill] = field(default_factory=list)
    rejected: bool = False


def checked_order(order: Order, instrument: Instrument) -> Order:
    """The order with its price as the log writes it, unless it could never be right.

    Raises:
        Refused: INVALID_FIELD: the limit is off the tick.
    """
    limit = _on_tick("limit_price", order.limit_price, instrument.tick)
    return order if limit is order.limit_price else replace(order, limit_price=limit)


def checked_quote(request: QuoteRequest, instrument: Instrument) -> QuoteRequest:
    """The quote with its prices as the log writes them, unless it could never be right.

    Raises:
        Refused: INVALID_FIELD: a price is off the tick.
    """
    return replace(
        request,
        bid_price=_on_tick("bid_price", request.bid_price, instrument.tick),
        ask_price=_on_tick("ask_price", request.ask_price, instrument.tick),
    )


def of_revision(market: SymbolMarket, request: QuoteRequest, revision: int) -> QuoteRequest:
    """The quote with the revision that it is of: what it names, or else what is in force. Asked for again it is of the
    one that was in force at first."""
    if request.revision is not None:
        return request
    latest = market.event
    if isinstance(latest, QuoteActivated) and latest.quote_id == request.quote_id:
        revision = latest.revision
    return replace(request, revision=revision)


def _on_tick(name: str, price: Decimal, tick: Decimal) -> Decimal:
    try:
        check_tick(name, price, tick)
    except FieldError as error:
        raise Refused(Refusal.INVALID_FIELD, str(error), field=name) from error
    return with_decimals_of(tick, price)


def match(
    market: SymbolMarket,
    orders: Sequence[Order],
    dedup: Executed,
    now: datetime,
    instrument: Instrument,
    askers: Iterable[str | None] = itertools.repeat(None),
    impossible: Mapping[Order, Refused] = {},
) -> Batch:
    """Match orders against the active quote.

    Args:
        market: the symbol's fold; it is not changed: fold the fills once they are appended.
        orders: of this symbol.
        dedup: fills by order id, of all symbols, for as long as ids are remembered. One that is pending is another
            symbol's: a symbol decides nothing while an append of its own is under way.
        now: UTC; becomes `created_at` of the fills.
        instrument: what the fills cost.
        askers: of each order, what is kept of who sent it.
        impossible: orders that make no sense by the instrument as it stands, and why. They may have executed before.
    """
    batch = Batch()
    executed: dict[str, RecordedFill] = {}
    remaining = {"buy": market.remaining_ask, "sell": market.remaining_bid}
    status = market.status_at(now)
    quote = market.event if status == "active" and isinstance(market.event, QuoteActivated) else None
    for order, asker in zip(orders, askers, strict=False):
        known = executed.get(order.order_id) or dedup.get(order.order_id)
        if known is PENDING:
            batch.answers.append(_pending(order))
            continue
        if known is not None:
            batch.answers.append(_answer_again(order, known))
            continue
        if impossible and order in impossible:
            batch.answers.append(impossible[order])
            batch.rejected = True
            continue
        if quote is None:
            batch.answers.append(_rejected(order, "quote_expired" if status == "expired" else "no_active_quote"))
            batch.rejected = True
            continue
        price = quote.ask_price if order.side == "buy" else quote.bid_price
        if not remaining[order.side]:
            batch.answers.append(_rejected(order, "quote_exhausted"))
            batch.rejected = True
            continue
        if not _crosses(order, price):
            batch.answers.append(_rejected(order, "not_marketable"))
            batch.rejected = True
            continue
        quantity = min(order.quantity, remaining[order.side])
        remaining[order.side] -= quantity
        number = market.fill_number + len(batch.fills) + 1
        fill = RecordedFill(
            fill_id=ids.fill_id(order.symbol, number),
            order_id=order.order_id,
            symbol=order.symbol,
            side=order.side,
            quantity=quantity,
            price=price,
            quote_id=quote.quote_id,
            created_at=now,
            number=number,
            remaining_bid_quantity=remaining["sell"],
            remaining_ask_quantity=remaining["buy"],
            order_quantity=order.quantity,
            limit_price=order.limit_price,
            asker=asker,
            multiplier=instrument.multiplier,
            fee=instrument.fee(quantity, price),
        )
        executed[order.order_id] = fill
        batch.fills.append(fill)
        batch.answers.append(_filled(fill))
    return batch


def executes(market: SymbolMarket, now: datetime) -> bool:
    """Whether anything is left that an order could execute on."""
    return bool(market.remaining_bid or market.remaining_ask) and market.status_at(now) == "active"


def _crosses(order: Order, price: Decimal) -> bool:
    return order.limit_price >= price if order.side == "buy" else order.limit_price <= price


def _filled(fill: RecordedFill) -> OrderResult:
    leaves = fill.order_quantity - fill.quantity
    return OrderResult(
        order_id=fill.order_id,
        symbol=fill.symbol,
        status="partially_filled" if leaves else "filled",
        filled_quantity=fill.quantity,
        leaves_quantity=leaves,
        fills=[fill.fill],
    )


def _rejected(order: Order, reason: RejectReason) -> OrderResult:
    return OrderResult(
        order_id=order.order_id,
        symbol=order.symbol,
        status="rejected",
        filled_quantity=0,
        leaves_quantity=order.quantity,
        fills=[],
        reason=reason,
    )


def _answer_again(order: Order, known: RecordedFill) -> OrderResult | Refused:
    sent = (order.symbol, order.side, order.quantity, order.limit_price)
    if sent != (known.symbol, known.side, known.order_quantity, known.limit_price):
        return Refused(Refusal.ORDER_ID_REUSED, f"order {order.order_id} executed as fill {known.fill_id}")
    return _filled(known)


def _pending(order: Order) -> Refused:
    return Refused(Refusal.UNAVAILABLE, f"another order {order.order_id} is being executed; nothing was done")


def accepted_quote(market: SymbolMarket, request: QuoteRequest) -> Quote | None:
    """The quote itself if the symbol's latest one is exactly this, so that asking again gets the same answer.

    None means that the request is newer than anything before, and may be made active.

    Raises:
        Refused: STALE_QUOTE or QUOTE_ID_REUSED.
    """
    latest = market.event
    if latest is None or _is_newer(request.version, market.version):
        return None
    if isinstance(latest, QuoteActivated) and latest.quote_id == request.quote_id:
        if not _same(request, latest):
            raise Refused(Refusal.QUOTE_ID_REUSED, f"quote {latest.quote_id} is active with other content")
        return market.quote()
    raise Refused(
        Refusal.STALE_QUOTE,
        f"quote {latest.quote_id} was made from {_spelled(market.version)}; this one is from "
        f"{_spelled(request.version)}",
    )


def _is_newer(version: QuoteVersion, latest: QuoteVersion) -> bool:
    return version > latest and version.revision >= latest.revision


def _spelled(version: QuoteVersion) -> str:
    revision = f", revision {version.revision}" if version.revision else ""
    return f"position version {version.position_version}{revision}, attempt {version.attempt}"


def check_position(market: SymbolMarket, request: QuoteRequest) -> None:
    """Check that a quote's position can be known: its version is the number of a fill, and that one has happened.

    Raises:
        Refused: POSITION_UNKNOWN. Active, such a quote would stand in the way of every true one for long.
    """
    if request.position_version > market.fill_number:
        raise Refused(
            Refusal.POSITION_UNKNOWN,
            f"the quote is from position version {request.position_version}, and {market.symbol} has "
            f"{market.fill_number} fills",
            field="position_version",
        )


def check_listing(listing: Listing, request: QuoteRequest) -> None:
    """Check that a quote follows from the instrument as it stands: that it names the revision in force, and that one
    is to be quoted.

    Raises:
        Refused: STALE_QUOTE: it is made from an older one; REVISION_UNKNOWN; NOT_QUOTED.
    """
    revision = request.version.revision
    if revision < listing.revision:
        raise Refused(
            Refusal.STALE_QUOTE,
            f"the quote is made from revision {revision} of its instrument, and {listing.revision} is in force",
            field="revision",
        )
    if revision > listing.revision:
        raise Refused(
            Refusal.REVISION_UNKNOWN,
            f"the quote is made from revision {revision} of its instrument, and {listing.revision} is the newest",
            field="revision",
        )
    if listing.instrument.state in ("paused", "delisted"):
        raise Refused(Refusal.NOT_QUOTED, f"the instrument is {listing.instrument.state}")


def check_attempt(market: SymbolMarket, request: QuoteRequest) -> None:
    """Check that a newer quote leaves room for the next ones: its attempt is not far beyond the latest.

    Once this holds it holds for good: the latest attempt at a position version and revision only grows.

    Raises:
        Refused: ATTEMPT_TOO_FAR. Active, a quote of the last attempt there is would be the last of its version.
    """
    wanted, latest = request.version, market.version
    attempt = latest.attempt if wanted[:2] == latest[:2] else 0
    if wanted.attempt > attempt + ATTEMPTS_AHEAD:
        raise Refused(
            Refusal.ATTEMPT_TOO_FAR,
            f"attempt {wanted.attempt} is more than {ATTEMPTS_AHEAD} beyond {attempt}, the latest at position version "
            f"{wanted.position_version}",
            field="attempt",
        )


def _same(request: QuoteRequest, event: QuoteActivated) -> bool:
    return all(getattr(request, name) == getattr(event, name) for name in request.__struct_fields__)


def activate(
    symbol: str, request: QuoteRequest, reservation: Reservation, now: datetime, asker: str | None = None
) -> QuoteActivated:
    """The event that makes a quote active, as `asker` wishes. It expires with its reservation, never later.

    Raises:
        Refused: RESERVATION_NOT_ACTIVE: the reservation has run out meanwhile.
    """
    if now >= reservation.expires_at:
        raise Refused(Refusal.RESERVATION_NOT_ACTIVE, f"reservation {reservation.reservation_id} has expired")
    return QuoteActivated(
        symbol=symbol,
        quote_id=request.quote_id,
        reservation_id=request.reservation_id,
        position_version=request.position_version,
        revision=request.version.revision,
        attempt=request.attempt,
        bid_price=request.bid_price,
        bid_quantity=request.bid_quantity,
        ask_price=request.ask_price,
        ask_quantity=request.ask_quantity,
        activated_at=now,
        expires_at=reservation.expires_at,
        asker=asker,
    )


def quote_of(event: QuoteActivated) -> Quote:
    """The quote as it became active: nothing of it is filled."""
    market = SymbolMarket(event.symbol)
    market.apply_quote(1, event)
    return active_quote(market, event.activated_at)


def active_quote(market: SymbolMarket, now: datetime) -> Quote:
    """The active quote, which may be filled away.

    Raises:
        Refused: NEVER_QUOTED, QUOTE_EXPIRED or QUOTE_WITHDRAWN.
    """
    quote = market.quote()
    quote_id = market.event.quote_id if market.event else ""
    match market.status_at(now):
        case "never":
            raise Refused(Refusal.NEVER_QUOTED, f"{market.symbol} was never quoted")
        case "withdrawn":
            raise Refused(Refusal.QUOTE_WITHDRAWN, f"quote {quote_id} was withdrawn")
        case "expired":
            raise Refused(Refusal.QUOTE_EXPIRED, f"quote {quote_id} has expired")
        case "active":
            pass
    if quote is None:
        raise AssertionError("an active quote is a quote")
    return quote


def withdraw(market: SymbolMarket, quote_id: str | None, now: datetime, asker: str | None = None) -> QuoteWithdrawn:
    """The event that withdraws the active quote, as `asker` wishes; with `quote_id`, only if it is that one.

    Raises:
        Refused: as `active_quote`; STALE_QUOTE if another quote is active.
    """
    quote = active_quote(market, now)
    if quote_id is not None and quote.quote_id != quote_id:
        raise Refused(Refusal.STALE_QUOTE, f"quote {quote.quote_id} is active, not {quote_id}")
    return _end(quote, now, "withdrawn", asker)


def expiry(market: SymbolMarket, now: datetime) -> QuoteWithdrawn | None:
    """The event that ends a quote which has expired; None if the latest has not, or its end is in the log.

    Only time lets two exchanges decide differently on the same head: one may have filled an order on a quote that the
    other finds expired, and be about to append the fill. So nobody is told for good that a quote has expired before
    this event is in the log, on which that append loses its compare.
    """
    if market.status_at(now) == "expired" and isinstance(market.event, QuoteActivated):
        return _end(market.event, now, "expired")
    return None


def _end(
    quote: Quote | QuoteActivated, now: datetime, reason: Literal["withdrawn", "expired"], asker: str | None = None
) -> QuoteWithdrawn:
    return QuoteWithdrawn(
        symbol=quote.symbol,
        quote_id=quote.quote_id,
        reservation_id=quote.reservation_id,
        position_version=quote.position_version,
        revision=quote.revision,
        attempt=quote.attempt,
        withdrawn_at=now,
        reason=reason,
        asker=asker,
    )
