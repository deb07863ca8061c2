"""Remembers the order ids that have executed recently, or are about to, for all symbols. Pure: times are arguments.

This memory keeps a promise: no order id executes twice within the window. So no id may be forgotten early, even if a
clock is set. An id is forgotten only when the window has passed by both of two measures:

- The log time, from the broker's timestamps of the messages in the id's shard, which are the same for every reader.
  Each shard has its own, because the shards' leaders may be on different machines. Between two messages the log time
  advances by at most `MAX_STEP` and never goes back, so a timestamp far ahead makes no id expire.
- The monotonic clock of this process.

Ids that are read at the start are aged by the log time alone. `needs_more` is true while more of the log must be read:
a gap in the log may be silence or a clock that was set, so what was read must span the window by the log time above.

Ids recorded within a second form one generation and are forgotten together. A fill is stored in the form that its
answer needs: what the fills of one message have in common is stored once, and the rest is packed. An id of 15
characters takes 155 to 175 bytes in messages of 32 fills, and 180 to 215 bytes in messages of 8 (measured). The
2,400,000 ids of 20,000 orders per second over 120 s take 370 to 510 MB. Beyond `MAX_BYTES` (`full`), no further order
may execute until ids can be forgotten.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec

from wire.fields import Side
from wire.orders import RecordedFill

MAX_STEP = 5.0
"""Seconds by which the log time advances from one message to the next, at most."""

GENERATION = 1.0
"""Seconds of fills that form one generation and are forgotten together."""

MAX_BYTES = 768 * 1024 * 1024
"""Bytes of remembered ids, as estimated here, at which orders are refused."""

ID_BYTES = 108
"""Bytes per id besides its characters and its part of `packed`: a string, two references and a dictionary entry."""

BLOCK_BYTES = 400
"""Bytes of the values that the fills of one message have in common."""


class Pending(Enum):
    """The state of an id whose append is in flight: it may execute or not."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING


class _Packed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The values of one fill that differ within a message."""

    fill_id: str
    side: Side
    quantity: int
    price: Decimal
    number: int
    remaining_bid_quantity: int
    remaining_ask_quantity: int
    order_quantity: int
    limit_price: Decimal
    reported: bool


_shared = attrgetter("symbol", "quote_id", "created_at")
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[_Packed]).decode


class _Block(msgspec.Struct, frozen=True, gc=False, eq=False):
    """The fills of one message that belong to one symbol and quote."""

    symbol: str
    quote_id: str
    created_at: datetime
    order_ids: tuple[str, ...]
    packed: bytes

    @property
    def size(self) -> int:
        """The bytes it takes, including its dictionary entries."""
        own = ID_BYTES * len(self.order_ids) + sum(map(len, self.order_ids))
        return BLOCK_BYTES + len(self.packed) + own

    def fill(self, order_id: str) -> RecordedFill:
        """Return the first fill of an order in this block."""
        values = _unpack(self.packed)[self.order_ids.index(order_id)]
        return RecordedFill(
            fill_id=values.fill_id,
            order_id=order_id,
            symbol=self.symbol,
            side=values.side,
            quantity=values.quantity,
            price=values.price,
            quote_id=self.quote_id,
            created_at=self.created_at,
            number=values.number,
            remaining_bid_quantity=values.remaining_bid_quantity,
            remaining_ask_quantity=values.remaining_ask_quantity,
            order_quantity=values.order_quantity,
            limit_price=values.limit_price,
            origin="reported" if values.reported else "exchange",
        )


def _blocks(fills: Iterable[RecordedFill]) -> Iterator[_Block]:
    for (symbol, quote_id, created_at), run in groupby(fills, _shared):
        together = list(run)
        packed = [
            _Packed(
                fill.fill_id,
                fill.side,
                fill.quantity,
                fill.price,
                fill.number,
                fill.remaining_bid_quantity,
                fill.remaining_ask_quantity,
                fill.order_quantity,
                fill.limit_price,
                fill.origin == "reported",
            )
            for fill in together
        ]
        yield _Block(symbol, quote_id, created_at, tuple([fill.order_id for fill in together]), _pack(packed))


class _Generation:
    """The ids remembered within a second. `log_time` and `monotonic` are the two measures when it ended."""

    __slots__ = ("blocks", "log_time", "monotonic")

    def __init__(self, log_time: float, monotonic: float, blocks: list[_Block]) -> None:
        self.log_time = log_time
        self.monotonic = monotonic
        self.blocks = blocks


class _Shard:
    """One shard's memory.

    Attributes:
        log_time: seconds by which the log time has advanced.
        span: the same, including what was read further back.
    """

    __slots__ = ("current", "further_back", "last", "log_time", "past", "replayed", "rotated", "span")

    def __init__(self) -> None:
        self.log_time = 0.0
        self.span = 0.0
        self.last: datetime | None = None
        self.current: list[_Block] = []
        self.rotated = 0.0
        self.past: deque[_Generation] = deque()
        self.further_back = False
        self.replayed = False

    def advance(self, stored_at: datetime) -> None:
        gap = 0.0 if self.last is None else min(max(0.0, (stored_at - self.last).total_seconds()), MAX_STEP)
        self.last = stored_at
        self.span += gap
        if not self.further_back:
            self.log_time += gap

    def rotate(self, monotonic: float) -> None:
        """Begin a new generation."""
        self.rotated = self.log_time
        if self.current:
            self.past.append(_Generation(self.log_time, monotonic, self.current))
            self.current = []


class OrderDedup:
    """Remembers fills by order id for `window` after they were recorded.

    The time of recording counts, not that of the fill's creation: a fill may have waited long for its append.

    Attributes:
        window: how long ids are remembered.
        size: the bytes that the remembered ids take, estimated.
    """

    def __init__(self, window: timedelta, shards: int = 1) -> None:
        self.window = window
        self.size = 0
        self._seconds = window.total_seconds()
        self._known: dict[str, _Block | Pending] = {}
        self._shards = [_Shard() for _ in range(shards)]
        self._ticked = 0.0

    def __len__(self) -> int:
        """Return how many ids are remembered or pending."""
        return len(self._known)

    def __contains__(self, order_id: object) -> bool:
        """Return True if an id is remembered or pending."""
        return order_id in self._known

    @property
    def full(self) -> bool:
        """True if the memory is full: no more orders may execute, as their ids could not be remembered."""
        return self.size >= MAX_BYTES

    def get(self, order_id: str) -> RecordedFill | Pending | None:
        """Return the fill of an id; PENDING while an append that may execute it is in flight; None if it is unknown."""
        known = self._known.get(order_id)
        return known.fill(order_id) if isinstance(known, _Block) else known

    def begin(self, fills: Iterable[RecordedFill]) -> None:
        """Mark the ids of fills that are about to be appended as pending, until `commit` or `abort`."""
        for fill in fills:
            self._known[fill.order_id] = PENDING

    def abort(self, fills: Iterable[RecordedFill]) -> None:
        """Free the ids of fills that were not appended, except those that another exchange has executed meanwhile."""
        for fill in fills:
            if self._known.get(fill.order_id) is PENDING:
                del self._known[fill.order_id]

    def commit(self, shard: int, fills: Iterable[RecordedFill]) -> None:
        """Remember fills that are in a shard's log. If an order id has a fill already, that one stays."""
        known = self._known
        for block in _blocks(fills):
            fresh = False
            for order_id in block.order_ids:
                if not isinstance(known.get(order_id), _Block):
                    known[order_id] = block
                    fresh = True
            if fresh:
                self.size += block.size
                self._shards[shard].current.append(block)

    # --- time -------------------------------------------------------------------------------------------------------

    def advance(self, shard: int, stored_at: datetime) -> None:
        """Advance a shard's log time to the broker's timestamp of its next message. Call this before its `commit`."""
        memory = self._shards[shard]
        memory.advance(stored_at)
        if not memory.replayed and memory.log_time - memory.rotated >= GENERATION:
            memory.rotate(0.0)

    def needs_more(self, shard: int) -> bool:
        """Return True while the messages read from a shard's log do not span more than the window."""
        return self._shards[shard].span <= self._seconds

    def further_back(self, shard: int) -> None:
        """Note that the next messages are older than those read so far. Their ids count as if they were the newest."""
        self._shards[shard].further_back = True
        self._shards[shard].last = None

    def replayed(self, shard: int, monotonic: float) -> None:
        """Note that all older messages of a shard are read, and that the following ones are new.

        `monotonic`: now, in seconds of the monotonic clock.
        """
        memory = self._shards[shard]
        memory.rotate(0.0)
        for past in memory.past:
            past.monotonic = monotonic - (memory.log_time - past.log_time)
        memory.last = None
        memory.further_back = False
        memory.replayed = True

    def tick(self, monotonic: float) -> None:
        """Forget the ids that are old enough. Call this more than once per second.

        `monotonic`: now, in seconds of the monotonic clock.
        """
        if monotonic - self._ticked < GENERATION:
            return
        self._ticked = monotonic
        for memory in self._shards:
            if not memory.replayed:
                continue
            memory.rotate(monotonic)
            past = memory.past
            while (
                past
                and memory.log_time - past[0].log_time > self._seconds
                and monotonic - past[0].monotonic > self._seconds
            ):
                self._forget(past.popleft().blocks)

    def _forget(self, blocks: Iterable[_Block]) -> None:
        for block in blocks:
            self.size -= block.size
            for order_id in block.order_ids:
                if self._known.get(order_id) is block:
                    del self._known[order_id]
