"""Order ids that have executed lately, or are about to, over all symbols. Pure: times are arguments.

This memory guards a promise: no id executes twice within the window. So nothing is forgotten early, whatever any clock
does. An id is forgotten once the window has passed by both of two measures, neither of which is a clock that is set:

- the time of the log: the broker's timestamps of the messages of the id's shard, which are the same for every reader.
  Each shard goes by its own, because their leaders may be on different machines. A step back does not count, and
  between two messages no more than `LEAP`, so a timestamp far ahead forgets nothing.
- the seconds that this process has counted on a clock that only goes on.

What is read at start is aged by the log alone. `lacks` says whether more of it has to be read: a gap in the log may be
silence or a leap, so what was read must span the window with every gap counted as above.

What was recorded within a second is one generation and forgotten as one. Of a fill that is kept which its answer needs:
what the fills of one message share is kept once, the rest packed. An id of 15 characters was measured to take 155 to
175 bytes in messages of 32 fills and 180 to 215 in messages of 8. 2,400,000 ids, as 20,000 orders a second for 120 s
are, take 370 to 510 MB. Beyond `MAX_BYTES` nothing more is to be executed (`full`) until something may be forgotten.
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

LEAP = 5.0
"""Seconds of a log's time that may pass at most from one message to the next."""

GENERATION = 1.0
"""Seconds of fills that are forgotten together."""

MAX_BYTES = 768 * 1024 * 1024
"""Bytes that remembered ids may take, as counted here, before orders are refused."""

ID_BYTES = 108
"""Bytes of an id beside its characters and its share of `kept`: a string, two references and a place in a table."""

BLOCK_BYTES = 400
"""Bytes of what the fills of one message share."""


class Pending(Enum):
    """What is known of an id whose append is under way: whether it executes is not known yet."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING


class _Kept(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the fills of one message do not share."""

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
_unpack = msgspec.msgpack.Decoder(list[_Kept]).decode


class _Block(msgspec.Struct, frozen=True, gc=False, eq=False):
    """Fills of one message."""

    symbol: str
    quote_id: str
    created_at: datetime
    order_ids: tuple[str, ...]
    kept: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes, with its places in the table."""
        own = ID_BYTES * len(self.order_ids) + sum(map(len, self.order_ids))
        return BLOCK_BYTES + len(self.kept) + own

    def fill(self, order_id: str) -> RecordedFill:
        """The first fill of one of its orders."""
        kept = _unpack(self.kept)[self.order_ids.index(order_id)]
        return RecordedFill(
            fill_id=kept.fill_id,
            order_id=order_id,
            symbol=self.symbol,
            side=kept.side,
            quantity=kept.quantity,
            price=kept.price,
            quote_id=self.quote_id,
            created_at=self.created_at,
            number=kept.number,
            remaining_bid_quantity=kept.remaining_bid_quantity,
            remaining_ask_quantity=kept.remaining_ask_quantity,
            order_quantity=kept.order_quantity,
            limit_price=kept.limit_price,
            origin="reported" if kept.reported else "exchange",
        )


def _blocks(fills: Iterable[RecordedFill]) -> Iterator[_Block]:
    for (symbol, quote_id, created_at), run in groupby(fills, _shared):
        together = list(run)
        kept = [
            _Kept(
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
        yield _Block(symbol, quote_id, created_at, tuple([fill.order_id for fill in together]), _pack(kept))


class _Generation:
    """What was remembered within a second; `logged` and `counted` are both measures when it ended."""

    __slots__ = ("blocks", "counted", "logged")

    def __init__(self, logged: float, counted: float, blocks: list[_Block]) -> None:
        self.logged = logged
        self.counted = counted
        self.blocks = blocks


class _Shard:
    """One shard's memory. `logged` is how many seconds its log has come, `span` how many of them were read in all."""

    __slots__ = ("current", "further_back", "last", "logged", "past", "replayed", "rotated", "span")

    def __init__(self) -> None:
        self.logged = 0.0
        self.span = 0.0
        self.last: datetime | None = None
        self.current: list[_Block] = []
        self.rotated = 0.0
        self.past: deque[_Generation] = deque()
        self.further_back = False
        self.replayed = False

    def advance(self, stored_at: datetime) -> None:
        gap = 0.0 if self.last is None else min(max(0.0, (stored_at - self.last).total_seconds()), LEAP)
        self.last = stored_at
        self.span += gap
        if not self.further_back:
            self.logged += gap

    def rotate(self, counted: float) -> None:
        """Begin a new generation."""
        self.rotated = self.logged
        if self.current:
            self.past.append(_Generation(self.logged, counted, self.current))
            self.current = []


class OrderDedup:
    """Fills by order id, remembered for `window` after they were recorded.

    Not after they were created: a fill that waited for its append is as new to its client as any.

    Attributes:
        window: how long ids are remembered.
        size: bytes that what is remembered takes.
    """

    def __init__(self, window: timedelta, shards: int = 1) -> None:
        self.window = window
        self.size = 0
        self._seconds = window.total_seconds()
        self._known: dict[str, _Block | Pending] = {}
        self._shards = [_Shard() for _ in range(shards)]
        self._counted = 0.0

    def __len__(self) -> int:
        """How many ids are remembered, or taken."""
        return len(self._known)

    def __contains__(self, order_id: object) -> bool:
        """Whether an id is remembered, or taken."""
        return order_id in self._known

    @property
    def full(self) -> bool:
        """Whether no more can be remembered: what executes now might have to be forgotten early."""
        return self.size >= MAX_BYTES

    def get(self, order_id: str) -> RecordedFill | Pending | None:
        """The fill of an id; PENDING while an append is under way that may execute it."""
        known = self._known.get(order_id)
        return known.fill(order_id) if isinstance(known, _Block) else known

    def begin(self, fills: Iterable[RecordedFill]) -> None:
        """These are about to be appended: their ids are taken until it is known whether they were."""
        for fill in fills:
            self._known[fill.order_id] = PENDING

    def abort(self, fills: Iterable[RecordedFill]) -> None:
        """These were not appended: their ids are free again, unless another exchange has executed them meanwhile."""
        for fill in fills:
            if self._known.get(fill.order_id) is PENDING:
                del self._known[fill.order_id]

    def commit(self, shard: int, fills: Iterable[RecordedFill]) -> None:
        """Remember fills that are in a shard's log. A first fill of an order id stays its fill."""
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
        """The next message of a shard's log was stored at this time, by the broker's clock. Before its fills."""
        memory = self._shards[shard]
        memory.advance(stored_at)
        if not memory.replayed and memory.logged - memory.rotated >= GENERATION:
            memory.rotate(0.0)

    def needs_more(self, shard: int) -> bool:
        """Whether what was read of a shard's log spans no more than the window."""
        return self._shards[shard].span <= self._seconds

    def further_back(self, shard: int) -> None:
        """The messages that follow are from before those that were read. They count as if they were the newest."""
        self._shards[shard].further_back = True
        self._shards[shard].last = None

    def replayed(self, shard: int, counted: float) -> None:
        """What was recorded before is read, and what follows is new; `counted` seconds are on the clock that only goes
        on."""
        memory = self._shards[shard]
        memory.rotate(0.0)
        for past in memory.past:
            past.counted = counted - (memory.logged - past.logged)
        memory.last = None
        memory.further_back = False
        memory.replayed = True

    def tick(self, counted: float) -> None:
        """Forget what may be forgotten; to be called more than once a second."""
        if counted - self._counted < GENERATION:
            return
        self._counted = counted
        for memory in self._shards:
            if not memory.replayed:
                continue
            memory.rotate(counted)
            past = memory.past
            while past and memory.logged - past[0].logged > self._seconds and counted - past[0].counted > self._seconds:
                self._forget(past.popleft().blocks)

    def _forget(self, blocks: Iterable[_Block]) -> None:
        for block in blocks:
            self.size -= block.size
            for order_id in block.order_ids:
                if self._known.get(order_id) is block:
                    del self._known[order_id]
