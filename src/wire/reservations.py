"""Reservations of exposure, and how much of the limit they use."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from wire.fields import Attempt, Id, Lots, LotsOrZero, Message, Revision, Symbol, Time, Version, Versioned
from wire.ids import QuoteVersion
from wire.units import FieldError, check_time

ReservationState = Literal["active", "released", "expired"]
ReservationOutcome = Literal["granted", "reduced", "rejected"]
BindingLimit = Literal["bid_limit", "ask_limit", "bid_and_ask_limit"]


class ReservationRequest(Message, frozen=True, kw_only=True):
    """Ask to hold exposure for one quote. At least one side is asked for."""

    quote_id: Id
    symbol: Symbol
    bid_quantity: LotsOrZero
    ask_quantity: LotsOrZero

    def __post_init__(self) -> None:
        if not self.bid_quantity and not self.ask_quantity:
            raise FieldError("bid_quantity", "and `ask_quantity` must not both be zero")


class Reservation(Message, frozen=True, kw_only=True):
    """Exposure held for one quote. It counts from `granted_at`; `activated_at` is empty until its quote goes active."""

    reservation_id: Id
    quote_id: Id
    symbol: Symbol
    reserved_bid_quantity: LotsOrZero
    reserved_ask_quantity: LotsOrZero
    state: ReservationState
    granted_at: Time
    activated_at: Time | None
    expires_at: Time

    def __post_init__(self) -> None:
        for field in ("granted_at", "activated_at", "expires_at"):
            check_time(field, getattr(self, field))


class ReservationRecord(Reservation, frozen=True, kw_only=True):
    """A reservation as the bucket keeps it: what is still held, and what is needed to answer the same again.

    Attributes:
        outcome: the first answer, `granted` or `reduced`.
        reason: the limit that reduced it.
        asked_bid_quantity: what was asked for.
        asked_ask_quantity: what was asked for.
        granted_bid_quantity: what was granted; `reserved_bid_quantity` is what is left of it.
        granted_ask_quantity: as above, for the ask.
        position_version: of the quote it was activated for.
        revision: of the quote it was activated for.
        attempt: of the quote it was activated for.
        activation: token of the only activation, whose holder may deactivate it; null once a second exchange has
            activated it too.
        applied_fills: ids of fills applied by request, each counted once.
        asker: a digest of who asked for it; their next request for the symbol supersedes it; null in records of before
            it was kept.
    """

    outcome: Literal["granted", "reduced"]
    reason: BindingLimit | None = None
    asked_bid_quantity: LotsOrZero
    asked_ask_quantity: LotsOrZero
    granted_bid_quantity: LotsOrZero
    granted_ask_quantity: LotsOrZero
    position_version: Version | None = None
    revision: Revision = 0
    attempt: Attempt | None = None
    activation: str | None = None
    applied_fills: list[Id] = msgspec.field(default_factory=list)
    asker: str | None = None

    @property
    def version(self) -> QuoteVersion | None:
        """Of the quote it was activated for; None before."""
        if self.position_version is None or self.attempt is None:
            return None
        return QuoteVersion(self.position_version, self.revision, self.attempt)

    @property
    def reservation(self) -> Reservation:
        """The reservation alone, as clients see it."""
        return Reservation(
            reservation_id=self.reservation_id,
            quote_id=self.quote_id,
            symbol=self.symbol,
            reserved_bid_quantity=self.reserved_bid_quantity,
            reserved_ask_quantity=self.reserved_ask_quantity,
            state=self.state,
            granted_at=self.granted_at,
            activated_at=self.activated_at,
            expires_at=self.expires_at,
        )


class ReservationAnswer(Message, frozen=True, kw_only=True):
    """Granted, reduced or rejected. `reason` names the limit that reduced or rejected it."""

    outcome: ReservationOutcome
    reservation: Reservation | None = None
    reason: BindingLimit | None = None


class Activate(Message, Versioned, frozen=True, kw_only=True):
    """Request to exposure, by an exchange: the reservation of this quote, which it is about to make active.

    `activation` is a token of the asking exchange's own making; see `Deactivate`.
    """

    reservation_id: Id
    quote_id: Id
    symbol: Symbol
    position_version: Version
    revision: Revision = 0
    attempt: Attempt
    bid_quantity: LotsOrZero
    ask_quantity: LotsOrZero
    activation: Id


class Deactivate(Message, frozen=True, kw_only=True):
    """Request to exposure, by an exchange: the quote will not become active after all.

    Honoured only while `activation` is the reservation's only one: once another exchange has activated it too, for the
    same quote, neither can know whether the other's quote event is on its way.
    """

    reservation_id: Id
    activation: Id


class ReleaseReservation(Message, frozen=True, kw_only=True):
    """Request to exposure to release a reservation that no exchange has activated."""

    reservation_id: Id


class SideUsage(Message, frozen=True, kw_only=True):
    """Lots of one side's limit in use and free."""

    used: LotsOrZero
    free: LotsOrZero


class LimitUsage(Message, frozen=True, kw_only=True):
    """The global limit per side, its usage over all symbols, and how many reservations are live: sums, however many."""

    limit: Lots
    bid: SideUsage
    ask: SideUsage
    live: Annotated[int, Meta(ge=0)]


class Exposure(Message, frozen=True, kw_only=True):
    """The global limit per side, its usage over all symbols, and a page of the reservations that are live."""

    limit: Lots
    bid: SideUsage
    ask: SideUsage
    reservations: list[Reservation]


class UsageRequest(Message, frozen=True, kw_only=True):
    """Request to exposure for the current `LimitUsage`."""
