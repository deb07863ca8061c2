"""The ledger's shell: shard tails → applier → store → publisher and readers.

It publishes committed positions as soon as its database is open, and is ready once it has caught up with every shard.
A read includes every fill that was recorded before the request.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from prometheus_client import Counter, Gauge

from jet import api, rpc, stream_usage
from jet.clocks import BrokerTime
from jet.connection import Connection
from jet.listings import Listings
from jet.read_barrier import barrier_of, wait_for_all
from jet.tail import FromSequence, Tail
from ledger import continuity
from ledger.applier import Applier
from ledger.gaps import Gaps
from ledger.guard import Guard
from ledger.positions import Account
from ledger.publisher import Publisher
from ledger.queries import FillCursor, Reader
from ledger.recorder import Recorder
from ledger.store import WAL_BYTES, Store, StoreInUse, StoreUnusable
from process.clock import Clock, uptime
from process.health import Health
from process.settings import Port, ServiceSettings
from web.fanout import Fanout
from wire import subjects
from wire.errors import Refusal, Refused
from wire.instruments import Listing
from wire.orders import NumberedFill, ReportedFill
from wire.positions import Position, PositionUpdate
from wire.units import FieldError

PARTS = ("nats", "log", "fills", "store")
"""What a ledger waits for before it is ready, as named in its `Health`."""

WAL_CHECK_INTERVAL = 5.0
"""Seconds between checks of the WAL's size. A ledger that commits nothing in this time counts as idle."""

CHECK_INTERVAL = 3600.0
"""Seconds between checks of the whole database."""

CHECK_PAUSE = 0.02
"""Seconds between the chunks of a check. A chunk takes a tenth of that, so a check delays nobody."""

RETRY_DELAY = 1.0
"""Seconds before a database that another ledger uses, or a log that has lost messages, is checked again."""

REPORTS = Counter("ledger_reports", "Reported fills, by answer", ["answer"])
VERSION = Gauge("ledger_position_version", "Version of the committed position: the number of its last fill", ["symbol"])
NET_QUANTITY = Gauge("ledger_net_quantity_lots", "Committed position in lots; negative is short", ["symbol"])
WAL_SIZE = Gauge("ledger_wal_bytes", "Size of the WAL of the ledger's database; it grows during a long read")
DISK_FREE = Gauge("ledger_disk_free_bytes", "Free bytes on the disk of the ledger's database")

T = TypeVar("T")

log = structlog.get_logger()


class LedgerSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the ledger.

    Attributes:
        database: the SQLite file, relative to `data_dir` unless absolute; each ledger needs its own.
    """

    port: Port = 8002
    database: Path = Path("ledger.sqlite")

    @property
    def database_path(self) -> Path:
        """The path of the SQLite file."""
        return self.stack.data_dir / self.database


class Ledger:
    """The authority on positions.

    Attributes:
        updates: the committed position of every symbol; subscribers are notified of changes.
        clock: the broker's time.
    """

    def __init__(
        self,
        settings: LedgerSettings,
        connection: Connection,
        health: Health,
        clock: Clock,
        check_interval: float = CHECK_INTERVAL,
    ) -> None:
        self._check_interval = check_interval
        self.updates: Fanout[PositionUpdate] = Fanout()
        self._market = settings.market
        self._folder = settings.database_path.parent
        self._connection = connection
        self._health = health
        self.clock = BrokerTime(connection, clock, uptime, health, self._market.grace)
        self._store = Store(settings.database_path)
        gaps = Gaps(connection, self._market.shards)
        self._reader = Reader(settings.database_path)
        self._applier = Applier(self._store, self._market.shards, health, self.clock, self._on_commit, gaps)
        self._publisher = Publisher(connection)
        self._recorder = Recorder(connection, self._store, self._applier, self._market.shards)
        self._listings = Listings(
            connection,
            health,
            self._market.listings,
            self._relist,
            name="ledger-instruments",
            agreed=self._market.terms,
        )
        self._guard = Guard(connection, health, self._listings, self._applier, self.clock)
        health.add_notices(self._guard.notices)
        self._barriers = {
            shard: barrier_of(
                connection,
                subjects.market_stream(shard),
                partial(self._applier.wait_until_applied, shard),
                subjects.fills(shard, "*"),
            )
            for shard in range(self._market.shards)
        }
        self._open = False
        self._damaged: dict[str, str] = {}
        health.add_notices(lambda: self._damaged)
        self._unverified = dict.fromkeys(range(self._market.shards), "starting")
        self._disk_failure: asyncio.Queue[sqlite3.Error | StoreUnusable] = asyncio.Queue()

    async def run(self) -> None:
        """Run until cancelled. While the database cannot be used, health reports the reason, and nothing else is done.

        Raises:
            sqlite3.Error, OSError: the database cannot be opened.
            ExceptionGroup: the disk failed, the database was damaged, the connection was closed for good, the market
                log lost what was applied, or it has fills that were not delivered.
        """
        async with AsyncExitStack() as exits:
            await self._open_store(exits)
            await exits.enter_async_context(self._reader)
            books = self._applier.books
            self._relist(self._market.listings)
            self._on_commit([account.update for account in books.accounts.values()])
            self._open = True
            self._health.fine("store")
            log.info("store open", positions=len(books.accounts), applied=books.applied)
            async with self._connection, asyncio.TaskGroup() as group:
                group.create_task(self._connection.failed(), name="connection")
                group.create_task(self.clock.run(), name="clock")
                serving = rpc.serve(self._connection, "ledger", [], report=self._health.process)
                group.create_task(serving, name="discovery")
                group.create_task(self._raise_disk_failure(), name="disk")
                group.create_task(self._listings.run(), name="instruments")
                group.create_task(self._guard.run(), name="guard")
                group.create_task(self._applier.run(), name="applier")
                group.create_task(self._publisher.run(), name="publisher")
                group.create_task(self._truncate_idle_wal(), name="wal")
                group.create_task(self._check_periodically(), name="check")
                streams = subjects.streams(self._market.shards)
                group.create_task(stream_usage.watch(self._connection, streams, self._damaged), name="stream usage")
                for shard in range(self._market.shards):
                    group.create_task(self._follow(shard), name=f"shard {shard}")

    def _relist(self, listings: Mapping[str, Listing]) -> None:
        """Update the listings. A symbol without fills gets a flat position."""
        for symbol, listing in listings.items():
            self._recorder.instruments[symbol] = listing.instrument
            if symbol not in self._applier.books.accounts:
                self.updates.publish(symbol, Account(symbol).update)
        self._guard.relist(listings)

    async def stop(self) -> None:
        """Do nothing: positions that are committed but not yet published are published at the next start."""

    def measure(self) -> None:
        """Set the gauges that show state."""
        for symbol, update in self.updates.rows.items():
            VERSION.labels(symbol).set(update.position_version)
            NET_QUANTITY.labels(symbol).set(update.net_quantity)
        self._guard.measure()
        WAL_SIZE.set(self._store.wal_bytes)
        DISK_FREE.set(shutil.disk_usage(self._folder).free)

    def snapshot(self) -> list[PositionUpdate]:
        """Return every committed position: of all listed symbols, and of any other symbol that has fills.

        Raises:
            Refused: UNAVAILABLE, before the database is open.
        """
        if not self._open:
            raise Refused(Refusal.UNAVAILABLE, "the database is not open yet")
        return list(self.updates.rows.values())

    def position(self, symbol: str) -> Position:
        """Return one committed position.

        Raises:
            Refused: UNKNOWN_SYMBOL; UNAVAILABLE, before the database is open.
        """
        self.snapshot()
        if symbol not in self.updates.rows:
            self._check_listed()
            raise Refused(Refusal.UNKNOWN_SYMBOL, symbol)
        return self.updates.rows[symbol].position

    def _check_listed(self) -> None:
        """Check that the instruments have been read.

        Raises:
            Refused: UNAVAILABLE: they have not.
        """
        if not self._listings.is_open:
            raise Refused(Refusal.UNAVAILABLE, "the instruments have not been read yet")

    async def position_as_of(self, symbol: str, as_of: int | datetime) -> Position:
        """Return a symbol's position at a version, or after the fills executed until a time.

        Raises:
            Refused: UNKNOWN_SYMBOL; INVALID_FIELD: there is no such version yet; UNAVAILABLE.
        """
        latest = self.position(symbol).position_version
        if isinstance(as_of, int) and as_of > latest:
            raise Refused(Refusal.INVALID_FIELD, f"is beyond the latest version, {latest}", field="as_of")
        return await self._read(self._reader.position(symbol, as_of))

    async def positions_as_of(self, as_of: datetime) -> list[Position]:
        """Return every position after the fills executed until a time.

        Raises:
            Refused: UNAVAILABLE.
        """
        symbols = [update.symbol for update in self.snapshot()]
        found = {position.symbol: position for position in await self._read(self._reader.positions(as_of))}
        return [found.get(symbol) or Account(symbol).update.position for symbol in symbols]

    async def fills(self, symbol: str | None, after: FillCursor, limit: int) -> list[NumberedFill]:
        """Return at most `limit` recorded fills after a cursor, of one symbol or of all, by symbol and number.

        Raises:
            Refused: UNKNOWN_SYMBOL; UNAVAILABLE.
        """
        self.snapshot()
        if symbol is not None:
            self.position(symbol)
        return await self._read(self._reader.fills(symbol, after, limit))

    async def _read(self, reading: Awaitable[T]) -> T:
        try:
            return await reading
        except (sqlite3.Error, StoreUnusable) as error:
            self._disk_failure.put_nowait(error)
            raise Refused(Refusal.UNAVAILABLE, "the ledger's disk fails") from error

    async def confirm(self, symbol: str | None = None) -> None:
        """Wait until every fill that was recorded before this call is applied: of one symbol, or of all.

        Reads call it first.

        Raises:
            Refused: UNAVAILABLE: this cannot be confirmed, or takes too long.
        """
        self.snapshot()
        if symbol is not None and symbol not in self.updates.rows:
            await self._listings.knows(symbol)
        shards = self._barriers if symbol is None else [subjects.shard_of(symbol, self._market.shards)]
        await wait_for_all([self._barriers[shard] for shard in shards])

    async def report(self, fill: ReportedFill, asker: str | None = None) -> tuple[Position, bool]:
        """Record a fill executed elsewhere. Return the position after it, and True if the fill is new.

        `asker` is the digest that is recorded as the reporter.

        Raises:
            Refused: UNKNOWN_SYMBOL; INVALID_FIELD: the price is off the tick; FILL_CONTRADICTS; UNAVAILABLE;
                OUTCOME_UNKNOWN.
        """
        if not self._open:
            raise Refused(Refusal.UNAVAILABLE, "the database is not open yet")
        if self._unverified:
            raise Refused(Refusal.UNAVAILABLE, next(iter(self._unverified.values())))
        self._check_listed()
        await self._listings.knows(fill.symbol)
        try:
            new = await self._recorder.record(await self._recorder.validated(fill), asker)
        except FieldError as error:
            raise Refused(Refusal.INVALID_FIELD, str(error), field=error.field) from error
        except Refused as refused:
            REPORTS.labels(refused.refusal.slug).inc()
            log.warning("report refused", fill_id=fill.fill_id, symbol=fill.symbol, reason=str(refused))
            raise
        except (sqlite3.Error, StoreUnusable) as error:
            self._disk_failure.put_nowait(error)
            raise Refused(Refusal.OUTCOME_UNKNOWN, "the ledger's disk fails") from error
        REPORTS.labels("recorded" if new else "seen before").inc()
        return self.position(fill.symbol), new

    async def _open_store(self, exits: AsyncExitStack) -> None:
        """Open the database and load the books. While another ledger uses the database, retry; if it is damaged, wait
        for ever: a person must repair it."""
        while True:
            try:
                async with AsyncExitStack() as trial:
                    await trial.enter_async_context(self._store)
                    await self._applier.load()
                    exits.push_async_exit(trial.pop_all())
                    return
            except StoreUnusable as error:
                reason = str(error)
                self._health.waits("store", reason)
                log.critical("store unusable", reason=reason)
                if not isinstance(error, StoreInUse):
                    await asyncio.Event().wait()
            await asyncio.sleep(RETRY_DELAY)

    async def _truncate_idle_wal(self) -> None:
        """Truncate a large WAL while the ledger is idle: no commit does so then."""
        while True:
            applied = self._applier.books.applied.copy()
            await asyncio.sleep(WAL_CHECK_INTERVAL)
            if self._applier.books.applied == applied and self._store.wal_bytes > WAL_BYTES:
                await self._store.truncate_wal()

    async def _check_periodically(self) -> None:
        """Check the whole database periodically. Damage ends the process, and the next start reports it."""
        while True:
            await asyncio.sleep(self._check_interval)
            await self._store.check(CHECK_PAUSE)
            log.info("store checked")

    async def _follow(self, shard: int) -> None:
        """Feed the applier with one shard's fills, from the first that is not applied yet."""
        await self._await_intact_log(shard)
        start = FromSequence(self._applier.books.applied.get(shard, 0) + 1)
        stream, filters = subjects.market_stream(shard), [subjects.fills(shard, "*")]
        tail = Tail(self._connection, stream, filters, start, name="ledger")
        async for batch in tail.batches():
            await self._applier.feed(shard, batch, tail.current)

    async def _await_intact_log(self, shard: int) -> None:
        """Wait until the log of a shard holds everything that was applied. A deposed leader may not know all of it."""
        books = self._applier.books
        last = continuity.newest_account(list(books.accounts.values()), shard, self._market.shards)
        while True:
            try:
                reason = await continuity.find_loss(self._connection, shard, books.applied.get(shard, 0), last)
            except api.NO_REPLY as error:
                reason = f"the broker has not described {subjects.market_stream(shard)} yet: {error!r}"
                log.info("waiting for the log", shard=shard, reason=reason)
            else:
                if reason and reason != self._unverified[shard]:
                    log.error("the log does not contain what was applied", shard=shard, reason=reason)
            if not reason:
                break
            self._unverified[shard] = reason
            self._health.waits("log", reason)
            await asyncio.sleep(RETRY_DELAY)
        del self._unverified[shard]
        if self._unverified:
            self._health.waits("log", next(iter(self._unverified.values())))
        else:
            self._health.fine("log")

    def _on_commit(self, updates: list[PositionUpdate]) -> None:
        """Show committed positions, and queue them for publishing."""
        for update in updates:
            self.updates.publish(update.symbol, update)
            self._publisher.offer(update, self._applier.spans.get(update.symbol))
            self._guard.position_changed(update.symbol)

    async def _raise_disk_failure(self) -> None:
        """Raise the disk error that a reader has met. The applier raises its own."""
        raise await self._disk_failure.get()
