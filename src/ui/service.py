"""Follows positions, market log and exposure usage, and gives every reader frames of whole rows.

Ordering rules:
- A reader's snapshot is taken in the same step as its subscription begins, so that no change falls between them.
- Readers judge by the times of frames whether a quote is active. These, and the times since when something is so, are
  the broker's time (`jet.clocks`), however wrong our machine's clock is.
- Rows are encoded and offered at most once in `FRAME_INTERVAL`, whatever the market does in between; a reader that
  takes longer than that for a frame gets the newest of each row when it is ready again, and as many of the newest fills
  of each symbol as are kept.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import structlog
from msgspec.structs import replace
from prometheus_client import Counter, Gauge

from jet import rpc
from jet.bootstrap import Bootstrap, MarketBootstrap, Published, is_position
from jet.clocks import PART as CLOCK
from jet.clocks import BrokerTime
from jet.connection import Connection
from jet.listings import Listings
from jet.reader import Reader
from jet.tail import Message
from process.clock import Clock, uptime
from process.health import Health
from process.settings import Port, ServiceSettings
from ui.board import FILLS_KEPT, Board, Frame, FrameType, Source, SourceName, Status
from ui.explain import Explainer
from ui.history_reader import HistoryReader
from ui.noticeboard import NoticeBoard
from ui.notices import Notices
from ui.processes import Process
from ui.trend import Point, Trend
from ui.unquoted import Unquoted
from ui.watch import Watch
from web.fanout import Fanout
from wire import fill_validation, subjects
from wire.errors import Refused
from wire.fields import DECODE_ERRORS
from wire.positions import PositionUpdate
from wire.quotes import QuoteEvent
from wire.reservations import LimitUsage, UsageRequest

PARTS = ("nats", "positions", "market", "exposure", CLOCK)
"""What the page waits for. It shows what it has meanwhile, and what of it is not current."""

FRAME_INTERVAL = 0.05
"""Seconds between frames to one reader, at least."""

POINTS_KEPT = 16
"""Newest points of the charts that a reader gets who is slow: more than seconds in which it is given up."""

HEARTBEAT = 1.0
"""Seconds after which a reader gets a frame although nothing changed."""

NOTICES_INTERVAL = 0.25
"""Seconds between two looks at the file of notices."""

USAGE_INTERVAL = 0.5
USAGE_TIMEOUT = 1.0

CLIENTS = Gauge("ui_websocket_clients", "Readers connected to the stream.")
FRAMES = Counter("ui_frames_sent", "Frames sent to readers.")

T = TypeVar("T")

log = structlog.get_logger()


class UiSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the page.

    Attributes:
        notices: the file in which `./qs demo` and `./qs chaos` tell the page of what they do; empty for none.
    """

    port: Port = 8000
    notices: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a frame, encoded once for all readers, and where in the frame it belongs."""

    kind: Literal["row", "fill", "processes", "unquoted", "answered", "notices", "point"]
    json: msgspec.Raw | list[Process] | Unquoted | dict[str, float] | Notices | Point


class UiService:
    """The fold of everything the page shows, and its readers; `explainer` and `recall` tell what it does not hold."""

    def __init__(self, settings: UiSettings, connection: Connection, health: Health, clock: Clock) -> None:
        self.board = Board(settings.market.listings, clock())
        self.trend = Trend()
        self._notices = NoticeBoard(Path(settings.notices)) if settings.notices else None
        self.explainer = Explainer()
        self._connection = connection
        self._health = health
        self.clock = BrokerTime(connection, clock, uptime, health, settings.market.grace)
        self.recall = HistoryReader(connection, settings.market.shards, self.clock)
        self.watch = Watch(connection, health, self.clock, self._publish_watched)
        self._listings = Listings(
            connection, health, settings.market.listings, self.board.relist, name="instruments", follow=Reader
        )
        self._shards = range(settings.market.shards)
        self._parts: Fanout[_Part] = Fanout()
        self._status = self.board.status(clock())
        self._complete = asyncio.Event()
        self._encoder = msgspec.json.Encoder()
        self._positions = msgspec.json.Decoder(PositionUpdate)
        self._quotes = msgspec.json.Decoder(QuoteEvent)

    async def run(self) -> None:
        """Follow everything until cancelled.

        Raises:
            ExceptionGroup: the connection closed for good, or a stream lost what was read of it.
        """
        # The page's user reads from outside of the services' account, where it may make no consumer.
        positions = Bootstrap(
            self._connection,
            subjects.POSITIONS_STREAM,
            [subjects.POSITIONS],
            is_position,
            name="positions",
            follow=Reader,
        )
        published = Published(self._connection, name="published", follow=Reader)
        market = [
            MarketBootstrap(
                self._connection, shard, len(self._shards), published, name=f"market-{shard}", follow=Reader
            )
            for shard in self._shards
        ]
        async with self._connection, asyncio.TaskGroup() as group:
            group.create_task(self._connection.failed())
            group.create_task(self.clock.run())
            await self.clock.known()
            group.create_task(self._listings.run())
            group.create_task(self._follow_positions(positions))
            for shard, tail in zip(self._shards, market, strict=True):
                group.create_task(self._follow_market(shard, tail))
            group.create_task(self._watch_usage())
            group.create_task(self.watch.call_roll())
            group.create_task(self.watch.follow_switch())
            group.create_task(self.watch.follow_losses())
            group.create_task(self.watch.ask_for_servers())
            group.create_task(self._publish(positions, market))
            if self._notices is not None:
                group.create_task(self._read_notices(self._notices))

    async def stop(self) -> None:
        """Nothing to put in order: the page only reads."""

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Frames for one reader, endless: a snapshot as soon as there is a whole one, then updates and heartbeats."""
        while not self._complete.is_set():
            yield self._frame("heartbeat")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._complete.wait(), HEARTBEAT)
        with self._parts.subscribe() as subscription:
            yield self._frame("snapshot", self._parts.rows.values())
            while True:
                parts: list[_Part] = []
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT):
                        parts = await subscription.take()
                changed = any(part.kind != "point" for part in parts)
                yield self._frame("update" if changed else "heartbeat", parts)

    def _frame(self, kind: FrameType, parts: Iterable[_Part] = ()) -> bytes:
        FRAMES.inc()
        whole = kind == "snapshot"
        sorted_out: dict[str, list[Any]] = {"row": [], "fill": [], "point": [], "processes": [None]}
        sorted_out |= {"unquoted": [None], "answered": [None], "notices": [None]}
        for part in parts:
            sorted_out[part.kind].append(part.json)
        frame = Frame(
            type=kind,
            time=self.clock(),
            status=self._status,
            rows=sorted_out["row"],
            fills=sorted_out["fill"],
            history=self.board.history() if whole else {},
            profits=self.board.profits() if whole else {},
            processes=sorted_out["processes"][-1],
            unquoted=sorted_out["unquoted"][-1],
            answered=sorted_out["answered"][-1],
            notices=sorted_out["notices"][-1],
            trend=self.trend.series() if whole else (),
            points=sorted_out["point"],
        )
        return self._encoder.encode(frame)

    # --- following ------------------------------------------------------------------------------------------------

    async def _follow_positions(self, tail: Bootstrap) -> None:
        async for batch in tail.batches():
            now = self.clock()
            for message in batch:
                update = self._decoded(self._positions, message, subjects.POSITIONS_STREAM)
                if update and update.symbol == subjects.last_token(message.subject):
                    self.board.apply_position(update, now)

    async def _follow_market(self, shard: int, tail: MarketBootstrap) -> None:
        async for batch in tail.batches():
            for message in batch:
                symbol = subjects.last_token(message.subject)
                if not subjects.in_home_shard(message.subject, len(self._shards)):
                    self._quarantine(message, subjects.market_stream(shard), "it is in another shard than its symbol")
                elif message.subject == subjects.quotes(shard, symbol):
                    event = self._decoded(self._quotes, message, subjects.market_stream(shard))
                    if event and event.symbol == symbol:
                        self.board.apply_quote(message.sequence, event)
                else:
                    self._take_fills(symbol, message, begins=tail.begins(message))

    def _take_fills(self, symbol: str, message: Message, *, begins: bool) -> None:
        fills, fault = fill_validation.read(message.subject, message.data, len(self._shards))
        if fault is None:
            fault = self.board.apply_fills(symbol, message.sequence, fills, begins=begins)
        if fault is not None:
            self._quarantine(message, subjects.stream_of(message.subject), str(fault))

    def _decoded(self, decoder: msgspec.json.Decoder[T], message: Message, stream: str) -> T | None:
        """The message's content. What cannot be read is counted, logged and None: it must not hide the rest."""
        try:
            return decoder.decode(message.data)
        except DECODE_ERRORS as error:
            self._quarantine(message, stream, str(error))
            return None

    def _quarantine(self, message: Message, stream: str, why: str) -> None:
        self._health.quarantined(stream)
        log.warning("message quarantined", subject=message.subject, seq=message.sequence, error=why)

    async def _watch_usage(self) -> None:
        while True:
            try:
                exposure = await rpc.call(
                    self._connection, subjects.Rpc.USAGE, UsageRequest(), LimitUsage, timeout=USAGE_TIMEOUT
                )
            except Refused as refused:
                self.board.lose_usage(refused.detail or refused.refusal.title, self.clock())
            else:
                self.board.set_usage(exposure, self.clock())
            await asyncio.sleep(USAGE_INTERVAL)

    # --- publishing -----------------------------------------------------------------------------------------------

    async def _publish(self, positions: Bootstrap, market: list[MarketBootstrap]) -> None:
        while True:
            now = self.clock()
            silent = [str(shard) for shard, tail in zip(self._shards, market, strict=True) if not tail.current]
            self.board.set_source("positions", now, stale="" if positions.current else "the stream is not heard of")
            self.board.set_source("market", now, stale=f"not heard of: shard {', '.join(silent)}" if silent else "")
            for row in self.board.take_changed():
                self._parts.publish(row.symbol, _Part("row", msgspec.Raw(self._encoder.encode(row))))
            for fill in self.board.take_fills():
                # Each takes the place of the one FILLS_KEPT before it. No symbol has a space in it.
                place = f"{fill.symbol} {fill.number % FILLS_KEPT}"
                self._parts.publish(place, _Part("fill", msgspec.Raw(self._encoder.encode(fill))))
            self._report_status(replace(self.board.status(now), switch=self.watch.switch))
            if self.board.complete:
                self._remember(now)
                self._complete.set()
            await asyncio.sleep(FRAME_INTERVAL)

    def _remember(self, now: datetime) -> None:
        """Add a point to the charts, if one is due."""
        if self.trend.due(now.timestamp()):
            usage = self._status.usage
            used = (None, None) if usage is None else (usage.bid, usage.ask)
            point = self.trend.take(now.timestamp(), self.board.take_profit(now), *used)
            self._parts.publish(f" point {point.at % POINTS_KEPT}", _Part("point", point))

    async def _read_notices(self, board: NoticeBoard) -> None:
        while True:
            if board.look() and board.notices is not None:
                self._parts.publish(" notices", _Part("notices", board.notices))
            await asyncio.sleep(NOTICES_INTERVAL)

    def _publish_watched(self) -> None:
        """Have frames say what the watch knows, if that has changed."""
        for part in (
            _Part("processes", self.watch.processes),
            _Part("unquoted", self.watch.unquoted),
            _Part("answered", self.watch.answered),
        ):
            if self._parts.rows.get(f" {part.kind}") != part:  # no symbol has a space in it
                self._parts.publish(f" {part.kind}", part)

    def _report_status(self, status: Status) -> None:
        """Set the status that frames carry, and give health and the log what changed of it."""
        sources: dict[SourceName, tuple[Source, Source]] = {
            "positions": (self._status.positions, status.positions),
            "market": (self._status.market, status.market),
            "exposure": (self._status.exposure, status.exposure),
        }
        for name, (before, source) in sources.items():
            if source.current:
                self._health.fine(name)
            else:
                self._health.waits(name, source.detail)
            if before.current != source.current:
                log.info("source changed", source=name, current=source.current, detail=source.detail)
        self._status = status
