"""Follows positions, market log and exposure usage, and gives every reader frames of whole rows.

Ordering rules:
- A reader's snapshot is taken in the same step as its subscription begins, so that no change falls between them.
- Rows are encoded and offered at most once in `FRAME_INTERVAL`, whatever the market does in between; a reader that
  takes longer than that for a frame gets the newest of each row when it is ready again.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec
import structlog
from prometheus_client import Counter, Gauge

from jet import rpc
from jet.connection import Connection
from jet.tail import LastPerSubject, Message, Tail
from runtime.clock import Clock
from runtime.fanout import Fanout
from runtime.health import Health
from runtime.settings import Port, ServiceSettings
from ui.board import Board, Frame, FrameType, Source, SourceName, Status
from wire import subjects
from wire.errors import Refused
from wire.messages import Exposure, PositionUpdate, QuoteEvent, RecordedFill, UsageRequest

PARTS = ("nats", "positions", "market", "exposure")
"""What the page waits for. It shows what it has meanwhile, and what of it is not current."""

FRAME_INTERVAL = 0.05
"""Seconds between frames to one reader, at least."""

HEARTBEAT = 1.0
"""Seconds after which a reader gets a frame although nothing changed."""

USAGE_INTERVAL = 0.5
USAGE_TIMEOUT = 1.0

CLIENTS = Gauge("ui_websocket_clients", "Readers connected to the stream.")
FRAMES = Counter("ui_frames_sent", "Frames sent to readers.")
UNREADABLE = Counter("ui_unreadable_messages", "Messages that could not be decoded.", ["stream"])

T = TypeVar("T")

log = structlog.get_logger()


class UiSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the page."""

    port: Port = 8000


class UiService:
    """The fold of everything the page shows, and its readers."""

    def __init__(self, settings: UiSettings, connection: Connection, health: Health, clock: Clock) -> None:
        self.board = Board(settings.market.symbols, clock())
        self._connection = connection
        self._health = health
        self._clock = clock
        self._shards = range(settings.market.shards)
        self._rows: Fanout[msgspec.Raw] = Fanout()
        self._status = self.board.status(clock())
        self._complete = asyncio.Event()
        self._encoder = msgspec.json.Encoder()
        self._positions = msgspec.json.Decoder(PositionUpdate)
        self._quotes = msgspec.json.Decoder(QuoteEvent)
        self._fills = msgspec.json.Decoder(list[RecordedFill])

    async def run(self) -> None:
        """Follow everything until cancelled.

        Raises:
            ExceptionGroup: the connection closed for good, or a stream lost what was read of it.
        """
        positions = Tail(
            self._connection, subjects.POSITIONS_STREAM, [subjects.POSITIONS], LastPerSubject(), name="positions"
        )
        market = [
            Tail(
                self._connection,
                subjects.market_stream(shard),
                [subjects.quotes(shard, ">"), subjects.fills(shard, ">")],
                LastPerSubject(),
                name=f"market-{shard}",
            )
            for shard in self._shards
        ]
        async with self._connection, asyncio.TaskGroup() as group:
            group.create_task(self._connection.failed())
            group.create_task(self._follow_positions(positions))
            for shard, tail in zip(self._shards, market, strict=True):
                group.create_task(self._follow_market(shard, tail))
            group.create_task(self._watch_usage())
            group.create_task(self._publish(positions, market))

    async def stop(self) -> None:
        """Nothing to put in order: the page only reads."""

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Frames for one reader, endless: a snapshot as soon as there is a whole one, then updates and heartbeats."""
        while not self._complete.is_set():
            yield self._frame("heartbeat")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._complete.wait(), HEARTBEAT)
        with self._rows.subscribe() as subscription:
            yield self._frame("snapshot", list(self._rows.rows.values()), self.board.history())
            while True:
                rows: list[msgspec.Raw] = []
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT):
                        rows = await subscription.take()
                yield self._frame("update" if rows else "heartbeat", rows)

    def _frame(
        self, kind: FrameType, rows: Sequence[msgspec.Raw] = (), history: dict[str, list[int]] | None = None
    ) -> bytes:
        FRAMES.inc()
        frame = Frame(type=kind, time=self._clock(), status=self._status, rows=rows, history=history or {})
        return self._encoder.encode(frame)

    # --- following ------------------------------------------------------------------------------------------------

    async def _follow_positions(self, tail: Tail) -> None:
        async for batch in tail.batches():
            now = self._clock()
            for message in batch:
                if update := _decoded(self._positions, message, subjects.POSITIONS_STREAM):
                    self.board.apply_position(update, now)

    async def _follow_market(self, shard: int, tail: Tail) -> None:
        async for batch in tail.batches():
            for message in batch:
                symbol = subjects.last_token(message.subject)
                if message.subject == subjects.quotes(shard, symbol):
                    if event := _decoded(self._quotes, message, subjects.market_stream(shard)):
                        self.board.apply_quote(message.sequence, event)
                elif fills := _decoded(self._fills, message, subjects.market_stream(shard)):
                    self.board.apply_fills(symbol, message.sequence, fills)

    async def _watch_usage(self) -> None:
        while True:
            try:
                exposure = await rpc.call(
                    self._connection, subjects.Rpc.USAGE, UsageRequest(), Exposure, timeout=USAGE_TIMEOUT
                )
            except Refused as refused:
                self.board.lose_usage(refused.detail or refused.refusal.title, self._clock())
            else:
                self.board.set_usage(exposure, self._clock())
            await asyncio.sleep(USAGE_INTERVAL)

    # --- publishing -----------------------------------------------------------------------------------------------

    async def _publish(self, positions: Tail, market: list[Tail]) -> None:
        while True:
            now = self._clock()
            silent = [str(shard) for shard, tail in zip(self._shards, market, strict=True) if not tail.current]
            self.board.heard("positions", now, stale="" if positions.current else "the stream is not heard of")
            self.board.heard("market", now, stale=f"not heard of: shard {', '.join(silent)}" if silent else "")
            for row in self.board.take_changed():
                self._rows.publish(row.symbol, msgspec.Raw(self._encoder.encode(row)))
            self._tell(self.board.status(now))
            if self.board.complete:
                self._complete.set()
            await asyncio.sleep(FRAME_INTERVAL)

    def _tell(self, status: Status) -> None:
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


def _decoded(decoder: msgspec.json.Decoder[T], message: Message, stream: str) -> T | None:
    """The message's content. What cannot be read is counted, logged and None: it must not hide the rest."""
    try:
        return decoder.decode(message.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        UNREADABLE.labels(stream).inc()
        log.warning("message left out", stream=stream, subject=message.subject, seq=message.sequence, error=str(error))
        return None
