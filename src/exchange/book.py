"""One symbol's book: decides which orders execute and which quote is active. Pure.

Ordering rules:
- Orders of a batch are matched in the given order, each against the quantity that earlier ones left.
- An order whose id has executed gets its first fill as the answer, whatever has happened since.
- A quote is newer if its version is greater and its revision is not lower. Only a newer quote replaces the latest.
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


class ExecutedOrders(Protocol):
    """Looks up order ids that have executed; see `order_dedup`."""

    def get(self, order_id: str, /) -> RecordedFill | Pending | None:
        """Return the fill of an id; PENDING while an append that may execute it is in flight; None if it is unknown."""


@dataclass(slots=True)
class Batch:
    """The result of matching a batch of orders. The fills must be appended before any answer is given.

    Attributes:
        answers: one for each order, in order.
        fills: the fills of the orders that execute; may be empty.
        rejected: True if at least one answer is a rejection, which may only be given if the book was current.
    """

    answers: list[OrderResult | Refused] = field(default_factory=list)
    fills: list[RecordedFill] = field(default_factory=list)
    rejected: bool = False


def checked_order(order: Order, instrument: Instrument) -> Order:
    """Return the order with its price written as in the log: with the decimals of the tick.

    Raises:
        Refused: INVALID_FIELD: the limit is off the tick.
    """
    limit = _on_tick("limit_price", order.limit_price, instrument.tick)
    return order if limit is order.limit_price else replace(order, limit_price=limit)


def checked_quote(request: QuoteRequest, instrument: Instrument) -> QuoteRequest:
    """Return the quote with its prices written as in the log: with the decimals of the tick.

    Raises:
        Refused: INVALID_FIELD: a price is off the tick.
    """
    return replace(
        request,
        bid_price=_on_tick("bid_price", request.bid_price, instrument.tick),
        ask_price=_on_tick("ask_price", request.ask_price, instrument.tick),
    )


def with_revision(market: SymbolMarket, request: QuoteRequest, revision: int) -> QuoteRequest:
    """Return the quote with its revision: the one it names, or else `revision`, which is in force.

    A quote that names none and is already the latest keeps the revision that it was activated with.
    """
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
    dedup: ExecutedOrders,
    now: datetime,
    instrument: Instrument,
    askers: Iterable[str | None] = itertools.repeat(None),
    invalid: Mapping[Order, Refused] = {},
) -> Batch:
    """Match orders against the active quote.

    Args:
        market: the symbol's fold. It is not changed: fold the fills once they are appended.
        orders: orders of this symbol.
        dedup: fills by order id, of all symbols, for as long as ids are remembered. An id that is pending belongs to
            another symbol: a symbol decides nothing while an append of its own is in flight.
        now: UTC; becomes `created_at` of the fills.
        instrument: determines multiplier and fee of the fills.
        askers: for each order, the digest of who sent it.
        invalid: orders that the current instrument does not allow, with the refusal. They are refused unless they
            executed earlier.
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
            batch.answers.append(_first_answer(order, known))
            continue
        if invalid and order in invalid:
            batch.answers.append(invalid[order])
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


def can_execute(market: SymbolMarket, now: datetime) -> bool:
    """True if the active quote has quantity left for an order to execute against."""
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


def _first_answer(order: Order, known: RecordedFill) -> OrderResult | Refused:
    sent = (order.symbol, order.side, order.quantity, order.limit_price)
    if sent != (known.symbol, known.side, known.order_quantity, known.limit_price):
        return Refused(Refusal.ORDER_ID_REUSED, f"order {order.order_id} executed as fill {known.fill_id}")
    return _filled(known)


def _pending(order: Order) -> Refused:
    return Refused(Refusal.UNAVAILABLE, f"another order {order.order_id} is being executed; nothing was done")


def accepted_quote(market: SymbolMarket, request: QuoteRequest) -> Quote | None:
    """Return the quote if it is already the symbol's latest, so that a request sent again gets the same answer.

    None means that the request is newer than every quote before it, and may become active.

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
        f"quote {latest.quote_id} was made from {_described(market.version)}; this one is from "
        f"{_described(request.version)}",
    )


def _is_newer(version: QuoteVersion, latest: QuoteVersion) -> bool:
    return version > latest and version.revision >= latest.revision


def _described(version: QuoteVersion) -> str:
    revision = f", revision {version.revision}" if version.revision else ""
    return f"position version {version.position_version}{revision}, attempt {version.attempt}"


def check_position(market: SymbolMarket, request: QuoteRequest) -> None:
    """Check that a quote's position exists: its version is the number of a fill, which must have happened.

    Raises:
        Refused: POSITION_UNKNOWN. Such a quote, once active, would count as newer than valid ones for a long time.
    """
    if request.position_version > market.fill_number:
        raise Refused(
            Refusal.POSITION_UNKNOWN,
            f"the quote is from position version {request.position_version}, and {market.symbol} has "
            f"{market.fill_number} fills",
            field="position_version",
        )


def check_listing(listing: Listing, request: QuoteRequest) -> None:
    """Check that a quote was made from the instrument's revision in force, and that the instrument may be quoted.

    Raises:
        Refused: STALE_QUOTE: the quote is made from an older revision; REVISION_UNKNOWN; NOT_QUOTED.
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
    """Check that a quote's attempt is not far beyond the latest, so that there is room for later attempts.

    A quote that passes once always passes: the latest attempt at a position version and revision only grows.

    Raises:
        Refused: ATTEMPT_TOO_FAR. A quote with the greatest possible attempt could not be replaced at its version.
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
    """Return the event that makes a quote active, as requested by `asker`. The quote expires with its reservation.

    Raises:
        Refused: RESERVATION_NOT_ACTIVE: the reservation has expired meanwhile.
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
    """Return the quote as it became active, before any fill."""
    market = SymbolMarket(event.symbol)
    market.apply_quote(1, event)
    return active_quote(market, event.activated_at)


def active_quote(market: SymbolMarket, now: datetime) -> Quote:
    """Return the active quote. It may have no quantity left.

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
    """Return the event that withdraws the active quote, as requested by `asker`; with `quote_id`, only that quote.

    Raises:
        Refused: as `active_quote`; STALE_QUOTE if another quote is active.
    """
    quote = active_quote(market, now)
    if quote_id is not None and quote.quote_id != quote_id:
        raise Refused(Refusal.STALE_QUOTE, f"quote {quote.quote_id} is active, not {quote_id}")
    return _end(quote, now, "withdrawn", asker)


def expiry(market: SymbolMarket, now: datetime) -> QuoteWithdrawn | None:
    """Return the event that records the latest quote's expiry; None if it has not expired, or its end is in the log.

    Only the time can make two exchanges decide differently on the same head: one may have filled an order on a quote
    that the other finds expired, and be about to append the fill. So an order is finally rejected because of expiry
    only after this event is in the log. It moves the head, so the other exchange's append loses its compare.
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
