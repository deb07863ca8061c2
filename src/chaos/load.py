"""Orders during the faults: the load generator's own code, and a probe that notices when trading resumes.

Every order is resent, identically, until its outcome is known. All of them are in one history.
"""

import asyncio
import itertools
import time
from types import TracebackType
from typing import Self

from chaos.recovery import Recoveries
from chaos.system import ID_WINDOW
from loadgen.client import Exchange
from loadgen.flow import CROSSING_OFFSET
from loadgen.history import History
from loadgen.plan import Plan
from loadgen.service import LoadGenerator
from wire.instruments import Instrument
from wire.orders import Order
from wire.units import floor_to_tick

PATIENCE = 0.8 * ID_WINDOW
"""Seconds for which an order is resent: after that its id might be forgotten, and it would be a new order."""

PROBE_EVERY = 0.1
"""Seconds between two probes while it is unknown whether trading has resumed."""

PROBES = 40
"""The most probes in flight."""


class Load:
    """The load generator, with a history. A context manager.

    Attributes:
        tally: its counts so far.
    """

    def __init__(self, plan: Plan, history: History) -> None:
        self._stopping = asyncio.Event()
        self._exchanges = Exchange(plan.url, plan.concurrency, self._stopping, history, PATIENCE)
        self._generator = LoadGenerator(plan, self._exchanges, self._stopping)
        self.tally = self._generator.tally
        history.run(plan)

    async def __aenter__(self) -> Self:
        await self._exchanges.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exchanges.__aexit__(kind, error, trace)

    async def run(self) -> None:
        """Send the planned orders; return once every outcome is known."""
        await self._generator.run()

    def give_up(self) -> None:
        """Stop resending: orders without a response keep an unknown outcome."""
        self._stopping.set()


class Probe:
    """Sends orders of one lot that any quote fills, until it is known that trading has resumed. A context manager."""

    def __init__(
        self,
        run_id: str,
        url: str,
        instruments: dict[str, Instrument],
        history: History,
        recoveries: Recoveries,
    ) -> None:
        self._run_id = f"{run_id}-probe"
        self._instruments = instruments
        self._recoveries = recoveries
        self._stopping = asyncio.Event()
        self._exchanges = Exchange(url, PROBES, self._stopping, history, PATIENCE)
        self._in_flight: set[asyncio.Task[None]] = set()
        self.sent = 0

    async def __aenter__(self) -> Self:
        await self._exchanges.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        await self._exchanges.__aexit__(kind, error, trace)

    async def run(self) -> None:
        """Send probes whenever it is unknown whether trading has resumed, until cancelled. `settle` waits for those in
        flight."""
        orders = self._orders()
        while True:
            if self._recoveries.trading_awaited and len(self._in_flight) < PROBES:
                task = asyncio.create_task(self._send(next(orders)))
                self._in_flight.add(task)
                task.add_done_callback(self._in_flight.discard)
            await asyncio.sleep(PROBE_EVERY)

    async def settle(self) -> None:
        """Wait until every probe's outcome is known."""
        await asyncio.gather(*self._in_flight)

    def give_up(self) -> None:
        """Stop resending, as `Load.give_up` does."""
        self._stopping.set()

    async def _send(self, order: Order) -> None:
        sent = time.monotonic()
        self.sent += 1
        outcome = await self._exchanges.submit(order)
        if outcome.filled:
            self._recoveries.filled(sent, time.monotonic())

    def _orders(self) -> "itertools.chain[Order]":
        return itertools.chain.from_iterable(self._round(number) for number in itertools.count())

    def _round(self, number: int) -> list[Order]:
        """Return one order for each symbol, all on one side, with limit prices as generous as the load's."""
        buys = number % 2 == 0
        return [
            Order(
                order_id=f"{self._run_id}-{number}-{symbol}",
                symbol=symbol,
                side="buy" if buys else "sell",
                quantity=1,
                limit_price=floor_to_tick(
                    instrument.reference_price * (1 + (CROSSING_OFFSET if buys else -CROSSING_OFFSET)), instrument.tick
                ),
            )
            for symbol, instrument in self._instruments.items()
        ]
