"""Reservations of exposure, and the usage of the limit."""

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
    """Request to reserve exposure for one quote, on at least one side."""

    quote_id: Id
    symbol: Symbol
    bid_quantity: LotsOrZero
    ask_quantity: LotsOrZero

    def __post_init__(self) -> None:
        if not self.bid_quantity and not self.ask_quantity:
            raise FieldError("bid_quantity", "and `ask_quantity` must not both be zero")


class Reservation(Message, frozen=True, kw_only=True):
    """Exposure reserved for one quote. It counts from `granted_at`; `activated_at` is null before the activation."""

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
    """A reservation as the bucket stores it: what is still reserved, and what is needed to give the first answer again.

    Attributes:
        outcome: the first answer, `granted` or `reduced`.
        reason: the limit that reduced it.
        asked_bid_quantity: the requested quantity of the bid.
        asked_ask_quantity: the requested quantity of the ask.
        granted_bid_quantity: the granted quantity of the bid; `reserved_bid_quantity` is what is left of it.
        granted_ask_quantity: the same for the ask.
        position_version: the position version of the quote for which it was activated.
        revision: the revision of that quote.
        attempt: the attempt of that quote.
        activation: the token of its only activation; the exchange that has it may deactivate the reservation. Null once
            a second exchange has activated it too.
        applied_fills: the ids of fills that were applied by request, so that each counts once.
        asker: a digest of the client that requested it, whose next request for the symbol supersedes it; null in
            records from before the field existed.
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
        """The version of the quote for which it was activated; None before its activation."""
        if self.position_version is None or self.attempt is None:
            return None
        return QuoteVersion(self.position_version, self.revision, self.attempt)

    @property
    def reservation(self) -> Reservation:
        """The reservation as clients see it."""
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
    """The outcome of a request for a reservation. `reason` names the limit that reduced or rejected it."""

    outcome: ReservationOutcome
    reservation: Reservation | None = None
    reason: BindingLimit | None = None


class Activate(Message, Versioned, frozen=True, kw_only=True):
    """Request of an exchange to exposure: activate the reservation of a quote that the exchange is about to activate.

    `activation` is a token that the exchange makes up for this request; see `Deactivate`.
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
    """Request of an exchange to exposure: end a reservation whose quote will not become active after all.

    It is granted only if `activation` is the reservation's only activation. Once another exchange has activated it for
    the same quote, neither can know if the other's quote event is still to be appended.
    """

    reservation_id: Id
    activation: Id


class ReleaseReservation(Message, frozen=True, kw_only=True):
    """Request to exposure: release a reservation that no exchange has activated."""

    reservation_id: Id


class SideUsage(Message, frozen=True, kw_only=True):
    """How many lots of one side's limit are used and free."""

    used: LotsOrZero
    free: LotsOrZero


class LimitUsage(Message, frozen=True, kw_only=True):
    """The global limit per side, its usage by all symbols, and the number of live reservations."""

    limit: Lots
    bid: SideUsage
    ask: SideUsage
    live: Annotated[int, Meta(ge=0)]


class Exposure(Message, frozen=True, kw_only=True):
    """The global limit per side, its usage by all symbols, and one page of the live reservations."""

    limit: Lots
    bid: SideUsage
    ask: SideUsage
    reservations: list[Reservation]


class UsageRequest(Message, frozen=True, kw_only=True):
    """Request to exposure: return the current `LimitUsage`."""
