"""Follows positions, the market log and exposure usage, and sends every reader frames of complete rows.

Ordering rules:
- A reader's snapshot is taken in the same step in which its subscription begins, so that no change falls between them.
- Readers compare the times of frames with those of quotes, to see which quotes are active. All times in frames are the
  broker's (`jet.clocks`), however wrong this machine's clock is.
- Rows are encoded and published at most once per `FRAME_INTERVAL`, however often they change. A reader that takes
  longer than that for a frame then gets the newest version of each row, and the newest `FILLS_KEPT` fills per symbol.
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
from jet.bootstrap import Bootstrap, MarketBootstrap, PublishedPositions, is_position
from jet.clocks import PART as CLOCK
from jet.clocks import BrokerTime
from jet.connection import Connection
from jet.listings import Listings
from jet.reader import Reader
from jet.tail import Message
from process.clock import Clock, uptime
from process.health import Health
from process.settings import Port, ServiceSettings
from ui.board import FILLS_KEPT, Board
from ui.explain import Explainer
from ui.frames import Frame, FrameType, Source, SourceName, Status
from ui.history_reader import HistoryReader
from ui.notices import Notices
from ui.notices_file import NoticesFile
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
"""The parts that the page waits for. Meanwhile it shows what it has, and marks what is not current."""

FRAME_INTERVAL = 0.05
"""Minimum seconds between two frames to a reader."""

POINTS_KEPT = 16
"""The newest points of the charts are kept for slow readers: more than the seconds after which one is disconnected."""

HEARTBEAT = 1.0
"""Seconds after which a reader gets a frame even if nothing has changed."""

NOTICES_INTERVAL = 0.25
"""Seconds between two checks of the file of notices."""

USAGE_INTERVAL = 0.5
"""Seconds between a reply about exposure usage and the next request."""

USAGE_TIMEOUT = 1.0
"""Seconds after which exposure usage is unknown."""

CLIENTS = Gauge("ui_websocket_clients", "Readers connected to the stream.")
FRAMES = Counter("ui_frames_sent", "Frames sent to readers.")

T = TypeVar("T")

log = structlog.get_logger()


class UiSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the page.

    Attributes:
        notices: the file through which `./qs demo` and `./qs chaos` report their progress to the page; empty for none.
    """

    port: Port = 8000
    notices: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a frame. `kind` is the field of the frame to which it belongs."""

    kind: Literal["row", "fill", "processes", "unquoted", "answered", "notices", "point"]
    json: msgspec.Raw | list[Process] | Unquoted | dict[str, float] | Notices | Point


class UiService:
    """Follows everything that the page shows, and makes its frames. `explainer` and `history_reader` read logs anew."""

    def __init__(self, settings: UiSettings, connection: Connection, health: Health, clock: Clock) -> None:
        self.board = Board(settings.market.listings, clock())
        self.trend = Trend()
        self._notices_file = NoticesFile(Path(settings.notices)) if settings.notices else None
        self.explainer = Explainer()
        self._connection = connection
        self._health = health
        self.clock = BrokerTime(connection, clock, uptime, health, settings.market.grace)
        self.history_reader = HistoryReader(connection, settings.market.shards, self.clock)
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
            ExceptionGroup: the connection closed for good, or a stream lost messages that had been read.
        """
        # The page's broker user is outside of the services' account, and may not create consumers: so `Reader`.
        positions = Bootstrap(
            self._connection,
            subjects.POSITIONS_STREAM,
            [subjects.POSITIONS],
            is_position,
            name="positions",
            follow=Reader,
        )
        published = PublishedPositions(self._connection, name="published", follow=Reader)
        market = [
            MarketBootstrap(
                self._connection, shard, len(self._shards), published, name=f"market-{shard}", follow=Reader
            )
            for shard in self._shards
        ]
        async with self._connection, asyncio.TaskGroup() as group:
            group.create_task(self._connection.failed())
            group.create_task(self.clock.run())
            await self.clock.wait_known()
            group.create_task(self._listings.run())
            group.create_task(self._follow_positions(positions))
            for shard, tail in zip(self._shards, market, strict=True):
                group.create_task(self._follow_market(shard, tail))
            group.create_task(self._poll_usage())
            group.create_task(self.watch.poll_processes())
            group.create_task(self.watch.follow_switch())
            group.create_task(self.watch.follow_losses())
            group.create_task(self.watch.poll_servers())
            group.create_task(self._publish(positions, market))
            if self._notices_file is not None:
                group.create_task(self._poll_notices(self._notices_file))

    async def stop(self) -> None:
        """Do nothing: the page only reads."""

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield frames for one reader, without end: first heartbeats, then a snapshot, then updates and heartbeats."""
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
        is_snapshot = kind == "snapshot"
        by_kind: dict[str, list[Any]] = {"row": [], "fill": [], "point": [], "processes": [None]}
        by_kind |= {"unquoted": [None], "answered": [None], "notices": [None]}
        for part in parts:
            by_kind[part.kind].append(part.json)
        frame = Frame(
            type=kind,
            time=self.clock(),
            status=self._status,
            rows=by_kind["row"],
            fills=by_kind["fill"],
            history=self.board.history() if is_snapshot else {},
            profits=self.board.profits() if is_snapshot else {},
            processes=by_kind["processes"][-1],
            unquoted=by_kind["unquoted"][-1],
            answered=by_kind["answered"][-1],
            notices=by_kind["notices"][-1],
            trend=self.trend.series() if is_snapshot else (),
            points=by_kind["point"],
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
                    self._apply_fills(symbol, message, begins=tail.begins(message))

    def _apply_fills(self, symbol: str, message: Message, *, begins: bool) -> None:
        fills, fault = fill_validation.read(message.subject, message.data, len(self._shards))
        if fault is None:
            fault = self.board.apply_fills(symbol, message.sequence, fills, begins=begins)
        if fault is not None:
            self._quarantine(message, subjects.stream_of(message.subject), str(fault))

    def _decoded(self, decoder: msgspec.json.Decoder[T], message: Message, stream: str) -> T | None:
        """Decode the message. Quarantine it and return None if it is not valid, so that it does not hide others."""
        try:
            return decoder.decode(message.data)
        except DECODE_ERRORS as error:
            self._quarantine(message, stream, str(error))
            return None

    def _quarantine(self, message: Message, stream: str, why: str) -> None:
        self._health.quarantined(stream)
        log.warning("message quarantined", subject=message.subject, seq=message.sequence, error=why)

    async def _poll_usage(self) -> None:
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
            self.board.set_source("positions", now, stale="" if positions.current else "the stream is not received")
            self.board.set_source("market", now, stale=f"not received: shard {', '.join(silent)}" if silent else "")
            for row in self.board.take_changed():
                self._parts.publish(row.symbol, _Part("row", msgspec.Raw(self._encoder.encode(row))))
            for fill in self.board.take_fills():
                # Each replaces the one FILLS_KEPT before it. No symbol contains a space.
                key = f"{fill.symbol} {fill.number % FILLS_KEPT}"
                self._parts.publish(key, _Part("fill", msgspec.Raw(self._encoder.encode(fill))))
            self._report_status(replace(self.board.status(now), switch=self.watch.switch))
            if self.board.complete:
                self._add_point(now)
                self._complete.set()
            await asyncio.sleep(FRAME_INTERVAL)

    def _add_point(self, now: datetime) -> None:
        """Add a point to the charts, if one is due."""
        if self.trend.is_due(now.timestamp()):
            usage = self._status.usage
            used = (None, None) if usage is None else (usage.bid, usage.ask)
            point = self.trend.add(now.timestamp(), self.board.take_profit(now), *used)
            self._parts.publish(f" point {point.at % POINTS_KEPT}", _Part("point", point))

    async def _poll_notices(self, file: NoticesFile) -> None:
        while True:
            if file.poll() and file.notices is not None:
                self._parts.publish(" notices", _Part("notices", file.notices))
            await asyncio.sleep(NOTICES_INTERVAL)

    def _publish_watched(self) -> None:
        """Publish what the watch knows, if it has changed."""
        for part in (
            _Part("processes", self.watch.processes),
            _Part("unquoted", self.watch.unquoted),
            _Part("answered", self.watch.answered),
        ):
            if self._parts.rows.get(f" {part.kind}") != part:  # no symbol contains a space
                self._parts.publish(f" {part.kind}", part)

    def _report_status(self, status: Status) -> None:
        """Set the status that frames contain, and report it to health; log changes."""
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
