"""The global limit: decisions on what may be reserved, activated, deactivated and released.

Why stale views cannot break the limit:
- Decisions that write are appended only if the log's last sequence is where the fold ends. So a grant is decided on
  every grant, activation and release before it; a stale view of the log loses the compare.
- What a record holds only shrinks as the market log goes on (see `holding`). So a stale view of the market only counts
  too much.
- A record counts for longer than its quote can be active: its time is over only after the quote's.

Why nobody can hoard it:
- A reservation that no exchange has activated lives for a moment. Activation gives it the life of a quote.
- Each symbol has a share: the limit, divided by the number of symbols. A request within it that finds too little free
  revokes what other symbols hold beyond theirs for no quote yet. That is safe at any time: activating one that was
  revoked is decided on the same log.
- A new request for a symbol supersedes what the same asker held for an earlier quote of it that is not activated.

A decision is a pure function of fold, request and time: an answer, and the record to write first, if any. Deciding
changes nothing; folding the written record does. Answers without a write change nothing and may be stale. Several
decisions are made one after the other on a draft of the fold, and written together.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from msgspec.structs import replace

from exposure.holding import Lots, held, is_quoted
from exposure.usage import Draft, Usage, is_unused, largest
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
"""Characters an id may have; a reservation's is longer than its quote's."""

GRANT_LIFE = timedelta(seconds=1)
"""How long a reservation lives that no exchange activates, unless it is set."""

MAX_REVOKED = 100
"""Reservations that are revoked for one request, about: all of their records must fit into one message."""

MAX_APPLIED_FILLS = 1000
"""Fills that may be applied by request to one reservation: its record must fit into one message."""

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Write:
    """A record to append, and its event, in a word for the log."""

    record: ReservationRecord
    event: str


@dataclass(frozen=True, slots=True)
class Decision(Generic[A]):
    """An answer, to be given once `write` and what ends by it, if any, is in the log."""

    answer: A
    write: Write | None = None
    ends: tuple[Write, ...] = ()

    @property
    def writes(self) -> tuple[Write, ...]:
        """All there is to write. What ends comes first."""
        return self.ends if self.write is None else (*self.ends, self.write)


class Limits:
    """Decides on `usage`.

    Attributes:
        usage: the fold that decisions are made on.
    """

    def __init__(
        self,
        limit: int,
        lifetime: timedelta,
        grace: timedelta,
        symbols: Collection[str],
        usage: Usage | None = None,
        *,
        grant_life: timedelta = GRANT_LIFE,
        share: int | None = None,
    ) -> None:
        """Limits of a market.

        Args:
            limit: lots, on each side.
            lifetime: of a quote, and of the reservation that is activated for it.
            grace: how much longer an activated reservation counts.
            symbols: what is traded.
            usage: the fold to decide on; an empty one if there is none yet.
            grant_life: how long a reservation counts that no exchange activates.
            share: of each symbol; an equal one of all symbols if it is not given.
        """
        self.usage = usage or Usage(lifetime, grace)
        self._limit = limit
        self._lifetime = lifetime
        self._grace = grace
        self._symbols = frozenset(symbols)
        self._share = share or fair_share(limit, max(1, len(self._symbols)))
        self._grant_life = min(grant_life, lifetime)

    def relist(self, limit: int, shares: int, symbols: Collection[str]) -> None:
        """From now on this is the limit, divided into so many shares, and these are traded. What is held already counts
        on: after a lower limit nothing more is granted until enough of it has ended."""
        self._limit = limit
        self._symbols = frozenset(symbols)
        self._share = fair_share(limit, shares)

    def on(self, draft: Draft) -> "Limits":
        """The same limits, which decide on a draft."""
        return Limits(
            self._limit,
            self._lifetime,
            self._grace,
            self._symbols,
            draft,
            grant_life=self._grant_life,
            share=self._share,
        )

    def exposure(self) -> Exposure:
        """The limit, its usage, and the live reservations in the order they were granted."""
        sums = self.sums()
        live = sorted(self.usage.live, key=lambda view: (view.granted_at, view.reservation_id))
        return Exposure(limit=sums.limit, bid=sums.bid, ask=sums.ask, reservations=live)

    def sums(self) -> LimitUsage:
        """The limit and its usage, and how many reservations are live."""
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
        """Hold exposure for one quote.

        Each side gets what was asked, or what other symbols leave free if that is less; nothing on either side is a
        rejection, which leaves no trace. Asking again with the same `quote_id` returns the first answer, until the
        reservation's time is over. What the same asker holds for the symbol is superseded by it, unless an exchange has
        activated that.

        Raises:
            Refused: UNKNOWN_SYMBOL; QUOTE_ID_REUSED: it was granted for something else; INVALID_FIELD: it is too long;
                SUPERSEDED: the asker holds one for a newer quote.
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
            expires_at=now + self._grant_life,
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
        """Let a quote become active. What its reservation holds counts until the market log says otherwise.

        A second activation, under another token, means that two exchanges are at it: then neither can know whether the
        other's quote event is on its way, and none may deactivate the reservation any more.

        Raises:
            Refused: RESERVATION_NOT_ACTIVE; MORE_THAN_RESERVED; QUOTE_ID_REUSED: it was activated for another version.
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
        """Undo an activation, if it is the only one and its quote is not the latest; else change nothing.

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
        """Release a reservation that no exchange has activated; one that ended already stays as it is.

        Raises:
            Refused: NOT_FOUND; RESERVATION_ACTIVATED: only its quote's end, or time, frees it.
        """
        view = self.usage.reservation(reservation_id)
        record = self.usage.record(reservation_id)
        if record is None or view.state != "active":
            return Decision(view)
        if record.activated_at is not None:
            raise Refused(Refusal.RESERVATION_ACTIVATED, f"{reservation_id} backs quote {record.quote_id}")
        return self._end(record, "released")

    def apply_fill(self, reservation_id: str, fill: Fill) -> Decision[Reservation]:
        """Take a fill into account, once.

        Before activation the reservation shrinks by it. After, the market log is the truth, and the fill must be in it.

        Raises:
            Refused: NOT_FOUND; FILL_CONTRADICTS; FILL_NOT_RECORDED: not yet, or never.
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
        """What the asker holds for an earlier quote of the symbol, and does not need any more."""
        ends = []
        for record in self.usage.holding(request.symbol):
            if asker is None or record.asker != asker or not is_unused(record) or record.quote_id == request.quote_id:
                continue
            if ids.is_older(request.quote_id, record.quote_id, request.symbol):
                raise Refused(Refusal.SUPERSEDED, f"{record.quote_id} is newer than {request.quote_id}")
            ends.append(_ended(record, "superseded"))
        return ends

    def _revoked(self, request: ReservationRequest) -> tuple[list[Write], Lots]:
        """What other symbols hold beyond their share for no quote yet, as far as this one needs it for its own share;
        and what the others use then."""
        usage, symbol = self.usage, request.symbol
        others = usage.beside(symbol)
        bid = self._limit - min(request.bid_quantity, self._share)
        ask = self._limit - min(request.ask_quantity, self._share)
        if others.bid <= bid and others.ask <= ask:
            return [], others
        beyond: dict[str, list[ReservationRecord]] = {}
        for record in usage.unused():
            if record.symbol != symbol and max(held(record, usage.market(record.symbol))) > self._share:
                beyond.setdefault(record.symbol, []).append(record)
        ends: list[Write] = []
        for other, records in beyond.items():
            if (others.bid <= bid and others.ask <= ask) or len(ends) >= MAX_REVOKED:
                break
            used, market = usage.used(other), usage.market(other)
            left = largest(held(record, market) for record in usage.holding(other) if record not in records)
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


def _check_reserved(field: str, asked: int, reserved: int) -> None:
    if asked > reserved:
        raise Refused(Refusal.MORE_THAN_RESERVED, f"{asked} asked, {reserved} reserved", field=field)


def _binding(*, bid: bool, ask: bool) -> BindingLimit | None:
    """The limit that bound, by the sides that got less than they asked for."""
    if bid and ask:
        return "bid_and_ask_limit"
    if bid:
        return "bid_limit"
    return "ask_limit" if ask else None
