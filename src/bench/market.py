"""A whole market under a load in which every fill replaces a quote: the load offered, and the resulting quotes and
fills.

All times are those at which the broker stored a message.
"""

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

import msgspec

from bench.marketlog import Log
from bench.requote import all_quoted
from bench.stage import CouldNotMeasure, Stage
from bench.trial import Measured, Trial
from jet.tail import Message
from wire import subjects

SERVICES = ("nats", "exposure", "ledger", "exchange", "maker")

SETTLING = 20.0
"""Seconds after a load in which every symbol must be quoted from its newest position."""


class _Fill(msgspec.Struct):
    number: int


class _Event(msgspec.Struct):
    type: str
    position_version: int
    expires_at: datetime | None = None


_FILLS = msgspec.json.Decoder(list[_Fill])
_EVENT = msgspec.json.Decoder(_Event)


@dataclass(slots=True)
class _Symbol:
    """One symbol's part of the log.

    Attributes:
        filled: the number of its newest fill.
        version: the position version of its latest quote.
        quoted: the times at which its quotes were stored.
        caught_up: the time at which its latest quote was stored.
        expires: when its latest quote expires.
        expired: how many of its quotes expired before they were replaced.
    """

    filled: int = 0
    version: int = 0
    quoted: list[datetime] = field(default_factory=list)
    caught_up: datetime | None = None
    expires: datetime | None = None
    expired: int = 0


@dataclass(slots=True)
class Story:
    """A summary of the messages of a market log, which may be observed in several pieces.

    Attributes:
        fills: the time at which each fill was stored, in the order of its shard.
    """

    fills: list[datetime] = field(default_factory=list)
    _symbols: dict[str, _Symbol] = field(default_factory=dict)

    def observe(self, messages: Iterable[Message]) -> None:
        """Add messages that follow those observed before."""
        for message in messages:
            one = self._symbols.setdefault(subjects.last_token(message.subject), _Symbol())
            if message.subject.startswith("fills."):
                numbers = _FILLS.decode(message.data)
                one.filled = numbers[-1].number
                self.fills += [message.time] * len(numbers)
                continue
            event = _EVENT.decode(message.data)
            if event.type != "activated":
                continue
            one.version = event.position_version
            one.caught_up = message.time
            one.quoted.append(message.time)
            one.expired += one.expires is not None and message.time > one.expires
            one.expires = event.expires_at

    @property
    def lagging(self) -> int:
        """The number of symbols whose latest quote was made from a position before their last fill."""
        return sum(one.version < one.filled for one in self._symbols.values())

    @property
    def caught_up(self) -> datetime | None:
        """The time of the newest quote of any symbol."""
        return max((one.caught_up for one in self._symbols.values() if one.caught_up is not None), default=None)

    @property
    def symbols_quoted(self) -> int:
        """The number of symbols that were quoted."""
        return sum(bool(one.quoted) for one in self._symbols.values())

    @property
    def last_first_quote(self) -> datetime:
        """The time at which the last symbol got its first quote."""
        return max(one.quoted[0] for one in self._symbols.values() if one.quoted)

    @property
    def expired(self) -> int:
        """The number of quotes that were replaced only after they had expired."""
        return sum(one.expired for one in self._symbols.values())

    def quotes(self, opens: datetime, closes: datetime) -> int:
        """Return the number of quotes stored between two times."""
        return sum(opens <= at < closes for one in self._symbols.values() for at in one.quoted)

    def filled(self, opens: datetime, closes: datetime) -> int:
        """Return the number of fills stored between two times."""
        return sum(opens <= at < closes for at in self.fills)

    def unfairness(self, opens: datetime, closes: datetime) -> float:
        """Return the longest time between two quotes of a symbol, divided by the median over all; 0 if unknown."""
        gaps: list[float] = []
        for one in self._symbols.values():
            times = [opens, *(at for at in one.quoted if opens <= at < closes), closes]
            gaps += [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(times)]
        return max(gaps) / median(gaps) if gaps and median(gaps) > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Flow:
    """The result of a load.

    Attributes:
        offered: orders per second that were due.
        sent: orders per second that found a free connection.
        quotes: quotes per second that became active.
        fills: orders per second that executed.
        unfairness: the longest time between two quotes of a symbol, divided by the median over all symbols.
        settled: seconds from the last fill until every symbol was quoted from its newest position.
        expired: the number of quotes that expired before they were replaced.
        refused: the number of answers other than a fill or a rejection.
        done: the generator's own result.
    """

    offered: float
    sent: float
    quotes: float
    fills: float
    unfairness: float
    settled: float
    expired: int
    refused: int
    done: Measured


class LiveMarket:
    """A stage on which makers quote, and every fill replaces a quote."""

    def __init__(self, trial: Trial, stage: Stage, connections: int) -> None:
        self.stage = stage
        self._trial = trial
        self._log = Log(stage)
        self._connections = connections

    async def start(self, *more: str) -> None:
        """Start all services that are needed, and wait until every symbol is quoted."""
        await self.stage.start(*SERVICES, *more)
        await all_quoted(self.stage)

    async def flow(self, seconds: float, rate: float | None = None) -> Flow:
        """Send orders for `seconds`, in an open loop at `rate` or else in a closed loop, and wait for the last quotes.

        Raises:
            CouldNotMeasure: an order that was answered as filled is not in the log, or a symbol keeps an older quote.
        """
        await self._log.messages()
        url, symbols = self.stage.url("exchange"), self.stage.symbols
        done = await self._trial.load(
            self.stage, url, symbols, self._connections, seconds, rate=rate, rejections=True, overload=True
        )
        story = await self._settled()
        if len(story.fills) < done.load.filled:
            raise CouldNotMeasure(
                f"{done.load.filled} orders were answered as filled, {len(story.fills)} are in the log"
            )
        first, last = min(story.fills), max(story.fills)
        opens = first + timedelta(seconds=self._trial.warm_up)
        closes = opens + timedelta(seconds=seconds)
        settled = (story.caught_up - last).total_seconds() if story.caught_up is not None else 0.0
        whole = seconds + self._trial.warm_up
        return Flow(
            offered=rate if rate is not None else done.load.rate,
            sent=done.load.sent / whole,
            quotes=story.quotes(opens, closes) / seconds,
            fills=story.filled(opens, closes) / seconds,
            unfairness=story.unfairness(opens, closes),
            settled=max(0.0, settled),
            expired=story.expired,
            refused=done.load.refused,
            done=done,
        )

    async def _settled(self) -> Story:
        story = Story()
        deadline = time.monotonic() + SETTLING
        while True:
            self.stage.check()
            story.observe(await self._log.messages())
            if not story.fills:
                raise CouldNotMeasure("nothing was filled")
            if not story.lagging:
                return story
            if time.monotonic() > deadline:
                raise CouldNotMeasure(f"{story.lagging} symbols are not quoted from their newest position")
            await asyncio.sleep(0.25)


def summary(flows: Sequence[Flow]) -> str:
    """Format the median flow in one line."""
    flow = sorted(flows, key=lambda each: each.quotes)[len(flows) // 2]
    return (
        f"{flow.offered:,.0f}/s offered: {flow.quotes:,.0f} quotes/s, {flow.fills:,.0f} fills/s, "
        f"slowest gap {flow.unfairness:.1f} × the median, settled after {flow.settled:.2f} s, {flow.expired} expired"
    )
