"""Decides what to do now for one symbol: from a view of the world and this process's own memory, one step. Pure.

The theory. A symbol needs nothing while its latest quote is live, was made from the newest position and revision, and
is not yet due for a refresh. Otherwise one proposal is due, the same for every maker: it has the newest position's
version and the instrument's revision, which are its *basis*, and the attempt after the last one known to have been
made.

| latest quote event is made from | live                              | not live                    |
| ------------------------------- | --------------------------------- | --------------------------- |
| the newest of both              | attempt + 1 when a refresh is due | attempt + 1                 |
| an older of either, or none     | attempt 1 replaces it             | attempt 1                   |
| a newer of either               | wait for the position or revision | wait likewise               |

While nothing may be quoted, active quotes are withdrawn by their ids, and this is retried until it is confirmed:
- The kill switch is on: once for each pause, the live quote, whoever made it; and at any time the makers' quotes.
- This process stops: its own quotes.
- The newest position has no price: a quote that was made from an older one, or by a maker.
- The instrument is paused, delisted, or paused for its loss: the live quote, whoever made it.
- The reference price of a maker's quote is too old, or the newest one is: that quote.
While it is not known what may be quoted, active quotes are left until they expire (see docs/protocol.md).

A due proposal is delayed in three cases:
- A maker that was rejected, or failed, backs off. A newer position or revision ends this.
- A maker that is not the first for the symbol stands by: it leaves time for the others. The time starts when something
  is due, and starts again with each quote event.
- There are fills beyond the newest position update: a quote would be for an old version. This wait is bounded, so that
  the market is quoted although the ledger is away: then from the newest known position.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from wire import ids
from wire.ids import NEVER, QuoteVersion
from wire.instruments import InstrumentState, Listing
from wire.market import SymbolMarket
from wire.orders import RecordedFill
from wire.positions import Position
from wire.quotes import ATTEMPTS_AHEAD, Quote
from wire.switches import LossPaused

REFRESH_AT = 2 / 3
"""The fraction of a quote's lifetime after which the next attempt replaces it."""

LEDGER_TIMEOUT = timedelta(seconds=1)
"""How long a maker waits, after a fill, for the position update."""

MAX_REVISIONS = 100
"""Revisions for which a view remembers until when their reference prices are fresh."""

FIRST_DELAY = 0.1
"""Seconds to back off after the first failure; each further failure doubles them."""

MAX_DELAY = 5.0
"""The longest time in seconds that a maker backs off."""

WaitState = Literal[
    "waiting_for_feeds",
    "waiting_for_position",
    "waiting_for_instrument",
    "quoting",
    "backing_off",
    "standing_by",
    "no_price",
    "no_reference",
    "paused",
    "symbol_paused",
    "loss_paused",
    "closed",
    "delisted",
    "stopped",
]
Trigger = Literal["first", "position", "revision", "refresh", "expired", "exhausted", "withdrawn"]

Basis = tuple[int, int]
"""What a quote is made from: the position version and the instrument's revision."""

_UNQUOTED: Mapping[InstrumentState, WaitState] = {"paused": "symbol_paused", "delisted": "delisted"}
"""States of an instrument in which nothing may be quoted."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing before `until`, or, if it is None, before something changes."""

    state: WaitState
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Propose:
    """Quote this position and revision, as this attempt. `trigger` is why it is due, `replaces` the latest quote's
    id."""

    position: Position
    attempt: int
    trigger: Trigger
    replaces: str | None
    revision: int = 0

    @property
    def version(self) -> QuoteVersion:
        """The version by which the exchange orders quotes."""
        return QuoteVersion(self.position.position_version, self.revision, self.attempt)

    @property
    def quote_id(self) -> str:
        """The id of the proposed quote."""
        return ids.quote_id(self.position.symbol, self.version)


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Have the exchange withdraw this quote, or confirm that it is not active. Another quote may be active instead."""

    quote_id: str


Step = Wait | Propose | Withdraw


@dataclass(slots=True)
class View:
    """What the maker knows of a symbol from outside.

    Attributes:
        market: the fold of its market log.
        position: the newest position update; None before the first.
        revision: the revision of its instrument.
        state: the state of its instrument.
        fresh_until: until when the reference prices of the latest revisions are fresh enough to be quoted; a revision
            that is missing has no such limit.
        current: True if all feeds and the switch are current, and the broker's time is known.
        market_current: True if the market log is current.
        paused: True if the kill switch forbids quoting.
        episode: counts pauses; for each, earlier quotes are withdrawn once, whoever made them.
        loss_pause: why the symbol is paused for a loss; None if it is not.
        stopping: True if this process stops.
        priced: True if at least one side of the newest position has a price.
        filled_at: when this process received the newest fill; None before the first.
    """

    market: SymbolMarket
    position: Position | None = None
    revision: int = 0
    state: InstrumentState = "trading"
    fresh_until: dict[int, datetime] = field(default_factory=dict)
    current: bool = False
    market_current: bool = False
    paused: bool = False
    episode: int = 0
    loss_pause: LossPaused | None = None
    stopping: bool = False
    priced: bool = True
    filled_at: datetime | None = None

    def update_position(self, position: Position) -> bool:
        """Set the newest position. A position that is not newer is ignored, and the result is False."""
        if self.position is not None and position.position_version <= self.position.position_version:
            return False
        self.position = position
        return True

    def relist(self, listing: Listing) -> None:
        """Update the instrument's revision, state and freshness from a new listing."""
        self.revision, self.state = listing.revision, listing.instrument.state
        until = listing.fresh_until
        if until is None:
            self.fresh_until.pop(listing.revision, None)
            return
        if len(self.fresh_until) >= MAX_REVISIONS and listing.revision not in self.fresh_until:
            quoted = self.market.version.revision
            self.fresh_until = {of: when for of, when in self.fresh_until.items() if of >= quoted}
            if len(self.fresh_until) >= MAX_REVISIONS:  # keep only the quoted revision, and add the newest
                self.fresh_until = {of: when for of, when in self.fresh_until.items() if of == quoted}
        self.fresh_until[listing.revision] = until


class Due(NamedTuple):
    """Since when something is due. `event`: the version of the latest quote event then."""

    event: QuoteVersion
    since: datetime


@dataclass(slots=True)
class Memory:
    """What this process has learned from its own requests. Losing it costs a few refused requests.

    Attributes:
        published: this process's newest quote, as the exchange replied; it may be ahead of the market feed.
        sent: ids of the quotes sent to the exchange that are not known to be refused, replaced or withdrawn.
        withdrawn_id: the id of the last quote that the exchange has withdrawn for this process.
        swept: the last pause (`View.episode`) for which it is known that no earlier quote is active.
        dead: the newest version that can never become active.
        failures: the number of failures in a row at `failed_basis`.
        failed_basis: the position version and revision that failed.
        not_before: when to try that basis again.
        due: used by `decide`.
    """

    published: Quote | None = None
    sent: set[str] = field(default_factory=set)
    withdrawn_id: str | None = None
    swept: int = 0
    dead: QuoteVersion = NEVER
    failures: int = 0
    failed_basis: Basis = (-1, 0)
    not_before: datetime | None = None
    due: Due | None = None

    def succeeded(self, quote: Quote) -> None:
        """Record that the exchange has made a quote of this process active."""
        self.published = quote
        self.sent = {quote.quote_id}
        self.reset_backoff()

    def withdrawn(self, quote_id: str) -> None:
        """Record that the exchange has withdrawn a quote."""
        self.withdrawn_id = quote_id
        self.sent.discard(quote_id)

    def abandoned(self, version: QuoteVersion) -> None:
        """Record that an attempt can never become active, so that it is not tried again."""
        self.dead = max(self.dead, version)

    def failed(self, basis: Basis, now: datetime, jitter: float) -> datetime:
        """Back off, because an attempt at this basis failed. Return until when. `jitter` is from 0 to 1."""
        self.failures = self.failures + 1 if basis == self.failed_basis else 1
        self.failed_basis = basis
        self.not_before = now + timedelta(seconds=delay(self.failures, jitter))
        return self.not_before

    def reset_backoff(self) -> None:
        """End the backing off."""
        self.failures = 0
        self.failed_basis = (-1, 0)
        self.not_before = None


def basis(version: QuoteVersion) -> Basis:
    """Return what the quote of this version is made from."""
    return version.position_version, version.revision


def delay(failures: int, jitter: float) -> float:
    """Return the seconds to wait after some failures in a row: they double up to `MAX_DELAY`, and are reduced by up to
    half as `jitter` goes from 1 to 0."""
    doubled = FIRST_DELAY * 2.0 ** min(failures - 1, 16)
    return min(MAX_DELAY, doubled) * (0.5 + jitter / 2)


def decide(view: View, memory: Memory, now: datetime, standby: timedelta) -> Step:
    """Return the step to take now. `standby` is how long this maker waits for other makers first.

    Changes nothing but `memory.due`.
    """
    step = _decide(view, memory, now, standby)
    stale_at = quote_stale_at(view, memory, now)
    if isinstance(step, Wait) and stale_at is not None and (step.until is None or stale_at < step.until):
        return Wait(step.state, stale_at)
    return step


def _decide(view: View, memory: Memory, now: datetime, standby: timedelta) -> Step:
    step = due(view, memory, now)
    if not isinstance(step, Propose):
        memory.due = None
        return step
    if memory.due is None or memory.due.event != view.market.version:
        memory.due = Due(view.market.version, now)
    backing_off = memory.not_before if memory.failed_basis == basis(step.version) else None
    if backing_off is not None and now < backing_off:
        return Wait("backing_off", backing_off)
    standing_by = memory.due.since + standby
    if now < standing_by:
        return Wait("standing_by", standing_by)
    return step


def due(view: View, memory: Memory, now: datetime) -> Step:
    """Return the step that is due for the symbol now, ignoring backing off and standing by."""
    version, quote_id, quote = _latest(view, memory)
    live = quote is not None and _live(quote, now)
    if view.stopping:
        return Withdraw(min(memory.sent)) if memory.sent else Wait("stopped")
    if view.paused:
        if memory.swept < view.episode:
            return Withdraw(
                quote_id or ids.quote_id(view.market.symbol, QuoteVersion(0, 0, 1))
            )  # never quoted: any id will do
        if quote is not None and live and (quote.quote_id in memory.sent or _made_by_maker(quote)):
            return Withdraw(quote.quote_id)
        return Wait("paused")
    if view.loss_pause is not None:
        return Withdraw(quote.quote_id) if quote is not None and live else Wait("loss_paused")
    if not view.current:
        return Wait("waiting_for_feeds")
    if view.state in _UNQUOTED:
        return Withdraw(quote.quote_id) if quote is not None and live else Wait(_UNQUOTED[view.state])
    if version.revision <= view.revision:
        is_stale = stale(view, view.revision, now)
        if quote is not None and live and _made_by_maker(quote) and (is_stale or stale(view, quote.revision, now)):
            return Withdraw(quote.quote_id)
        if is_stale:
            return Wait("no_reference")
    position = known_position(view)
    if position is None or version.position_version > position.position_version:
        return Wait("waiting_for_position")
    if version.revision > view.revision:
        return Wait("waiting_for_instrument")
    made_from = (position.position_version, view.revision)
    same = basis(version) == made_from
    if not view.priced:
        if quote is not None and live and (not same or _made_by_maker(quote)):
            return Withdraw(quote.quote_id)
        is_closed = view.state == "close_only" and not position.net_quantity
        return Wait("closed" if is_closed else "no_price")
    if quote is not None and live and same and now < refresh_at(quote):
        return Wait("quoting", refresh_at(quote))
    if view.market.fill_number > position.position_version and view.filled_at is not None:
        timeout_at = view.filled_at + LEDGER_TIMEOUT
        if now < timeout_at:
            return Wait("waiting_for_position", timeout_at)
    trigger = _trigger(view, quote, live, now) if same else _newer_basis(version, position)
    quoted = version.attempt if same else 0
    tried = max((of.attempt for of in (version, memory.dead) if basis(of) == made_from), default=0)
    # Other makers do not know of attempts that never became active: after very many of them, begin again at the first.
    attempt = tried + 1 if tried < quoted + ATTEMPTS_AHEAD else quoted + 1
    return Propose(position, attempt, trigger, quote_id, view.revision)


def obsolete_reason(view: View, step: Propose, now: datetime) -> str | None:
    """Return why an attempt that is under way should be given up; None if it should go on."""
    if view.stopping:
        return "stopping"
    if view.paused:
        return "paused"
    if view.loss_pause is not None:
        return "paused for its loss"
    if view.position is not None and view.position.position_version > step.position.position_version:
        return "there is a newer position"
    if view.revision > step.revision or view.state in _UNQUOTED:
        return "the instrument was changed"
    if stale(view, view.revision, now):
        return "the reference price is too old"
    if view.market.version >= step.version:
        return "its quote, or a newer one, is in the market log"
    return None


def stale(view: View, revision: int, now: datetime) -> bool:
    """True if the reference price of a revision is too old to be quoted."""
    until = view.fresh_until.get(revision)
    return until is not None and now >= until


def quote_stale_at(view: View, memory: Memory, now: datetime) -> datetime | None:
    """Return when the reference price of the live quote becomes too old; None if it is already, or never does."""
    quote = live_quote(view, memory, now)
    until = view.fresh_until.get(quote.revision) if quote is not None else None
    return until if until is not None and until > now else None


def known_position(view: View) -> Position | None:
    """Return the newest position: flat at version 0 if the symbol never traded, None if it is not known yet."""
    if view.position is not None:
        return view.position
    if view.market.fill_number:
        return None
    return _flat(view)


def predicted_position(view: View, fills: Sequence[RecordedFill]) -> Position | None:
    """Return the position after these fills, before the ledger commits it; None unless it is the next to be quoted."""
    position = view.position or _flat(view)
    if (
        not view.current
        or view.paused
        or view.loss_pause
        or view.stopping
        or fills[0].number != position.position_version + 1
    ):
        return None
    bought = sum(fill.quantity if fill.side == "buy" else -fill.quantity for fill in fills)
    return Position(
        symbol=position.symbol,
        net_quantity=position.net_quantity - bought,
        position_version=fills[-1].number,
        last_fill_id=fills[-1].fill_id,
        updated_at=fills[-1].created_at,
    )


def live_quote(view: View, memory: Memory, now: datetime) -> Quote | None:
    """Return the symbol's quote if orders can execute against it at `now`; else None."""
    quote = _latest(view, memory).quote
    return quote if quote is not None and _live(quote, now) else None


def refresh_at(quote: Quote) -> datetime:
    """Return when a quote is due for a refresh."""
    return quote.activated_at + REFRESH_AT * (quote.expires_at - quote.activated_at)


class _Latest(NamedTuple):
    """The latest quote event: its version, its quote id, and the quote itself unless it was withdrawn."""

    version: QuoteVersion
    quote_id: str | None
    quote: Quote | None


def _flat(view: View) -> Position:
    return Position(symbol=view.market.symbol, net_quantity=0, position_version=0)


def _latest(view: View, memory: Memory) -> _Latest:
    own = memory.published
    if own is not None and own.version > view.market.version:
        return _Latest(own.version, own.quote_id, _unless_ended(own, memory))
    event = view.market.event
    return _Latest(view.market.version, event.quote_id if event else None, _unless_ended(view.market.quote(), memory))


def _unless_ended(quote: Quote | None, memory: Memory) -> Quote | None:
    return quote if quote is not None and quote.quote_id != memory.withdrawn_id else None


def _made_by_maker(quote: Quote) -> bool:
    """True if its id is the one that makers derive. Somebody who quotes by hand uses other ids."""
    return quote.quote_id == ids.quote_id(quote.symbol, quote.version)


def _live(quote: Quote, now: datetime) -> bool:
    return now < quote.expires_at and bool(quote.remaining_bid_quantity or quote.remaining_ask_quantity)


def _newer_basis(version: QuoteVersion, position: Position) -> Trigger:
    """Return which part of the basis is newer than the latest quote's."""
    if version == NEVER:
        return "first"
    return "position" if version.position_version < position.position_version else "revision"


def _trigger(view: View, quote: Quote | None, live: bool, now: datetime) -> Trigger:
    if quote is None:
        return "expired" if view.market.status_at(now) == "expired" else "withdrawn"
    if live:
        return "refresh"
    return "expired" if now >= quote.expires_at else "exhausted"
