"""Clients that change instruments and terms while everything runs, and feeds that send reference prices."""

import contextlib
from datetime import timedelta
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from jet import definition_log
from jet.connection import Connection
from simulation.client_process import ClientProcess
from simulation.world import Process
from wire.definitions import Change, Definitions, changes
from wire.errors import Refused
from wire.references import PutReferences
from wire.units import FieldError


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


class Lifetimes:
    """An operator that changes the lifetime of quotes."""

    def __init__(self, host: ClientProcess) -> None:
        self._host = host
        self._changing = False

    async def work(self) -> None:
        """Change the lifetime until the process ends."""
        async for _ in self._host.every(self._host.system.plan.ttl_rate):
            if not self._changing:
                self.change()

    def change(self) -> None:
        """Change the lifetime of quotes that become active from now on to half, once or twice the planned one."""
        quote_ttl = self._host.system.plan.quote_ttl * self._host.random.choice((0.5, 1.0, 2.0))

        def wanted(known: Definitions) -> list[Change]:
            return changes(known, replace(known.terms, quote_ttl=quote_ttl) if known.terms is not None else None, {})

        async def define(connection: Connection) -> None:
            with contextlib.suppress(Refused, FieldError):  # for example, if a lagging replica has no terms yet
                await definition_log.define(connection, wanted)

        def ended(_: Process, error: BaseException | None) -> None:
            self._changing = False
            if error is not None:
                self._host.wrong.append(f"an operator failed: {error!r}")

        self._changing = True
        self._host.world.trace.add("client", "asks", f"that quotes live {quote_ttl:g} s")
        self._host.system.begin_program("lifetime", define, "operator", ended)


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
