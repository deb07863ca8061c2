"""What the page shows, folded from committed positions, the market log and the exposure service's answers.

Pure: messages and the time come in, rows and frames go out.

Rules:
- A row's position is the last one committed to `POSITIONS`; its version never goes back.
- A quote is `active` in a row until its reader's clock, set by the frames' `time`, passes `expires_at`: that it expired
  may be in the log, later, or never.
- Profit is told at two marks: the mid of the quote, where both its sides are quoted, which a reader goes by until the
  quote expires; and the reference price, which its instrument has. Money is exact here, and rounded by who shows it.
- A source says for itself whether it is current. Positions are also stale while the ledger leaves a recorded fill
  unapplied for longer than `BEHIND_AFTER`: nothing would be missing from the stream, and yet it would not be the truth.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Literal

import msgspec

from ui.notices import Notices
from ui.processes import Process
from ui.trend import Point, Series
from ui.unquoted import Unquoted
from wire import ids
from wire.fields import Side
from wire.fill_validation import Fault
from wire.instruments import InstrumentState, Listing
from wire.market import SymbolMarket
from wire.orders import RecordedFill
from wire.positions import PositionUpdate
from wire.quotes import QuoteActivated, QuoteEvent, QuoteWithdrawn
from wire.reservations import LimitUsage
from wire.units import EXACT, ONE, ZERO, shown_money

HISTORY_POINTS = 60
"""Net quantities kept per symbol for its sparkline."""

HISTORY_SPACING = timedelta(seconds=0.5)
"""A net quantity that follows sooner than this replaces the last point, so that busy points span half a minute."""

PROFITS = 30
"""Profits kept per symbol for its sparkline."""

PROFIT_SPACING = timedelta(seconds=10)
"""A profit that follows sooner than this replaces the last one, so that they span five minutes at least."""

FILLS_KEPT = 10
"""Fills kept per symbol for the list of recent ones."""

BEHIND_AFTER = timedelta(seconds=2)
"""How long a recorded fill may stay unapplied before positions count as stale."""

QuoteState = Literal["never", "active", "filled_away", "withdrawn", "expired"]
FrameType = Literal["snapshot", "update", "heartbeat"]
SourceName = Literal["positions", "market", "exposure"]


class LastFill(msgspec.Struct, frozen=True, kw_only=True):
    """The fill that led to a position; `side` is the order's."""

    side: Side
    quantity: int
    price: Decimal


class ShownFill(msgspec.Struct, frozen=True, kw_only=True):
    """A fill of the market log; `number` counts the symbol's fills, `side` is the order's."""

    symbol: str
    number: int
    side: Side
    quantity: int
    price: Decimal
    quote_id: str
    created_at: datetime


class ShownQuote(msgspec.Struct, frozen=True, kw_only=True):
    """A quote with what remains of each side.

    Every maker derives the same id from the position version and the attempt, so no log says which of them made a
    quote. `derived` tells a quote with such an id from one that somebody else made.
    """

    quote_id: str
    position_version: int
    attempt: int
    derived: bool
    bid_price: Decimal
    bid_quantity: int
    bid_remaining: int
    ask_price: Decimal
    ask_quantity: int
    ask_remaining: int
    activated_at: datetime
    expires_at: datetime


class Marked(msgspec.Struct, frozen=True, kw_only=True):
    """Profit at a mark, in money: of what is open, and that with what is realized."""

    mark: Decimal
    unrealized: Decimal
    total: Decimal


class ShownMoney(msgspec.Struct, frozen=True, kw_only=True):
    """A position in money, as `Position` has it, and its profit at each mark there is.

    Attributes:
        at_quote: at the mid of the latest quote, while that lasts; null if it ended, or has one side only.
        at_reference: at the reference price; null for a symbol that is not in the market.
    """

    average_price: Decimal | None
    realized: Decimal
    fees: Decimal
    volume: int
    at_quote: Marked | None
    at_reference: Marked | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol.

    `fills_recorded` is the number of its last fill in the market log; the ledger has yet to apply what it is above
    `position_version`. `money` is null while the position tells none. `instrument` and `largest`, the largest position
    in lots, are as the market has them; null where it has no such symbol, or no limit.
    """

    symbol: str
    instrument: InstrumentState | None
    largest: int | None
    net_quantity: int
    position_version: int
    fills_recorded: int
    updated_at: datetime | None
    last_fill: LastFill | None
    money: ShownMoney | None
    quote_state: QuoteState
    quote: ShownQuote | None


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a source is current, since when it has been so, and why not."""

    current: bool
    since: datetime
    detail: str = ""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Lots in use of the limit on each side."""

    limit: int
    bid: int
    ask: int


class KillSwitch(msgspec.Struct, frozen=True, kw_only=True):
    """How the kill switch of all makers stood last, since when, and by whose wish, as far as is known; and whether that
    is current."""

    current: bool
    paused: bool
    at: datetime | None = None
    by: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The sources, the exposure usage and the kill switch, as far as they are known."""

    positions: Source
    market: Source
    exposure: Source
    usage: Usage | None
    switch: KillSwitch | None = None


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One websocket message.

    Attributes:
        type: `snapshot` replaces everything, `update` replaces the rows it names, `heartbeat` has at most `points`.
        time: the server's clock, which `since` and `expires_at` are told by.
        status: the sources and the exposure usage.
        rows: whole rows, encoded once for all readers.
        fills: recent fills, likewise, in no order; of each symbol at most the last `FILLS_KEPT`.
        history: recent net quantities per symbol, oldest first; in snapshots only.
        profits: recent profits of each symbol whose profit has changed, likewise, rounded to cents; in snapshots only.
        processes: all there are, as far as is known; None if it is as it was in the frame before.
        unquoted: why symbols are not quoted, likewise.
        answered: orders per second by outcome, reject reason or refusal, likewise.
        notices: a run that breaks things on purpose, likewise; never anything but null where there is none.
        trend: profit and exposure over time; in snapshots only.
        points: those that have come to the finer series of `trend` since.
    """

    type: FrameType
    time: datetime
    status: Status
    rows: Sequence[msgspec.Raw] = ()
    fills: Sequence[msgspec.Raw] = ()
    history: dict[str, list[int]] = {}
    profits: dict[str, list[float]] = {}
    processes: list[Process] | None = None
    unquoted: Unquoted | None = None
    answered: dict[str, float] | None = None
    notices: Notices | None = None
    trend: Sequence[Series] = ()
    points: Sequence[Point] = ()


class _Symbol:
    """One symbol's fold."""

    def __init__(self, symbol: str, listing: Listing | None) -> None:
        self.market = SymbolMarket(symbol)
        self.listing = listing
        self.position: PositionUpdate | None = None
        self.history: deque[int] = deque(maxlen=HISTORY_POINTS)
        self._last_point: datetime | None = None
        self.profits: deque[float] = deque(maxlen=PROFITS)
        self._last_profit: tuple[Decimal, datetime] | None = None
        self._awaited: tuple[int, datetime] | None = None
        self._told: Row | None = None

    @property
    def version(self) -> int:
        return self.position.position_version if self.position else 0

    def remember(self, net_quantity: int, now: datetime) -> None:
        """Add a point to the history, or move its last one."""
        if self._last_point is not None and now - self._last_point < HISTORY_SPACING:
            self.history[-1] = net_quantity
        else:
            self.history.append(net_quantity)
            self._last_point = now

    def remember_profit(self, profit: Decimal, now: datetime) -> None:
        """Add a profit to the recent ones, or change the last of them, if it is another than before."""
        last = self._last_profit
        if last is not None and profit == last[0]:
            return
        shown = round(float(profit), 2)
        if last is not None and len(self.profits) > 1 and now - last[1] < PROFIT_SPACING:
            self.profits[-1] = shown
            self._last_profit = (profit, last[1])
        else:
            self.profits.append(shown)
            self._last_profit = (profit, now)

    def behind_since(self, now: datetime) -> datetime | None:
        """Since when at least one recorded fill has been unapplied without a break in between; None if none is."""
        if self._awaited and self.version >= self._awaited[0]:
            self._awaited = None
        if self._awaited is None and self.market.fill_number > self.version:
            self._awaited = (self.market.fill_number, now)
        return self._awaited[1] if self._awaited else None

    def row(self) -> Row:
        position, market, listing = self.position, self.market, self.listing
        fill = position.last_fill if position else None
        self._told = Row(
            symbol=market.symbol,
            instrument=listing.instrument.state if listing else None,
            largest=listing.largest if listing else None,
            net_quantity=position.net_quantity if position else 0,
            position_version=self.version,
            fills_recorded=market.fill_number,
            updated_at=position.updated_at if position else None,
            last_fill=LastFill(side=fill.side, quantity=fill.quantity, price=fill.price) if fill else None,
            money=self._money(),
            quote_state=self._quote_state(),
            quote=self._shown_quote(),
        )
        return self._told

    def profit(self, now: datetime) -> Decimal | None:
        """What the last row told shows as its profit at `now`; None if that is not known."""
        row = self._told
        if row is None or row.money is None:
            return None
        if row.money.at_quote is not None and row.quote is not None and now < row.quote.expires_at:
            return row.money.at_quote.total
        if row.money.at_reference is not None:
            return row.money.at_reference.total
        return None if row.net_quantity else row.money.realized

    def _money(self) -> ShownMoney | None:
        position, event = self.position, self.market.event
        if position is None and not self.market.fill_number:
            position = _flat(self.market.symbol)
        if position is None or position.cash is None or position.realized is None:
            return None
        reference = self.listing.reference_price if self.listing else None
        mid = None
        if isinstance(event, QuoteActivated) and event.bid_quantity and event.ask_quantity:
            mid = EXACT.divide(EXACT.add(event.bid_price, event.ask_price), 2)
        return ShownMoney(
            average_price=position.average_price,
            realized=position.realized,
            fees=position.fees or ZERO,
            volume=position.volume or 0,
            at_quote=None if mid is None else _marked(position, mid),
            at_reference=None if reference is None else _marked(position, reference),
        )

    def _quote_state(self) -> QuoteState:
        event = self.market.event
        if event is None:
            return "never"
        if isinstance(event, QuoteWithdrawn):
            return event.reason
        return "active" if self.market.remaining_bid or self.market.remaining_ask else "filled_away"

    def _shown_quote(self) -> ShownQuote | None:
        quote = self.market.quote()
        if quote is None:
            return None
        return ShownQuote(
            quote_id=quote.quote_id,
            position_version=quote.position_version,
            attempt=quote.attempt,
            derived=quote.quote_id == ids.quote_id(quote.symbol, quote.version),
            bid_price=quote.bid_price,
            bid_quantity=quote.bid_quantity,
            bid_remaining=quote.remaining_bid_quantity,
            ask_price=quote.ask_price,
            ask_quantity=quote.ask_quantity,
            ask_remaining=quote.remaining_ask_quantity,
            activated_at=quote.activated_at,
            expires_at=quote.expires_at,
        )


class Board:
    """All symbols, those that are configured and any that the logs name besides, and the state of the sources."""

    def __init__(self, listings: Mapping[str, Listing], now: datetime) -> None:
        """`listings`: how each symbol is listed that is configured."""
        self._symbols = {symbol: _Symbol(symbol, listing) for symbol, listing in listings.items()}
        self._changed = dict.fromkeys(self._symbols)
        self._filled: list[RecordedFill] = []
        self._sources: dict[SourceName, Source] = {
            name: Source(current=False, since=now, detail="starting") for name in ("positions", "market", "exposure")
        }
        self._seen: set[SourceName] = set()
        self._behind: set[str] = set()
        self._usage: Usage | None = None

    # --- messages in ----------------------------------------------------------------------------------------------

    def apply_position(self, update: PositionUpdate, now: datetime) -> None:
        """Fold a committed position. One that is not newer than the last is left out."""
        held = self._symbol(update.symbol)
        if held.position is None or update.position_version > held.version:
            if held.position is None and self.complete:
                held.history.append(0)  # it was flat until now
            held.remember(update.net_quantity, now)
            held.position = update
            self._changed[update.symbol] = None

    def apply_quote(self, sequence: int, event: QuoteEvent) -> None:
        """Fold a quote event of the market log."""
        if self._symbol(event.symbol).market.apply_quote(sequence, event):
            self._changed[event.symbol] = None

    def apply_fills(
        self, symbol: str, sequence: int, fills: list[RecordedFill], *, begins: bool = True
    ) -> Fault | None:
        """Fold one fills message of the market log. Returns why it is quarantined, None if it counts or was folded.

        `begins` as in `SymbolMarket.fold_fills`.
        """
        market = self._symbol(symbol).market
        if sequence <= market.head:
            return None
        fault = market.fold_fills(sequence, fills, begins=begins)
        if fault is None:
            self._behind.add(symbol)
            self._changed[symbol] = None
            self._filled += fills[-FILLS_KEPT:]
        return fault

    def set_source(self, name: SourceName, now: datetime, *, stale: str = "") -> None:
        """Set whether a source is current; `stale` says why it is not."""
        held = self._sources[name]
        current = not stale
        if current:
            self._seen.add(name)
        if (held.current, held.detail) != (current, stale):
            since = held.since if held.current == current else now
            self._sources[name] = Source(current=current, since=since, detail=stale)

    def set_usage(self, exposure: LimitUsage, now: datetime) -> None:
        """Set the exposure in use, as the exposure service has just told it."""
        self._usage = Usage(limit=exposure.limit, bid=exposure.bid.used, ask=exposure.ask.used)
        self.set_source("exposure", now)

    def lose_usage(self, reason: str, now: datetime) -> None:
        """The exposure service did not answer: what is in use is not known."""
        self._usage = None
        self.set_source("exposure", now, stale=reason)

    # --- rows and frames out --------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether positions and market have both been current once: before, a row could pass for flat or unquoted."""
        return {"positions", "market"} <= self._seen

    def take_changed(self) -> list[Row]:
        """The rows that changed since the last call; all of them at first."""
        changed, self._changed = self._changed, {}
        return [self._symbols[symbol].row() for symbol in changed]

    def take_fills(self) -> list[ShownFill]:
        """The fills since the last call, each symbol's in order."""
        filled, self._filled = self._filled, []
        return [_shown_fill(fill) for fill in filled]

    def status(self, now: datetime) -> Status:
        """How the sources stand at `now`."""
        return Status(
            positions=self._positions(now),
            market=self._sources["market"],
            exposure=self._sources["exposure"],
            usage=self._usage,
        )

    def take_profit(self, now: datetime) -> Decimal | None:
        """Add up what the rows taken so far show as profit at `now`, and keep that of each; None while not current.

        Those whose profit is not known count nothing.
        """
        status = self.status(now)
        if not (self.complete and status.positions.current and status.market.current):
            return None
        with localcontext(EXACT):
            total = ZERO
            for held in self._symbols.values():
                profit = held.profit(now)
                if profit is not None:
                    total += profit
                    held.remember_profit(profit, now)
            return total

    def history(self) -> dict[str, list[int]]:
        """Recent net quantities of every symbol, oldest first."""
        return {symbol: list(held.history) for symbol, held in self._symbols.items()}

    def profits(self) -> dict[str, list[float]]:
        """Recent profits of each symbol that has had several, oldest first."""
        return {symbol: list(held.profits) for symbol, held in self._symbols.items() if len(held.profits) > 1}

    def _positions(self, now: datetime) -> Source:
        held = self._sources["positions"]
        waiting = {s: since for s in self._behind if (since := self._symbols[s].behind_since(now)) is not None}
        self._behind = set(waiting)
        if not held.current or not waiting or now - min(waiting.values()) <= BEHIND_AFTER:
            return held
        fills = sum(self._symbols[s].market.fill_number - self._symbols[s].version for s in waiting)
        return Source(
            current=False,
            since=min(waiting.values()),
            detail=f"the ledger has yet to apply {fills} recorded fill{'s' if fills > 1 else ''}",
        )

    def relist(self, listings: Mapping[str, Listing]) -> None:
        """These symbols are listed so from now on."""
        for symbol, listing in listings.items():
            self._symbol(symbol).listing = listing
            self._changed[symbol] = None

    def _symbol(self, symbol: str) -> _Symbol:
        held = self._symbols.get(symbol)
        if held is None:
            held = self._symbols[symbol] = _Symbol(symbol, None)
            self._changed[symbol] = None
        return held


def _flat(symbol: str) -> PositionUpdate:
    """A position before any fill."""
    return PositionUpdate(
        symbol=symbol, net_quantity=0, position_version=0, cash=ZERO, realized=ZERO, fees=ZERO, volume=0
    )


def _marked(position: PositionUpdate, mark: Decimal) -> Marked:
    """Profit of a position that tells its money."""
    cash, realized = position.cash or ZERO, position.realized or ZERO
    with localcontext(EXACT):
        total = cash + position.net_quantity * mark * (ONE if position.multiplier is None else position.multiplier)
        return Marked(mark=mark, unrealized=shown_money(total - realized), total=shown_money(total))


def _shown_fill(fill: RecordedFill) -> ShownFill:
    return ShownFill(
        symbol=fill.symbol,
        number=fill.number,
        side=fill.side,
        quantity=fill.quantity,
        price=fill.price,
        quote_id=fill.quote_id,
        created_at=fill.created_at,
    )
