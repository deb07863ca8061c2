"""Clients that change instruments while everything runs, and feeds that send reference prices."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from simulation.client_process import ClientProcess
from wire.references import PutReferences


class Definers:
    """All clients that change instruments, which are one asker."""

    def __init__(self, host: ClientProcess) -> None:
        self._host = host

    async def work(self) -> None:
        """Change instruments until the process ends."""
        async for _ in self._host.every(self._host.system.plan.define_rate):
            self._host.begin(self.define(self._host.random.choice(list(self._host.system.market.symbols))))

    async def define(self, symbol: str) -> None:
        """Change an instrument's reference price and quote size."""
        rng, instrument = self._host.random, self._host.system.market.symbols[symbol]
        moved = instrument.reference_price + rng.randint(-20, 20) * instrument.tick
        wanted = replace(instrument, reference_price=moved, quote_size=rng.randint(1, instrument.quote_size))

        async def define(exchange: Any) -> Any:
            return await exchange.define(symbol, wanted, "definer")

        self._host.world.trace.add("client", "asks", f"that {symbol} be around {moved}")
        await self._host.request(self._host.one_of("exchange"), define, 3.0)


class Feeds:
    """Feeds that send reference prices of several symbols at once, and do not agree on the time."""

    def __init__(self, host: ClientProcess) -> None:
        self._host = host

    async def work(self) -> None:
        """Send prices until the process ends."""
        async for _ in self._host.every(self._host.system.plan.refer_rate):
            self._host.begin(self.send_prices())

    async def send_prices(self) -> None:
        """Send prices that are current, or up to 2 s old."""
        rng, symbols = self._host.random, self._host.system.market.symbols
        named = rng.sample(list(symbols), rng.randint(1, len(symbols)))
        time = self._host.system.broker.clock() - timedelta(seconds=rng.choice((0.0, 0.0, rng.uniform(0, 2))))
        prices = {
            symbol: symbols[symbol].reference_price + Decimal(rng.randint(-40, 40)) * symbols[symbol].tick
            for symbol in named
        }
        asked = PutReferences(time=time, prices=prices)

        async def send_prices(exchange: Any) -> Any:
            return await exchange.put_references(asked, "feed")

        self._host.world.trace.add("client", "tells", f"the prices of {', '.join(sorted(named))}")
        await self._host.request(self._host.one_of("exchange"), send_prices, 3.0)
