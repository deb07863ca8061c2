"""Builders of messages with sensible values: a test names only the values that matter to it."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from process.settings import Market
from wire import ids
from wire.instruments import Instrument
from wire.orders import Fill, NumberedFill, Order, RecordedFill, ReportedFill
from wire.positions import PositionUpdate
from wire.quotes import QuoteActivated, QuoteRequest
from wire.reservations import Activate, ReservationRequest

NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
_numbers = itertools.count(1)


def instrument(**changes: Any) -> Instrument:
    """A symbol around 100 with a tick of 0.01."""
    values: dict[str, Any] = {
        "tick": Decimal("0.01"),
        "reference_price": Decimal("100.00"),
        "quote_size": 10,
        "gamma": Decimal("0.1"),
        "k": Decimal(20),
        "a": Decimal(1),
        "sigma": Decimal("0.3"),
    }
    return Instrument(**(values | changes))


def market(**changes: Any) -> Market:
    """A market of two symbols, AAA and BBB, over two shards, with short lifetimes."""
    values: dict[str, Any] = {
        "quote_ttl": 2.0,
        "grace": 0.5,
        "shards": 2,
        "max_bytes": 64 * 1024 * 1024,
        "symbols": {"AAA": instrument(), "BBB": instrument()},
    }
    values |= changes
    return Market(**({"max_quote_ttl": values["quote_ttl"]} | values))


def order(**changes: Any) -> Order:
    """A buy of 5 AAA that crosses nearly any ask."""
    values: dict[str, Any] = {
        "order_id": f"order-{next(_numbers)}",
        "symbol": "AAA",
        "side": "buy",
        "quantity": 5,
        "limit_price": Decimal("200.00"),
    }
    return Order(**(values | changes))


def quote_request(symbol: str = "AAA", **changes: Any) -> QuoteRequest:
    """10 × 99.90 / 100.10 × 10 from position version 0, attempt 1, with the ids that follow from those."""
    version = ids.QuoteVersion(
        changes.get("position_version", 0), changes.get("revision", 0), changes.get("attempt", 1)
    )
    quote_id = changes.get("quote_id", ids.quote_id(symbol, version))
    values: dict[str, Any] = {
        "quote_id": quote_id,
        "reservation_id": ids.reservation_id(quote_id),
        **version._asdict(),
        "bid_price": Decimal("99.90"),
        "bid_quantity": 10,
        "ask_price": Decimal("100.10"),
        "ask_quantity": 10,
    }
    return QuoteRequest(**(values | changes))


def quote_activated(symbol: str = "AAA", *, lifetime: float = 30.0, **changes: Any) -> QuoteActivated:
    """The activation of `quote_request`, by default at NOW."""
    own = {name: changes.pop(name) for name in ("activated_at", "expires_at") if name in changes}
    request = quote_request(symbol, **changes)
    activated_at = own.get("activated_at", NOW)
    return QuoteActivated(
        symbol=symbol,
        activated_at=activated_at,
        expires_at=own.get("expires_at", activated_at + timedelta(seconds=lifetime)),
        **{name: getattr(request, name) for name in request.__struct_fields__},
    )


def recorded_fill(symbol: str = "AAA", number: int = 1, **changes: Any) -> RecordedFill:
    """The `number`-th fill of a symbol: a buy of 1 at 100.10."""
    values: dict[str, Any] = {
        "fill_id": ids.fill_id(symbol, number),
        "order_id": f"order-{symbol}-{number}",
        "symbol": symbol,
        "side": "buy",
        "quantity": 1,
        "price": Decimal("100.10"),
        "quote_id": ids.quote_id(symbol, ids.QuoteVersion(0, 0, 1)),
        "created_at": NOW,
        "number": number,
        "remaining_bid_quantity": 10,
        "remaining_ask_quantity": 9,
        "order_quantity": 1,
        "limit_price": Decimal("200.00"),
    }
    return RecordedFill(**(values | changes))


def numbered_fill(number: int = 1, symbol: str = "AAA", **changes: Any) -> NumberedFill:
    """The `number`-th fill of a symbol, as the ledger lists it: a buy of 3 at 100.10."""
    values: dict[str, Any] = {
        "fill_id": ids.fill_id(symbol, number),
        "order_id": f"order-{symbol}-{number}",
        "symbol": symbol,
        "side": "buy",
        "quantity": 3,
        "price": Decimal("100.10"),
        "quote_id": ids.quote_id(symbol, ids.QuoteVersion(0, 0, 1)),
        "created_at": NOW,
        "number": number,
        "origin": "exchange",
        "multiplier": Decimal(1),
        "fee": Decimal(0),
    }
    return NumberedFill(**(values | changes))


def fill(**changes: Any) -> Fill:
    """A fill that was executed elsewhere, on an unknown quote."""
    return Fill(**(_elsewhere() | changes))


def reported_fill(**changes: Any) -> ReportedFill:
    """The same, as it is reported, without a fee."""
    return ReportedFill(**(_elsewhere() | changes))


def reported(recorded: RecordedFill) -> ReportedFill:
    """A recorded fill as it would be reported without its fee."""
    return ReportedFill(**msgspec.structs.asdict(recorded.fill))


def _elsewhere() -> dict[str, Any]:
    return {
        "fill_id": f"reported-{next(_numbers)}",
        "order_id": f"order-{next(_numbers)}",
        "symbol": "AAA",
        "side": "buy",
        "quantity": 1,
        "price": Decimal("100.10"),
        "quote_id": "elsewhere-1",
        "created_at": NOW,
    }


def position_update(symbol: str = "AAA", **changes: Any) -> PositionUpdate:
    """By default a flat position at version 0."""
    return PositionUpdate(**({"symbol": symbol, "net_quantity": 0, "position_version": 0} | changes))


def reservation_request(symbol: str = "AAA", **changes: Any) -> ReservationRequest:
    """10 lots on each side for the symbol's first quote."""
    values: dict[str, Any] = {
        "quote_id": ids.quote_id(symbol, ids.QuoteVersion(0, 0, 1)),
        "symbol": symbol,
        "bid_quantity": 10,
        "ask_quantity": 10,
    }
    return ReservationRequest(**(values | changes))


def activation(symbol: str = "AAA", attempt: int = 1, **changes: Any) -> Activate:
    """An exchange's request for the quote of `reservation_request`."""
    quote_id = changes.get("quote_id", ids.quote_id(symbol, ids.QuoteVersion(0, 0, attempt)))
    values = {
        "reservation_id": ids.reservation_id(quote_id),
        "quote_id": quote_id,
        "symbol": symbol,
        "position_version": 0,
        "attempt": attempt,
        "bid_quantity": 10,
        "ask_quantity": 10,
        "activation": "one",
    }
    return Activate(**(values | changes))
