"""The content of the page, folded from committed positions, the market log and the exposure service's replies.

Pure: messages and the time come in, rows and frames go out.

Rules:
- A row's position is the last one committed to `POSITIONS`; its version never goes back.
- A row shows a quote as `active` even after its `expires_at`: the reader compares that with the frames' `time`. The
  expiry reaches the log later, or never.
- Profit is given at two marks: the mid of the quote, if both sides are quoted, for use until the quote expires; and the
  instrument's reference price. Money is exact here, and rounded where it is displayed.
- Each source reports whether it is current. Positions are also stale if the ledger leaves a recorded fill unapplied for
  longer than `LAG_TOLERANCE`: the stream would then be complete, and the positions still wrong.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal, localcontext

from ui.frames import Row, ShownFill, Source, SourceName, Status, Usage
from ui.symbol_state import SymbolState
from wire.fill_validation import Fault
from wire.instruments import Listing
from wire.orders import RecordedFill
from wire.positions import PositionUpdate
from wire.quotes import QuoteEvent
from wire.reservations import LimitUsage
from wire.units import EXACT, ZERO

FILLS_KEPT = 10
"""Fills kept per symbol for the list of recent ones."""

LAG_TOLERANCE = timedelta(seconds=2)
"""How long a recorded fill may stay unapplied before positions count as stale."""


class Board:
    """All symbols, both those listed and any others in the logs, and the state of the sources."""

    def __init__(self, listings: Mapping[str, Listing], now: datetime) -> None:
        """`listings`: of each symbol that is configured."""
        self._symbols = {symbol: SymbolState(symbol, listing) for symbol, listing in listings.items()}
        self._changed = dict.fromkeys(self._symbols)
        self._filled: list[RecordedFill] = []
        self._sources: dict[SourceName, Source] = {
            name: Source(current=False, since=now, detail="starting") for name in ("positions", "market", "exposure")
        }
        self._seen: set[SourceName] = set()
        self._lagging: set[str] = set()  # symbols that may have an unapplied fill
        self._usage: Usage | None = None

    # --- messages in ----------------------------------------------------------------------------------------------

    def apply_position(self, update: PositionUpdate, now: datetime) -> None:
        """Fold a committed position. One that is not newer than the last is ignored."""
        held = self._symbol(update.symbol)
        if held.position is None or update.position_version > held.version:
            if held.position is None and self.complete:
                held.history.append(0)  # it was flat until now
            held.record_net(update.net_quantity, now)
            held.position = update
            self._changed[update.symbol] = None

    def apply_quote(self, sequence: int, event: QuoteEvent) -> None:
        """Fold a quote event of the market log."""
        if self._symbol(event.symbol).market.apply_quote(sequence, event):
            self._changed[event.symbol] = None

    def apply_fills(
        self, symbol: str, sequence: int, fills: list[RecordedFill], *, begins: bool = True
    ) -> Fault | None:
        """Fold one fills message of the market log, and return why it is quarantined.

        Returns None if it is valid, or was folded before. `begins` as in `SymbolMarket.fold_fills`.
        """
        market = self._symbol(symbol).market
        if sequence <= market.head:
            return None
        fault = market.fold_fills(sequence, fills, begins=begins)
        if fault is None:
            self._lagging.add(symbol)
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
        """Set the exposure in use, as the exposure service has just replied."""
        self._usage = Usage(limit=exposure.limit, bid=exposure.bid.used, ask=exposure.ask.used)
        self.set_source("exposure", now)

    def lose_usage(self, reason: str, now: datetime) -> None:
        """Mark the exposure in use as unknown, because the exposure service did not reply."""
        self._usage = None
        self.set_source("exposure", now, stale=reason)

    # --- rows and frames out --------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """True once positions and market have both been current. Before, a row may wrongly look flat or unquoted."""
        return {"positions", "market"} <= self._seen

    def take_changed(self) -> list[Row]:
        """Return the rows that changed since the last call; the first call returns all."""
        changed, self._changed = self._changed, {}
        return [self._symbols[symbol].row() for symbol in changed]

    def take_fills(self) -> list[ShownFill]:
        """Return the fills since the last call, each symbol's in order."""
        filled, self._filled = self._filled, []
        return [_shown_fill(fill) for fill in filled]

    def status(self, now: datetime) -> Status:
        """Return the state of the sources at `now`."""
        return Status(
            positions=self._positions(now),
            market=self._sources["market"],
            exposure=self._sources["exposure"],
            usage=self._usage,
        )

    def take_profit(self, now: datetime) -> Decimal | None:
        """Return the sum of the profits that the rows taken so far show at `now`, and record each symbol's.

        Symbols whose profit is not known are left out. Returns None while positions or market are not current.
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
                    held.record_profit(profit, now)
            return total

    def history(self) -> dict[str, list[int]]:
        """Return the recent net quantities of every symbol, oldest first."""
        return {symbol: list(held.history) for symbol, held in self._symbols.items()}

    def profits(self) -> dict[str, list[float]]:
        """Return the recent profits of each symbol whose profit has changed, oldest first."""
        return {symbol: list(held.profits) for symbol, held in self._symbols.items() if len(held.profits) > 1}

    def _positions(self, now: datetime) -> Source:
        held = self._sources["positions"]
        lagging = {s: since for s in self._lagging if (since := self._symbols[s].lagging_since(now)) is not None}
        self._lagging = set(lagging)
        if not held.current or not lagging or now - min(lagging.values()) <= LAG_TOLERANCE:
            return held
        fills = sum(self._symbols[s].market.fill_number - self._symbols[s].version for s in lagging)
        return Source(
            current=False,
            since=min(lagging.values()),
            detail=f"the ledger has yet to apply {fills} recorded fill{'s' if fills > 1 else ''}",
        )

    def relist(self, listings: Mapping[str, Listing]) -> None:
        """Set the listings of these symbols."""
        for symbol, listing in listings.items():
            self._symbol(symbol).listing = listing
            self._changed[symbol] = None

    def _symbol(self, symbol: str) -> SymbolState:
        held = self._symbols.get(symbol)
        if held is None:
            held = self._symbols[symbol] = SymbolState(symbol, None)
            self._changed[symbol] = None
        return held


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
