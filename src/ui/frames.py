"""The messages of the page's websocket, and the rows in them."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from ui.notices import Notices
from ui.processes import Process
from ui.trend import Point, Series
from ui.unquoted import Unquoted
from wire.fields import Side
from wire.instruments import InstrumentState

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

    `derived` is true if the id is the one that every maker derives from the position version and the attempt, and false
    if somebody else made the quote. Which of the makers made it is not in the market log.
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
    """Profit at a mark: `unrealized` is that of the open position, `total` includes realized profit."""

    mark: Decimal
    unrealized: Decimal
    total: Decimal


class ShownMoney(msgspec.Struct, frozen=True, kw_only=True):
    """The money of a position, as `PositionUpdate` has it, and its profit at each known mark.

    Attributes:
        at_quote: at the mid of the latest quote; None if that was withdrawn or quoted one side only.
        at_reference: at the reference price; None if the symbol has none.
    """

    average_price: Decimal | None
    realized: Decimal
    fees: Decimal
    volume: int
    at_quote: Marked | None
    at_reference: Marked | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol.

    Attributes:
        instrument: its state; None if no instrument is defined for the symbol.
        largest: the largest position allowed, in lots; None if there is no such limit.
        fills_recorded: the number of its last fill in the market log. The ledger has not applied the fills above
            `position_version`.
        money: None while no position update with money is known.
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
    """Whether a source is current, `since` when that has been so, and in `detail` why it is not."""

    current: bool
    since: datetime
    detail: str = ""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Lots in use of the limit on each side."""

    limit: int
    bid: int
    ask: int


class KillSwitch(msgspec.Struct, frozen=True, kw_only=True):
    """The last known state of the kill switch, when and by whom it was set, and whether this is `current`.

    `at` is None if the switch was never used; `by` is empty if the owner of the token is not known.
    """

    current: bool
    paused: bool
    at: datetime | None = None
    by: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The sources, the exposure usage and the kill switch; None for what is not known."""

    positions: Source
    market: Source
    exposure: Source
    usage: Usage | None
    switch: KillSwitch | None = None


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One websocket message.

    Attributes:
        type: `snapshot` replaces everything, `update` replaces the rows it contains, `heartbeat` has at most `points`.
        time: the broker's time as known to the service; `since` and `expires_at` are in this time.
        status: the sources and the exposure usage.
        rows: complete rows, encoded once for all readers.
        fills: recent fills, likewise, unordered; at most the last `FILLS_KEPT` of each symbol.
        history: recent net quantities per symbol, oldest first; in snapshots only.
        profits: recent profits of each symbol whose profit has changed, rounded to cents, oldest first; in snapshots
            only.
        processes: all known processes; None if unchanged since the previous frame.
        unquoted: why symbols are not quoted; None if unchanged.
        answered: orders per second by outcome, reject reason or refusal; None if unchanged.
        notices: a run that breaks the system on purpose; None if unchanged, or if there is none.
        trend: profit and exposure over time; in snapshots only.
        points: new points of the finer series of `trend`.
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
