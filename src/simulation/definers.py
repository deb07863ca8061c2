"""Those who change instruments while everything runs."""

from typing import Any

from msgspec.structs import replace

from simulation.party import Party


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
