"""What to do now about one symbol: a view of the world and our own memory in, one step out. Pure.

The theory. A symbol is as it should be while its latest quote is live, was made from the newest position, and is not
yet due for a refresh. Otherwise one proposal is due, and every maker comes to the same one: the newest position's
version, the instrument's revision, and the attempt after the last one known to have been tried. These two are what a
quote is made from.

| latest quote event is made from | live                              | not live                    |
| ------------------------------- | --------------------------------- | --------------------------- |
| the newest of both              | attempt + 1 when a refresh is due | attempt + 1                 |
| an older of either, or none     | attempt 1 replaces it             | attempt 1                   |
| a newer of either               | wait for the feed of it           | wait for the feed of it     |

What stands although nothing is to be quoted is withdrawn, for as long as it takes, by its id:
- The kill switch pauses: once for each pause whatever is live, whoever made it; and at any time what makers made.
- This process stops: what it made itself.
- The newest position has no price: what was made from an older one, or by a maker.
- The instrument is paused, or delisted, or has lost as much as it may: whatever is live, whoever made it.
- The reference price is too old that a maker's quote was made from, or the newest one is: that quote.
Where it is not known what is to be quoted, what stands is left until it expires (see docs/protocol.md).

What holds a due proposal back:
- A maker that was rejected, or failed, backs off. A newer position or revision ends that: the newest wins.
- A spare waits until nobody else has done it. It counts from when something became due and the log then stood still.
- Fills that no position update shows yet: a quote would be for an old version. This patience ends, so that a ledger
  that is away does not silence the market: the newest position known is acted on then.
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
"""The part of a quote's life after which it is replaced by the next attempt."""

LEDGER_PATIENCE = timedelta(seconds=1)
"""How long after a fill the position update it leads to is waited for."""

REVISIONS = 100
"""Revisions of which it is known at once how old their reference prices are."""

FIRST_DELAY = 0.1
"""Seconds to back off after the first failure; doubled with each further one."""

LONGEST_DELAY = 5.0
"""Seconds: the longest a maker backs off."""

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
"""What a quote is made from: the position's version, and the instrument's revision."""

_UNQUOTED: Mapping[InstrumentState, WaitState] = {"paused": "symbol_paused", "delisted": "delisted"}
"""States of an instrument in which nothing is quoted."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`, or, without it, before something changes."""

    state: WaitState
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Propose:
    """Quote this position by this revision of the instrument, as this attempt. `trigger` says what made it due,
    `replaces` the latest quote's id."""

    position: Position
    attempt: int
    trigger: Trigger
    replaces: str | None
    revision: int = 0

    @property
    def version(self) -> QuoteVersion:
        """As the exchange orders quotes."""
        return QuoteVersion(self.position.position_version, self.revision, self.attempt)

    @property
    def quote_id(self) -> str:
        """The id of the quote proposed."""
        return ids.quote_id(self.position.symbol, self.version)


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Have it known that this quote executes no more; it may not be live, and another may be: the exchange knows."""

    quote_id: str


Step = Wait | Propose | Withdraw


@dataclass(slots=True)
class View:
    """What is known of a symbol from outside.

    Attributes:
        market: the fold of its market log.
        position: the newest position update, None before any.
        revision: of the instrument that is quoted.
        state: of that instrument.
        fresh: until when quotes may stand that are made from a revision, for the newest ones; without end, if it is
            not here.
        current: whether all feeds and the switch have caught up and are heard of, and the broker's time is known.
        heard: whether the market log has caught up and is heard of.
        paused: whether the kill switch keeps anything from being quoted.
        episode: which pause it is: for each, what stood before is withdrawn once, whoever made it.
        lost: why nothing is quoted because of what was lost; None if it may be.
        stopping: whether this process stops.
        priced: whether any side of the newest position has a price.
        filled_at: when the newest fill was seen here, None before any.
    """

    market: SymbolMarket
    position: Position | None = None
    revision: int = 0
    state: InstrumentState = "trading"
    fresh: dict[int, datetime] = field(default_factory=dict)
    current: bool = False
    heard: bool = False
    paused: bool = False
    episode: int = 0
    lost: LossPaused | None = None
    stopping: bool = False
    priced: bool = True
    filled_at: datetime | None = None

    def learn(self, position: Position) -> bool:
        """A position was committed. False if one that is as new is known."""
        if self.position is not None and position.position_version <= self.position.position_version:
            return False
        self.position = position
        return True

    def relist(self, listing: Listing) -> None:
        """The instrument is listed so from now on."""
        self.revision, self.state = listing.revision, listing.instrument.state
        until = listing.fresh_until
        if until is None:
            self.fresh.pop(listing.revision, None)
            return
        if len(self.fresh) >= REVISIONS and listing.revision not in self.fresh:
            quoted = self.market.version.revision
            self.fresh = {of: when for of, when in self.fresh.items() if of >= quoted}
            if len(self.fresh) >= REVISIONS:  # all but the one that stands, and the newest
                self.fresh = {of: when for of, when in self.fresh.items() if of == quoted}
        self.fresh[listing.revision] = until


class Due(NamedTuple):
    """Since when something is due, with the latest quote event standing at `event`."""

    event: QuoteVersion
    since: datetime


@dataclass(slots=True)
class Memory:
    """What this process learned by itself. Losing it costs a few refused requests.

    Attributes:
        published: the exchange's newest answer to a quote of ours; it may be ahead of the market feed.
        asked: ids of the quotes sent to the exchange that are not known to be refused, replaced or withdrawn.
        ended: the id of the last quote that the exchange said it has withdrawn for us.
        swept: the last pause for which it is known that nothing is active any more.
        dead: the newest version that can never become active.
        failures: in a row, at `failed_basis`.
        failed_basis: the position version and revision that failed.
        not_before: when to try these again.
        due: kept by `decide`.
    """

    published: Quote | None = None
    asked: set[str] = field(default_factory=set)
    ended: str | None = None
    swept: int = 0
    dead: QuoteVersion = NEVER
    failures: int = 0
    failed_basis: Basis = (-1, 0)
    not_before: datetime | None = None
    due: Due | None = None

    def succeeded(self, quote: Quote) -> None:
        """The exchange says that a quote of ours is active."""
        self.published = quote
        self.asked = {quote.quote_id}
        self.reset_backoff()

    def withdrawn(self, quote_id: str) -> None:
        """That quote is known to execute no more, by the exchange's own word."""
        self.ended = quote_id
        self.asked.discard(quote_id)

    def abandoned(self, version: QuoteVersion) -> None:
        """This attempt can never become active: never try it again."""
        self.dead = max(self.dead, version)

    def failed(self, basis: Basis, now: datetime, jitter: float) -> datetime:
        """An attempt at quoting these failed: back off. Returns until when. `jitter` is from 0 to 1."""
        self.failures = self.failures + 1 if basis == self.failed_basis else 1
        self.failed_basis = basis
        self.not_before = now + timedelta(seconds=delay(self.failures, jitter))
        return self.not_before

    def reset_backoff(self) -> None:
        """Back off no more."""
        self.failures = 0
        self.failed_basis = (-1, 0)
        self.not_before = None


def basis(version: QuoteVersion) -> Basis:
    """What the quote of this version is made from."""
    return version.position_version, version.revision


def delay(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row: doubling up to a bound, of which jitter takes up to half."""
    doubled = FIRST_DELAY * 2.0 ** min(failures - 1, 16)
    return min(LONGEST_DELAY, doubled) * (0.5 + jitter / 2)


def decide(view: View, memory: Memory, now: datetime, standby: timedelta) -> Step:
    """The step to take now. `standby` is how long this maker leaves things to others first.

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
    """What should be done about the symbol now, whoever does it."""
    version, quote_id, quote = _latest(view, memory)
    live = quote is not None and _live(quote, now)
    if view.stopping:
        return Withdraw(min(memory.asked)) if memory.asked else Wait("stopped")
    if view.paused:
        if memory.swept < view.episode:
            return Withdraw(
                quote_id or ids.quote_id(view.market.symbol, QuoteVersion(0, 0, 1))
            )  # never quoted: any name would do
        if quote is not None and live and (quote.quote_id in memory.asked or _is_a_makers(quote)):
            return Withdraw(quote.quote_id)
        return Wait("paused")
    if view.lost is not None:
        return Withdraw(quote.quote_id) if quote is not None and live else Wait("loss_paused")
    if not view.current:
        return Wait("waiting_for_feeds")
    if view.state in _UNQUOTED:
        return Withdraw(quote.quote_id) if quote is not None and live else Wait(_UNQUOTED[view.state])
    if version.revision <= view.revision:
        is_stale = stale(view, view.revision, now)
        if quote is not None and live and _is_a_makers(quote) and (is_stale or stale(view, quote.revision, now)):
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
        if quote is not None and live and (not same or _is_a_makers(quote)):
            return Withdraw(quote.quote_id)
        is_closed = view.state == "close_only" and not position.net_quantity
        return Wait("closed" if is_closed else "no_price")
    if quote is not None and live and same and now < refresh_at(quote):
        return Wait("quoting", refresh_at(quote))
    if view.market.fill_number > position.position_version and view.filled_at is not None:
        patient_until = view.filled_at + LEDGER_PATIENCE
        if now < patient_until:
            return Wait("waiting_for_position", patient_until)
    trigger = _trigger(view, quote, live, now) if same else _moved(version, position)
    quoted = version.attempt if same else 0
    tried = max((of.attempt for of in (version, memory.dead) if basis(of) == made_from), default=0)
    # Attempts that never became active count for nobody else: after very many of them it begins with the first again.
    attempt = tried + 1 if tried < quoted + ATTEMPTS_AHEAD else quoted + 1
    return Propose(position, attempt, trigger, quote_id, view.revision)


def superseded(view: View, step: Propose, now: datetime) -> str | None:
    """Why there is no more point in an attempt that is under way at `now`, None while there is."""
    if view.stopping:
        return "stopping"
    if view.paused:
        return "paused"
    if view.lost is not None:
        return "paused for its loss"
    if view.position is not None and view.position.position_version > step.position.position_version:
        return "the position moved on"
    if view.revision > step.revision or view.state in _UNQUOTED:
        return "the instrument was changed"
    if stale(view, view.revision, now):
        return "the reference price is too old"
    if view.market.version >= step.version:
        return "its quote, or a newer one, is in the market log"
    return None


def stale(view: View, revision: int, now: datetime) -> bool:
    """Whether the reference price of that revision is too old to be quoted around."""
    until = view.fresh.get(revision)
    return until is not None and now >= until


def quote_stale_at(view: View, memory: Memory, now: datetime) -> datetime | None:
    """When the reference price of the live quote becomes too old; None if it is, or never does."""
    quote = live_quote(view, memory, now)
    until = view.fresh.get(quote.revision) if quote is not None else None
    return until if until is not None and until > now else None


def known_position(view: View) -> Position | None:
    """The newest position; flat at version 0 if the symbol never traded. None while it cannot be known."""
    if view.position is not None:
        return view.position
    if view.market.fill_number:
        return None
    return _flat(view)


def predicted_position(view: View, fills: Sequence[RecordedFill]) -> Position | None:
    """The position that these fills lead to once they are committed, if it is the next one to be quoted."""
    position = view.position or _flat(view)
    if (
        not view.current
        or view.paused
        or view.lost
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
    """The symbol's quote, if orders can execute on it at `now`."""
    quote = _latest(view, memory).quote
    return quote if quote is not None and _live(quote, now) else None


def refresh_at(quote: Quote) -> datetime:
    """When the quote is due for a refresh."""
    return quote.activated_at + REFRESH_AT * (quote.expires_at - quote.activated_at)


class _Latest(NamedTuple):
    """The latest quote event: its version, its id, and its quote unless it was withdrawn."""

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
    return quote if quote is not None and quote.quote_id != memory.ended else None


def _is_a_makers(quote: Quote) -> bool:
    """Whether its id is the one that every maker derives; somebody who quotes by hand uses another."""
    return quote.quote_id == ids.quote_id(quote.symbol, quote.version)


def _live(quote: Quote, now: datetime) -> bool:
    return now < quote.expires_at and bool(quote.remaining_bid_quantity or quote.remaining_ask_quantity)


def _moved(version: QuoteVersion, position: Position) -> Trigger:
    """What is newer than what the latest quote was made from."""
    if version == NEVER:
        return "first"
    return "position" if version.position_version < position.position_version else "revision"


def _trigger(view: View, quote: Quote | None, live: bool, now: datetime) -> Trigger:
    if quote is None:
        return "expired" if view.market.status_at(now) == "expired" else "withdrawn"
    if live:
        return "refresh"
    return "expired" if now >= quote.expires_at else "exhausted"
