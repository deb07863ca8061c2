"""The global limit: decides what may be reserved, activated, deactivated and released. Pure.

A stale view cannot break the limit:
- Records are appended only if the last sequence of the log is where the fold ends. So a grant takes into account every
  grant, activation and release before it; a decision on a stale view of the log loses the compare.
- The lots that a record holds only shrink as the market log advances (see `reservation_state`). So a stale view of the
  market only counts too many.
- A record counts for longer than its quote can be active: it expires only after the quote.

No client can hoard the limit:
- A reservation that no exchange has activated expires after a moment. Activation gives it the lifetime of a quote.
- Each symbol has a share: the limit, divided by the number of symbols. If too little is free for a request within its
  symbol's share, unactivated reservations by which other symbols exceed their shares are revoked. This is always safe,
  because the activation of a revoked reservation would be decided on the same log.
- A new request for a symbol supersedes the same asker's unactivated reservations for earlier quotes of it.

A decision is a pure function of fold, request and time. It consists of an answer and the records to write before it, if
any. Deciding changes no state: folding the written records does. An answer without a write may be stale. Several
requests are decided in turn on a draft of the fold, and their records are written together.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from msgspec.structs import replace

from exposure.reservation_state import Lots, held_lots, is_quoted
from exposure.usage import Draft, Usage, is_unactivated, largest
from wire import ids
from wire.definitions import fair_share
from wire.errors import Refusal, Refused
from wire.orders import Fill
from wire.reservations import (
    Activate,
    BindingLimit,
    Deactivate,
    Exposure,
    LimitUsage,
    Reservation,
    ReservationAnswer,
    ReservationRecord,
    ReservationRequest,
    SideUsage,
)

MAX_ID = 100
"""Characters that an id may have. A reservation's id is longer than its quote's."""

GRANT_TTL = timedelta(seconds=1)
"""The default lifetime of a reservation that no exchange activates."""

MAX_REVOKED = 100
"""About how many reservations may be revoked for one request: all their records must fit into one message."""

MAX_APPLIED_FILLS = 1000
"""Fills that requests may apply to one reservation: its record must fit into one message."""

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Write:
    """A record to append, and the name of its event for the log line."""

    record: ReservationRecord
    event: str


@dataclass(frozen=True, slots=True)
class Decision(Generic[A]):
    """An answer, to be sent only once all `writes` are in the log.

    Attributes:
        write: the record of the reservation that was requested, if it changes.
        ends: the records of other reservations that this decision ends.
    """

    answer: A
    write: Write | None = None
    ends: tuple[Write, ...] = ()

    @property
    def writes(self) -> tuple[Write, ...]:
        """All records to write, in order: the reservations that end come first."""
        return self.ends if self.write is None else (*self.ends, self.write)


class Limits:
    """Decides requests.

    Attributes:
        usage: the fold on which requests are decided.
    """

    def __init__(
        self,
        limit: int,
        lifetime: timedelta,
        grace: timedelta,
        symbols: Collection[str],
        usage: Usage | None = None,
        *,
        longest: timedelta | None = None,
        grant_ttl: timedelta = GRANT_TTL,
        share: int | None = None,
    ) -> None:
        """Create the limits of a market.

        Args:
            limit: lots on each side.
            lifetime: how long a quote lives, and the reservation that is activated for it.
            grace: how much longer an activated reservation counts.
            symbols: the traded symbols.
            usage: the fold to decide on; by default, an empty one.
            longest: the longest lifetime that any instance may give to a quote; by default, `lifetime`.
            grant_ttl: how long a reservation counts that no exchange activates; at most `lifetime`.
            share: the lots of each symbol's share; by default, all symbols have equal shares.
        """
        self.usage = usage or Usage(longest or lifetime, grace)
        self._limit = limit
        self._lifetime = lifetime
        self._grace = grace
        self._symbols = frozenset(symbols)
        self._share = share or fair_share(limit, max(1, len(self._symbols)))
        self._grant_ttl = grant_ttl

    def relist(self, limit: int, shares: int, symbols: Collection[str], lifetime: timedelta) -> None:
        """Set the limit, the number of shares into which it is divided, the traded symbols, and the lifetime of quotes
        that are activated from now on.

        Existing reservations still count: after the limit is lowered, nothing is granted until enough of them have
        ended.
        """
        self._limit = limit
        self._lifetime = lifetime
        self._symbols = frozenset(symbols)
        self._share = fair_share(limit, shares)

    def on(self, draft: Draft) -> "Limits":
        """Return the same limits, which decide on a draft."""
        return Limits(
            self._limit,
            self._lifetime,
            self._grace,
            self._symbols,
            draft,
            grant_ttl=self._grant_ttl,
            share=self._share,
        )

    def exposure(self) -> Exposure:
        """Return the limit, its usage, and the live reservations in the order in which they were granted."""
        sums = self.sums()
        live = sorted(self.usage.live, key=lambda view: (view.granted_at, view.reservation_id))
        return Exposure(limit=sums.limit, bid=sums.bid, ask=sums.ask, reservations=live)

    def sums(self) -> LimitUsage:
        """Return the limit, its usage, and the number of live reservations."""
        used = self.usage.total
        return LimitUsage(
            limit=self._limit,
            bid=SideUsage(used=used.bid, free=max(0, self._limit - used.bid)),
            ask=SideUsage(used=used.ask, free=max(0, self._limit - used.ask)),
            live=self.usage.count,
        )

    def reserve(
        self, request: ReservationRequest, now: datetime, asker: str | None = None
    ) -> Decision[ReservationAnswer]:
        """Reserve exposure for one quote.

        Each side gets the requested quantity, or what other symbols leave free if that is less. If both sides get
        nothing, the request is rejected, and nothing is recorded. A request with the same `quote_id` returns the first
        answer, until the reservation expires. A grant supersedes the same asker's unactivated reservations for the
        symbol.

        Raises:
            Refused: UNKNOWN_SYMBOL; QUOTE_ID_REUSED: the quote id was used with another symbol or quantities;
                INVALID_FIELD: the quote id is too long; SUPERSEDED: the asker has a reservation for a newer quote.
        """
        if request.symbol not in self._symbols:
            raise Refused(Refusal.UNKNOWN_SYMBOL, request.symbol, field="symbol")
        reservation_id = ids.reservation_id(request.quote_id)
        if len(reservation_id) > MAX_ID:
            longest = MAX_ID - len(ids.reservation_id(""))
            raise Refused(Refusal.INVALID_FIELD, f"is longer than {longest} characters", field="quote_id")
        known = self.usage.record(reservation_id)
        if known is not None and not (known.activated_at is None and now >= known.expires_at):
            return Decision(self._first_answer(known, request))
        superseded = self._superseded(request, asker)
        revoked, others = self._revoked(request)
        bid = min(request.bid_quantity, max(0, self._limit - others.bid))
        ask = min(request.ask_quantity, max(0, self._limit - others.ask))
        reason = _binding(bid=bid < request.bid_quantity, ask=ask < request.ask_quantity)
        if not bid and not ask:
            return Decision(ReservationAnswer(outcome="rejected", reason=reason))
        record = ReservationRecord(
            reservation_id=reservation_id,
            quote_id=request.quote_id,
            symbol=request.symbol,
            reserved_bid_quantity=bid,
            reserved_ask_quantity=ask,
            state="active",
            granted_at=now,
            activated_at=None,
            expires_at=now + min(self._grant_ttl, self._lifetime),
            outcome="reduced" if reason else "granted",
            reason=reason,
            asked_bid_quantity=request.bid_quantity,
            asked_ask_quantity=request.ask_quantity,
            granted_bid_quantity=bid,
            granted_ask_quantity=ask,
            asker=asker,
        )
        answer = ReservationAnswer(outcome=record.outcome, reservation=record.reservation, reason=reason)
        return Decision(answer, Write(record, record.outcome), (*superseded, *revoked))

    def activate(self, request: Activate, now: datetime) -> Decision[Reservation]:
        """Activate a reservation, so that its quote may become active. It then counts until the market log ends it.

        A second activation with another token means that two exchanges are making the quote active. Neither can know
        whether the other's quote event is in flight, so neither may deactivate the reservation any more.

        Raises:
            Refused: RESERVATION_NOT_ACTIVE; MORE_THAN_RESERVED; QUOTE_ID_REUSED: the reservation was activated for
                another version.
        """
        record = self.usage.record(request.reservation_id)
        if record is None or (record.quote_id, record.symbol) != (request.quote_id, request.symbol):
            raise _not_active(f"{request.reservation_id} is no reservation of {request.quote_id} of {request.symbol}")
        state = self.usage.view(record).state
        if state != "active":
            raise _not_active(f"{record.reservation_id} is {state}")
        if now >= record.expires_at:
            raise _not_active(f"{record.reservation_id} expired at {record.expires_at.isoformat()}")

        market = self.usage.market(record.symbol)
        version, before = request.version, record.version
        if before is not None and before != version:
            raise Refused(Refusal.QUOTE_ID_REUSED, f"{record.quote_id} was activated for {before}")
        if is_quoted(record, market):
            return Decision(self.usage.view(record))
        named = market.event is not None and market.event.reservation_id == record.reservation_id
        if version < market.version or (version == market.version and named):
            raise _not_active(f"the latest quote is of {market.version}")
        _check_reserved("bid_quantity", request.bid_quantity, record.reserved_bid_quantity)
        _check_reserved("ask_quantity", request.ask_quantity, record.reserved_ask_quantity)
        activated = replace(
            record,
            activated_at=record.activated_at or now,
            expires_at=now + self._lifetime if record.activated_at is None else record.expires_at,
            position_version=request.position_version,
            revision=request.revision,
            attempt=request.attempt,
            activation=request.activation if before is None or record.activation == request.activation else None,
        )
        write = Write(activated, "activated") if activated != record else None
        return Decision(activated.reservation, write)

    def deactivate(self, request: Deactivate) -> Decision[Reservation]:
        """Undo an activation if it is the only one and its quote is not the latest; otherwise change nothing.

        Raises:
            Refused: NOT_FOUND.
        """
        view = self.usage.reservation(request.reservation_id)
        record = self.usage.record(request.reservation_id)
        if record is None or view.state != "active" or record.activation != request.activation:
            return Decision(view)
        if is_quoted(record, self.usage.market(record.symbol)):
            return Decision(view)
        return self._end(record, "deactivated")

    def release(self, reservation_id: str) -> Decision[Reservation]:
        """Release a reservation that no exchange has activated. One that has ended stays as it is.

        Raises:
            Refused: NOT_FOUND; RESERVATION_ACTIVATED: it is freed only by the end of its quote, or by its expiry.
        """
        view = self.usage.reservation(reservation_id)
        record = self.usage.record(reservation_id)
        if record is None or view.state != "active":
            return Decision(view)
        if record.activated_at is not None:
            raise Refused(Refusal.RESERVATION_ACTIVATED, f"{reservation_id} backs quote {record.quote_id}")
        return self._end(record, "released")

    def apply_fill(self, reservation_id: str, fill: Fill) -> Decision[Reservation]:
        """Apply a fill to a reservation, once.

        Before activation, this shrinks the reservation. After activation it changes nothing, because the market log
        determines the remaining lots, and must contain the fill.

        Raises:
            Refused: NOT_FOUND; FILL_CONTRADICTS; FILL_NOT_RECORDED: the market log does not contain the fill (yet).
        """
        view = self.usage.reservation(reservation_id)
        if (fill.quote_id, fill.symbol) != (view.quote_id, view.symbol):
            facts = f"{reservation_id} is of quote {view.quote_id} of {view.symbol}"
            raise Refused(Refusal.FILL_CONTRADICTS, f"{facts}, the fill of quote {fill.quote_id} of {fill.symbol}")
        record = self.usage.record(reservation_id)
        if record is None or view.state != "active":
            return Decision(view)
        if record.activated_at is not None:
            self._check_recorded(fill)
            return Decision(view)
        if fill.fill_id in record.applied_fills:
            return Decision(view)
        if len(record.applied_fills) >= MAX_APPLIED_FILLS:
            raise Refused(Refusal.FILL_CONTRADICTS, f"{MAX_APPLIED_FILLS} fills were applied to it already")
        bid, ask = record.reserved_bid_quantity, record.reserved_ask_quantity
        bid, ask = (bid, max(0, ask - fill.quantity)) if fill.side == "buy" else (max(0, bid - fill.quantity), ask)
        if not bid and not ask:
            return self._end(record, "filled")
        applied = [*record.applied_fills, fill.fill_id]
        shrunk = replace(record, reserved_bid_quantity=bid, reserved_ask_quantity=ask, applied_fills=applied)
        return Decision(shrunk.reservation, Write(shrunk, "fill applied"))

    def _first_answer(self, known: ReservationRecord, request: ReservationRequest) -> ReservationAnswer:
        first = (known.symbol, known.asked_bid_quantity, known.asked_ask_quantity)
        if first != (request.symbol, request.bid_quantity, request.ask_quantity):
            raise Refused(Refusal.QUOTE_ID_REUSED, f"{known.quote_id} was requested with {first}")
        granted = replace(
            self.usage.view(known),
            reserved_bid_quantity=known.granted_bid_quantity,
            reserved_ask_quantity=known.granted_ask_quantity,
        )
        return ReservationAnswer(outcome=known.outcome, reservation=granted, reason=known.reason)

    def _check_recorded(self, fill: Fill) -> None:
        recorded = self.usage.fill(fill.symbol, fill.fill_id)
        if recorded is not None:
            if recorded.fill != fill:
                raise Refused(Refusal.FILL_CONTRADICTS, f"{fill.fill_id} is recorded with other content")
            return
        number = ids.fill_number(fill.symbol, fill.fill_id)
        if number is None or not 1 <= number <= self.usage.market(fill.symbol).fill_number:
            raise Refused(Refusal.FILL_NOT_RECORDED, f"{fill.fill_id} on quote {fill.quote_id}")

    def _superseded(self, request: ReservationRequest, asker: str | None) -> list[Write]:
        """Return the writes that end the asker's unactivated reservations for earlier quotes of the symbol.

        Raises:
            Refused: SUPERSEDED: the asker has one for a newer quote.
        """
        ends = []
        for record in self.usage.holders(request.symbol):
            if asker is None or record.asker != asker or not is_unactivated(record):
                continue
            if record.quote_id == request.quote_id:
                continue
            if ids.is_older(request.quote_id, record.quote_id, request.symbol):
                raise Refused(Refusal.SUPERSEDED, f"{record.quote_id} is newer than {request.quote_id}")
            ends.append(_ended(record, "superseded"))
        return ends

    def _revoked(self, request: ReservationRequest) -> tuple[list[Write], Lots]:
        """Return the writes that revoke other symbols' unactivated reservations, and the lots the others use then.

        Only symbols that hold more than their share lose reservations, and only as many as this symbol needs for its
        own share.
        """
        usage, symbol = self.usage, request.symbol
        others = usage.used_by_others(symbol)
        bid = self._limit - min(request.bid_quantity, self._share)
        ask = self._limit - min(request.ask_quantity, self._share)
        if others.bid <= bid and others.ask <= ask:
            return [], others
        beyond: dict[str, list[ReservationRecord]] = {}
        for record in usage.unactivated():
            if record.symbol != symbol and max(held_lots(record, usage.market(record.symbol))) > self._share:
                beyond.setdefault(record.symbol, []).append(record)
        ends: list[Write] = []
        for other, records in beyond.items():
            if (others.bid <= bid and others.ask <= ask) or len(ends) >= MAX_REVOKED:
                break
            used, market = usage.used(other), usage.market(other)
            left = largest(held_lots(record, market) for record in usage.holders(other) if record not in records)
            if (others.bid > bid and used.bid > left.bid) or (others.ask > ask and used.ask > left.ask):
                others = Lots(others.bid - used.bid + left.bid, others.ask - used.ask + left.ask)
                ends += [_ended(record, "revoked") for record in records]
        return ends, others

    @staticmethod
    def _end(record: ReservationRecord, event: str) -> Decision[Reservation]:
        ends = _ended(record, event)
        return Decision(ends.record.reservation, ends)


def _ended(record: ReservationRecord, event: str) -> Write:
    return Write(replace(record, state="released", reserved_bid_quantity=0, reserved_ask_quantity=0), event)


def _not_active(detail: str) -> Refused:
    return Refused(Refusal.RESERVATION_NOT_ACTIVE, detail)


def _check_reserved(field: str, requested: int, reserved: int) -> None:
    if requested > reserved:
        raise Refused(Refusal.MORE_THAN_RESERVED, f"{requested} requested, {reserved} reserved", field=field)


def _binding(*, bid: bool, ask: bool) -> BindingLimit | None:
    """Return which limit bound: that of the sides that got less than requested."""
    if bid and ask:
        return "bid_and_ask_limit"
    if bid:
        return "bid_limit"
    return "ask_limit" if ask else None
