"""Those who change instruments while everything runs, and feeds that tell their reference prices."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from simulation.party import Party
from wire.references import PutReferences


class Definers:
    """All who define: one asker."""

    def __init__(self, party: Party) -> None:
        self._party = party

    async def work(self) -> None:
        """Move a reference price or a size now and then, until the process ends."""
        async for _ in self._party.every(self._party.system.plan.define_rate):
            self._party.begin(self.define(self._party.random.choice(list(self._party.system.market.symbols))))

    async def define(self, symbol: str) -> None:
        """Have an instrument be priced, and sized, otherwise."""
        chance, instrument = self._party.random, self._party.system.market.symbols[symbol]
        moved = instrument.reference_price + chance.randint(-20, 20) * instrument.tick
        wanted = replace(instrument, reference_price=moved, quote_size=chance.randint(1, instrument.quote_size))

        async def define(exchange: Any) -> Any:
            return await exchange.define(symbol, wanted, "definer")

        self._party.world.trace.add("client", "asks", f"that {symbol} be around {moved}")
        await self._party.ask(self._party.one_of("exchange"), define, 3.0)


class Feeds:
    """Some who tell the reference prices of some symbols at once, and do not agree on the time."""

    def __init__(self, party: Party) -> None:
        self._party = party

    async def work(self) -> None:
        """Move prices now and then, until the process ends."""
        async for _ in self._party.every(self._party.system.plan.refer_rate):
            self._party.begin(self.send_prices())

    async def send_prices(self) -> None:
        """Tell prices, of now or a moment ago."""
        chance, symbols = self._party.random, self._party.system.market.symbols
        named = chance.sample(list(symbols), chance.randint(1, len(symbols)))
        time = self._party.system.broker.clock() - timedelta(seconds=chance.choice((0.0, 0.0, chance.uniform(0, 2))))
        prices = {
            symbol: symbols[symbol].reference_price + Decimal(chance.randint(-40, 40)) * symbols[symbol].tick
            for symbol in named
        }
        asked = PutReferences(time=time, prices=prices)

        async def send_prices(exchange: Any) -> Any:
            return await exchange.refer(asked, "feed")

        self._party.world.trace.add("client", "tells", f"the prices of {', '.join(sorted(named))}")
        await self._party.ask(self._party.one_of("exchange"), send_prices, 3.0)
