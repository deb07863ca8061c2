"""The power is cut at random moments: everything that was acknowledged is there when it is back.

A NATS server and a ledger store their data on a file system that loses what was not synced.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from exchange.service import Exchange
from jet import topology
from jet.connection import Connection
from ledger.service import Ledger
from ledger.store import Store
from process.health import Health
from process.settings import Market
from recorded import streams
from support.broker import Broker, NatsServer, shape_of
from support.builders import market, order
from support.exchange import ExposureStandIn, quoted, running
from support.forgetful import Power
from support.ledger import new_ledger
from support.needs import FUSE
from support.waiting import eventually, reaches
from wire import subjects
from wire.orders import Fill, RecordedFill

CUTS = int(os.environ.get("QS_POWER_CUTS", "20"))
SEED = 14
CLIENTS = 8
LOTS = 1_000_000
SYMBOLS = ("AAA", "BBB")

pytestmark = [pytest.mark.long, pytest.mark.skipif(not FUSE.is_met(), reason=FUSE.reason)]


class System:
    """The system that runs between power cuts, on one file system.

    Attributes:
        reported: every fill that was reported to a client, over all cuts.
        shown: the newest version of each position that the ledger has shown.
    """

    def __init__(self, folder: Path, sync: str) -> None:
        (folder / "nats").mkdir()
        self.power = Power(folder)
        self.server = NatsServer(folder / "nats", store=self.power.folder / "store", sync=sync)
        self.market: Market = market()
        self.reported: dict[str, Fill] = {}
        self.shown: dict[str, int] = {}

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Broker]:
        """Turn the power on and run the server. At the end of the block, cut the power and kill the server.

        Everything else that uses the file system must have ended before.
        """
        self.power.on()
        try:
            self.server.start()
            health = Health("test")
            async with Connection(self.server.url, "test", health) as connection:
                await topology.prepare(connection, shape_of(self.market))
                yield Broker(self.server, self.market, connection, health)
                self.power.cut()
                self.server.kill()
        finally:
            self.power.cut()
            self.server.kill()
            self.power.off()

    async def trade(self, attempt: int, most: int, ledger: Ledger | None, broker: Broker) -> None:
        """Trade until `most` more fills were reported, then cut the power."""
        stand_in = ExposureStandIn(LOTS)
        exposure = asyncio.create_task(stand_in.serve(broker.connection))
        before = len(self.reported)
        enough = asyncio.Event()
        async with running(broker) as exchange:
            for symbol in SYMBOLS:
                await quoted(exchange, symbol, attempt=attempt, bid_quantity=LOTS, ask_quantity=LOTS)
            clients = [
                asyncio.create_task(self._client(exchange, SYMBOLS[number % 2], before + most, enough))
                for number in range(CLIENTS)
            ]
            await enough.wait()
            self.power.cut()
            if ledger is not None:
                self.shown |= {symbol: ledger.position(symbol).position_version for symbol in SYMBOLS}
            for task in (*clients, exposure):
                task.cancel()
            await asyncio.gather(*clients, exposure, return_exceptions=True)
            self.server.kill()

    async def _client(self, exchange: Exchange, symbol: str, enough: int, reached: asyncio.Event) -> None:
        while True:
            answer = await exchange.order(order(symbol=symbol, quantity=1))
            self.reported |= {fill.fill_id: fill for fill in answer.fills}
            if len(self.reported) >= enough:
                reached.set()

    async def logged(self, connection: Connection) -> dict[str, Fill]:
        """Return every fill in the market log. Each must be there only once."""
        found: dict[str, Fill] = {}
        decoder = msgspec.json.Decoder(list[RecordedFill])
        for shard in range(self.market.shards):
            stream = subjects.market_stream(shard)
            last = (await streams.last_sequences(connection))[stream]
            async for message in streams.messages(connection, stream, last):
                if message.subject.startswith("fills."):
                    for fill in decoder.decode(message.data):
                        assert fill.fill_id not in found
                        found[fill.fill_id] = fill.fill
        return found


async def test_every_reported_fill_survives_every_power_cut(tmp_path: Path) -> None:
    system = System(tmp_path, "always")
    moments = random.Random(SEED)  # noqa: S311 # for a test
    for cut in range(1, CUTS + 1):
        async with system.up() as broker, AsyncExitStack() as exits:
            logged = await system.logged(broker.connection)
            assert system.reported.items() <= logged.items()
            async with Store(system.power.folder / "ledger.sqlite") as store:
                kept = (await store.load()).accounts
            for symbol, version in system.shown.items():
                assert (kept[symbol].version if symbol in kept else 0) >= version
            ledger, health = new_ledger(broker, system.power.folder)
            keeping = asyncio.create_task(ledger.run())
            exits.push_async_callback(_end, keeping)
            await eventually(lambda health=health: health.ready)
            for symbol in SYMBOLS:
                number = sum(fill.symbol == symbol for fill in logged.values())
                await reaches(lambda ledger=ledger, symbol=symbol: ledger.position(symbol).position_version, number)
                assert ledger.position(symbol).net_quantity == -number
            await system.trade(cut, moments.randrange(5, 150), ledger, broker)
    async with system.up() as broker:
        assert system.reported.items() <= (await system.logged(broker.connection)).items()


async def test_with_the_servers_default_sync_interval_a_power_cut_loses_reported_fills(tmp_path: Path) -> None:
    """This shows that the file system does lose data, and that `sync_interval: always` is not optional."""
    system = System(tmp_path, "2m")
    async with system.up() as broker:
        await system.trade(1, 100, None, broker)
    async with system.up() as broker:
        lost = system.reported.keys() - (await system.logged(broker.connection)).keys()
    assert lost


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(Exception, asyncio.CancelledError):
        await task
