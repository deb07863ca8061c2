"""A limit with its two logs in memory, for tests that speak of decisions and not of brokers."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from exposure.limits import Decision, Limits
from support.builders import NOW, quote_activated, recorded_fill
from wire import ids
from wire.messages import (
    Activate,
    Fill,
    GiveBack,
    QuoteWithdrawn,
    Reservation,
    ReservationAnswer,
    ReservationRequest,
)

LIFETIME = timedelta(seconds=30)
GRACE = timedelta(seconds=2)
A = TypeVar("A")


@dataclass
class Scene:
    """Decides on one fold and folds what was decided, as a single instance with a perfect broker would.

    Quotes are named by symbol and attempt, all of position version 0 unless said otherwise.
    """

    limit: int = 100
    symbols: tuple[str, ...] = ("AAA", "BBB", "CCC")
    limits: Limits = field(init=False)
    head: int = 0

    def __post_init__(self) -> None:
        self.limits = Limits(self.limit, LIFETIME, GRACE, self.symbols)
        self.now = NOW
        self.market_head = 0
        self.ttl: int | None = None

    @property
    def used(self) -> tuple[int, int]:
        """Lots in use: bid, ask."""
        return self.limits.usage.total

    def take(self, decision: Decision[A]) -> A:
        """Fold what the decision writes, and return its answer."""
        self.ttl = None
        if decision.write is not None:
            self.head += 1
            self.ttl = decision.write.ttl
            self.limits.usage.fold_record(self.head, decision.write.record)
        return decision.answer

    def reserve(self, symbol: str = "AAA", bid: int = 10, ask: int = 10, attempt: int = 1) -> ReservationAnswer:
        """Ask to reserve for a symbol's quote."""
        quote_id = ids.quote_id(symbol, 0, attempt)
        request = ReservationRequest(quote_id=quote_id, symbol=symbol, bid_quantity=bid, ask_quantity=ask)
        return self.take(self.limits.reserve(request, self.now))

    def activate(
        self,
        symbol: str = "AAA",
        bid: int = 10,
        ask: int = 10,
        attempt: int = 1,
        version: int = 0,
        by: str = "one",
        quote_id: str | None = None,
    ) -> Reservation:
        """Activate, as an exchange would."""
        request = Activate(
            reservation_id=self.id(symbol, attempt),
            quote_id=quote_id or ids.quote_id(symbol, 0, attempt),
            symbol=symbol,
            position_version=version,
            attempt=attempt,
            bid_quantity=bid,
            ask_quantity=ask,
            activation=by,
        )
        return self.take(self.limits.activate(request, self.now))

    def give_back(self, symbol: str = "AAA", attempt: int = 1, by: str = "one") -> Reservation:
        """Give an activation back."""
        request = GiveBack(reservation_id=self.id(symbol, attempt), activation=by)
        return self.take(self.limits.give_back(request))

    def release(self, symbol: str = "AAA", attempt: int = 1) -> Reservation:
        """Release."""
        return self.take(self.limits.release(self.id(symbol, attempt)))

    def apply_fill(self, fill: Fill, symbol: str = "AAA", attempt: int = 1) -> Reservation:
        """Apply a fill by request."""
        return self.take(self.limits.apply_fill(self.id(symbol, attempt), fill, self.now))

    def tidy(self) -> list[str]:
        """Tidy everything; returns what was written."""
        untidy = self.limits.untidy(self.now)
        for reservation_id in untidy:
            self.take(self.limits.tidy(reservation_id, self.now))
        return untidy

    def quoted(self, symbol: str = "AAA", bid: int = 10, ask: int = 10, attempt: int = 1) -> None:
        """The market log tells of a quote gone active."""
        event = quote_activated(symbol, attempt=attempt, bid_quantity=bid, ask_quantity=ask, activated_at=self.now)
        self.limits.usage.fold_quote(symbol, self._next(), event)

    def withdrawn(self, symbol: str = "AAA", attempt: int = 1) -> None:
        """The market log tells of a quote withdrawn."""
        event = QuoteWithdrawn(
            symbol=symbol,
            quote_id=ids.quote_id(symbol, 0, attempt),
            reservation_id=self.id(symbol, attempt),
            position_version=0,
            attempt=attempt,
            withdrawn_at=self.now,
        )
        self.limits.usage.fold_quote(symbol, self._next(), event)

    def filled(self, symbol: str = "AAA", number: int = 1, *, bid: int, ask: int, fill_id: str | None = None) -> Fill:
        """The market log tells of a fill that leaves `bid` and `ask`."""
        recorded = recorded_fill(
            symbol,
            number,
            fill_id=fill_id or ids.fill_id(symbol, number),
            remaining_bid_quantity=bid,
            remaining_ask_quantity=ask,
        )
        self.limits.usage.fold_fills(symbol, self._next(), [recorded])
        return recorded.fill

    def gone(self, symbol: str = "AAA", attempt: int = 1, *, aged: bool = True) -> Reservation | None:
        """The bucket's key is gone."""
        self.head += 1
        return self.limits.usage.fold_marker(self.head, self.id(symbol, attempt), aged=aged)

    def state(self, symbol: str = "AAA", attempt: int = 1) -> Reservation:
        """The reservation as it is now."""
        return self.limits.usage.reservation(self.id(symbol, attempt))

    @staticmethod
    def id(symbol: str, attempt: int) -> str:
        """The reservation's id."""
        return ids.reservation_id(ids.quote_id(symbol, 0, attempt))

    def _next(self) -> int:
        self.market_head += 1
        return self.market_head
