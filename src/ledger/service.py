"""The ledger, assembled: shard tails → applier → store → publisher and readers.

It pushes committed positions as soon as its database is open, and is ready once it has caught up with every shard. What
is read of it has every fill that was recorded before the question.
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
from ledger.reading import Place, Reader
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
"""What a ledger waits for, as its `Health` names it."""

LOOK_AT_WAL = 5.0
"""Seconds between two looks at the WAL. In that time without a commit the ledger counts as idle."""

CHECK_EVERY = 3600.0
"""Seconds between two looks at everything in the database."""

CHECK_PAUSE = 0.02
"""Seconds between two pieces of a look, a tenth of which a piece takes: nobody waits for it."""

TRY_AGAIN = 1.0
"""Seconds until a database that another ledger uses, or a log that has lost something, is looked at again."""

REPORTS = Counter("ledger_reports", "Reported fills, by answer", ["answer"])
VERSION = Gauge("ledger_position_version", "Version of the committed position: the number of its last fill", ["symbol"])
NET_QUANTITY = Gauge("ledger_net_quantity_lots", "Committed position, in lots: below 0 is short", ["symbol"])
WAL_SIZE = Gauge(
    "ledger_wal_bytes", "Size of the WAL of the ledger's database, which grows while somebody reads for long"
)
DISK_FREE = Gauge("ledger_disk_free_bytes", "Free bytes on the disk of the ledger's database")

T = TypeVar("T")

log = structlog.get_logger()


class LedgerSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the ledger.

    Attributes:
        database: the SQLite file, in `data_dir` unless it is an absolute path; every ledger needs one of its own.
    """

    port: Port = 8002
    database: Path = Path("ledger.sqlite")

    @property
    def database_path(self) -> Path:
        """Where the SQLite file is."""
        return self.stack.data_dir / self.database


class Ledger:
    """The authority on positions. `updates` holds every committed position, one a symbol, and tells who listens."""

    def __init__(
        self,
        settings: LedgerSettings,
        connection: Connection,
        health: Health,
        clock: Clock,
        check_every: float = CHECK_EVERY,
    ) -> None:
        self._check_every = check_every
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
                partial(self._applier.reached, shard),
                subjects.fills(shard, "*"),
            )
            for shard in range(self._market.shards)
        }
        self._open = False
        self._damaged: dict[str, str] = {}
        health.add_notices(lambda: self._damaged)
        self._unproved = dict.fromkeys(range(self._market.shards), "starting")
        self._disk_failure: asyncio.Queue[sqlite3.Error | StoreUnusable] = asyncio.Queue()

    async def run(self) -> None:
        """Keep the books until cancelled. While the database cannot be used, the health says why, and nothing is done.

        Raises:
            sqlite3.Error, OSError: the database cannot be opened.
            ExceptionGroup: the disk fails, the database was damaged, the connection closed for good, or the market log
                lost what was applied.
        """
        async with AsyncExitStack() as exits:
            await self._opened(exits)
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
                group.create_task(self._disk_failed(), name="disk")
                group.create_task(self._listings.run(), name="instruments")
                group.create_task(self._guard.run(), name="guard")
                group.create_task(self._applier.run(), name="applier")
                group.create_task(self._publisher.run(), name="publisher")
                group.create_task(self._keep_small(), name="wal")
                group.create_task(self._check(), name="check")
                streams = subjects.streams(self._market.shards)
                group.create_task(stream_usage.watch(self._connection, streams, self._damaged), name="stream usage")
                for shard in range(self._market.shards):
                    group.create_task(self._follow(shard), name=f"shard {shard}")

    def _relist(self, listings: Mapping[str, Listing]) -> None:
        """These symbols are listed so from now on: each has a position, if a flat one."""
        for symbol, listing in listings.items():
            self._recorder.instruments[symbol] = listing.instrument
            if symbol not in self._applier.books.accounts:
                self.updates.publish(symbol, Account(symbol).update)
        self._guard.relist(listings)

    async def stop(self) -> None:
        """Nothing has to be put in order: what is committed and not yet published is published at the next start."""

    def measure(self) -> None:
        """Set the gauges that are read off state."""
        for symbol, update in self.updates.rows.items():
            VERSION.labels(symbol).set(update.position_version)
            NET_QUANTITY.labels(symbol).set(update.net_quantity)
        self._guard.measure()
        WAL_SIZE.set(self._store.wal_bytes)
        DISK_FREE.set(shutil.disk_usage(self._folder).free)

    def snapshot(self) -> list[PositionUpdate]:
        """Every committed position: all symbols of the market, and any other that has fills.

        Raises:
            Refused: UNAVAILABLE, before the database is open.
        """
        if not self._open:
            raise Refused(Refusal.UNAVAILABLE, "the database is not open yet")
        return list(self.updates.rows.values())

    def position(self, symbol: str) -> Position:
        """One committed position.

        Raises:
            Refused: UNKNOWN_SYMBOL; UNAVAILABLE, before the database is open.
        """
        self.snapshot()
        if symbol not in self.updates.rows:
            self._check_listed()
            raise Refused(Refusal.UNKNOWN_SYMBOL, symbol)
        return self.updates.rows[symbol].position

    def _check_listed(self) -> None:
        """Whether it is known what is traded.

        Raises:
            Refused: UNAVAILABLE.
        """
        if not self._listings.is_open:
            raise Refused(Refusal.UNAVAILABLE, "the instruments are not read yet")

    async def position_as_of(self, symbol: str, as_of: int | datetime) -> Position:
        """One position as it was at a version, or as the fills that were executed until a time make it.

        Raises:
            Refused: UNKNOWN_SYMBOL; INVALID_FIELD: there is no such version yet; UNAVAILABLE.
        """
        latest = self.position(symbol).position_version
        if isinstance(as_of, int) and as_of > latest:
            raise Refused(Refusal.INVALID_FIELD, f"is beyond the latest version, {latest}", field="as_of")
        return await self._read(self._reader.position(symbol, as_of))

    async def positions_as_of(self, as_of: datetime) -> list[Position]:
        """Every position as the fills that were executed until a time make it.

        Raises:
            Refused: UNAVAILABLE.
        """
        symbols = [update.symbol for update in self.snapshot()]
        found = {position.symbol: position for position in await self._read(self._reader.positions(as_of))}
        return [found.get(symbol) or Account(symbol).update.position for symbol in symbols]

    async def fills(self, symbol: str | None, after: Place, most: int) -> list[NumberedFill]:
        """At most so many recorded fills that come after a place, of one symbol or of all, by symbol and number.

        Raises:
            Refused: UNKNOWN_SYMBOL; UNAVAILABLE.
        """
        self.snapshot()
        if symbol is not None:
            self.position(symbol)
        return await self._read(self._reader.fills(symbol, after, most))

    async def _read(self, reading: Awaitable[T]) -> T:
        try:
            return await reading
        except (sqlite3.Error, StoreUnusable) as error:
            self._disk_failure.put_nowait(error)
            raise Refused(Refusal.UNAVAILABLE, "the ledger's disk fails") from error

    async def confirm(self, symbol: str | None = None) -> None:
        """Before a read of a symbol, or of all: return once every fill is applied that was recorded before this call.

        Raises:
            Refused: UNAVAILABLE: that cannot be known, or takes too long.
        """
        self.snapshot()
        if symbol is not None and symbol not in self.updates.rows:
            await self._listings.knows(symbol)
        shards = self._barriers if symbol is None else [subjects.shard_of(symbol, self._market.shards)]
        await wait_for_all([self._barriers[shard] for shard in shards])

    async def report(self, fill: ReportedFill, asker: str | None = None) -> tuple[Position, bool]:
        """Record a fill executed elsewhere; `asker` is what is kept of who reports it. Returns the position
        with it applied, and whether it is new.

        Raises:
            Refused: UNKNOWN_SYMBOL; INVALID_FIELD for a price that it never had; FILL_CONTRADICTS; UNAVAILABLE;
                OUTCOME_UNKNOWN.
        """
        if not self._open:
            raise Refused(Refusal.UNAVAILABLE, "the database is not open yet")
        if self._unproved:
            raise Refused(Refusal.UNAVAILABLE, next(iter(self._unproved.values())))
        self._check_listed()
        await self._listings.knows(fill.symbol)
        try:
            new = await self._recorder.record(await self._recorder.checked(fill), asker)
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

    async def _opened(self, exits: AsyncExitStack) -> None:
        """Open the database and load what it holds. A person must mend what is damaged; another ledger may end."""
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
            await asyncio.sleep(TRY_AGAIN)

    async def _keep_small(self) -> None:
        """While no fills come, no commit cuts the WAL after somebody has read for long."""
        while True:
            applied = self._applier.books.applied.copy()
            await asyncio.sleep(LOOK_AT_WAL)
            if self._applier.books.applied == applied and self._store.wal_bytes > WAL_BYTES:
                await self._store.shrink()

    async def _check(self) -> None:
        """What was damaged since the start ends the process: the next start finds it, and shows nothing."""
        while True:
            await asyncio.sleep(self._check_every)
            await self._store.check(CHECK_PAUSE)
            log.info("store checked")

    async def _follow(self, shard: int) -> None:
        """Feed the applier with one shard's fills, from the first that is not applied."""
        await self._held(shard)
        start = FromSequence(self._applier.books.applied.get(shard, 0) + 1)
        stream, filters = subjects.market_stream(shard), [subjects.fills(shard, "*")]
        tail = Tail(self._connection, stream, filters, start, name="ledger")
        async for batch in tail.batches():
            await self._applier.feed(shard, batch, tail.current)

    async def _held(self, shard: int) -> None:
        """Wait until the log is seen to hold what was applied of a shard: a leader of the past may not know it all."""
        books = self._applier.books
        last = continuity.newest(list(books.accounts.values()), shard, self._market.shards)
        while True:
            try:
                reason = await continuity.lost(self._connection, shard, books.applied.get(shard, 0), last)
            except api.NO_REPLY as error:
                reason = f"{subjects.market_stream(shard)} is not told of yet: {error!r}"
                log.info("waiting for the log", shard=shard, reason=reason)
            else:
                if reason and reason != self._unproved[shard]:
                    log.error("the log does not contain what was applied", shard=shard, reason=reason)
            if not reason:
                break
            self._unproved[shard] = reason
            self._health.waits("log", reason)
            await asyncio.sleep(TRY_AGAIN)
        del self._unproved[shard]
        if self._unproved:
            self._health.waits("log", next(iter(self._unproved.values())))
        else:
            self._health.fine("log")

    def _on_commit(self, updates: list[PositionUpdate]) -> None:
        """Show what is committed, and have it published."""
        for update in updates:
            self.updates.publish(update.symbol, update)
            self._publisher.offer(update, self._applier.spans.get(update.symbol))
            self._guard.committed(update.symbol)

    async def _disk_failed(self) -> None:
        """Wait for a reader to find the disk failing; the applier finds it by itself."""
        raise await self._disk_failure.get()
