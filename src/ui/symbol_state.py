"""One symbol of the board: the fold of its market log and its positions, and the row made from them. Pure."""

from collections import deque
from datetime import datetime, timedelta
from decimal import Decimal, localcontext

from ui.frames import LastFill, Marked, QuoteState, Row, ShownMoney, ShownQuote
from wire import ids
from wire.instruments import Listing
from wire.market import SymbolMarket
from wire.positions import PositionUpdate
from wire.quotes import QuoteActivated, QuoteWithdrawn
from wire.units import EXACT, ONE, ZERO, shown_money

HISTORY_POINTS = 60
"""Net quantities kept for the sparkline."""

HISTORY_SPACING = timedelta(seconds=0.5)
"""A net quantity that comes sooner than this after the last point replaces it, so the points span at least 30 s."""

PROFIT_POINTS = 30
"""Profits kept for the sparkline."""

PROFIT_SPACING = timedelta(seconds=10)
"""A profit that comes sooner than this after the last point replaces it, so the points span at least 5 minutes."""


class SymbolState:
    """The fold of one symbol. `position` is None until an update is known, `listing` if none is defined."""

    def __init__(self, symbol: str, listing: Listing | None) -> None:
        self.market = SymbolMarket(symbol)
        self.listing = listing
        self.position: PositionUpdate | None = None
        self.history: deque[int] = deque(maxlen=HISTORY_POINTS)
        self._last_point: datetime | None = None
        self.profits: deque[float] = deque(maxlen=PROFIT_POINTS)
        self._last_profit: tuple[Decimal, datetime] | None = None
        self._lagging: tuple[int, datetime] | None = None  # an unapplied fill, and when it was first seen to be
        self._last_row: Row | None = None

    @property
    def version(self) -> int:
        """The position version: the number of the last fill applied to the position."""
        return self.position.position_version if self.position else 0

    def record_net(self, net_quantity: int, now: datetime) -> None:
        """Add a point to the history, or replace its last one."""
        if self._last_point is not None and now - self._last_point < HISTORY_SPACING:
            self.history[-1] = net_quantity
        else:
            self.history.append(net_quantity)
            self._last_point = now

    def record_profit(self, profit: Decimal, now: datetime) -> None:
        """Add a point to the profits, or replace its last one. An unchanged profit is ignored."""
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

    def lagging_since(self, now: datetime) -> datetime | None:
        """The time since which the same recorded fill has been unapplied; None if every fill is applied."""
        if self._lagging and self.version >= self._lagging[0]:
            self._lagging = None
        if self._lagging is None and self.market.fill_number > self.version:
            self._lagging = (self.market.fill_number, now)
        return self._lagging[1] if self._lagging else None

    def row(self) -> Row:
        """Make the symbol's row."""
        position, market, listing = self.position, self.market, self.listing
        fill = position.last_fill if position else None
        self._last_row = Row(
            symbol=market.symbol,
            instrument=listing.instrument.state if listing else None,
            largest=listing.position_limit if listing else None,
            net_quantity=position.net_quantity if position else 0,
            position_version=self.version,
            fills_recorded=market.fill_number,
            updated_at=position.updated_at if position else None,
            last_fill=LastFill(side=fill.side, quantity=fill.quantity, price=fill.price) if fill else None,
            money=self._money(),
            quote_state=self._quote_state(),
            quote=self._shown_quote(),
        )
        return self._last_row

    def profit(self, now: datetime) -> Decimal | None:
        """The profit that the last row shows at `now`; None if it is not known."""
        row = self._last_row
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


def _flat(symbol: str) -> PositionUpdate:
    """A position before any fill."""
    return PositionUpdate(
        symbol=symbol, net_quantity=0, position_version=0, cash=ZERO, realized=ZERO, fees=ZERO, volume=0
    )


def _marked(position: PositionUpdate, mark: Decimal) -> Marked:
    """The profit of a position whose money is known."""
    cash, realized = position.cash or ZERO, position.realized or ZERO
    with localcontext(EXACT):
        total = cash + position.net_quantity * mark * (ONE if position.multiplier is None else position.multiplier)
        return Marked(mark=mark, unrealized=shown_money(total - realized), total=shown_money(total))
