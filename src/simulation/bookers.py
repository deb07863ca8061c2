"""Clients that report to ledgers fills that were executed elsewhere."""

import asyncio
import itertools
from datetime import datetime
from typing import Any

from simulation.client_process import RACE, ClientProcess
from simulation.readers import active_quote
from wire.orders import ReportedFill
from wire.positions import Position


class Bookers:
    """All clients that report fills.

    Attributes:
        booked: ids of reported fills that were acknowledged.
    """

    def __init__(self, host: ClientProcess) -> None:
        self.booked: set[str] = set()
        self._host = host

    async def work(self) -> None:
        """Report fills until the process ends."""
        plan, symbols = self._host.system.plan, list(self._host.system.market.symbols)
        numbers = itertools.count(1)
        async for _ in self._host.every(plan.booking_rate):
            self._host.begin(self._report(self._host.random.choice(symbols), next(numbers)))

    async def _report(self, symbol: str, number: int) -> None:
        rng = self._host.random
        quote = await active_quote(self._host, symbol) if rng.random() < 0.5 else None
        side = "buy" if rng.random() < 0.5 else "sell"
        now: datetime = self._host.process.clock()
        price = self._host.system.market.symbols[symbol].reference_price
        if quote is not None:
            price = quote.ask_price if side == "buy" else quote.bid_price
        if not price:
            return
        fill = ReportedFill(
            fill_id=f"booked-{number}",
            order_id=f"elsewhere-{number}",
            symbol=symbol,
            side=side,  # type: ignore[arg-type] # it is one of the two
            quantity=rng.randint(1, 3),
            price=price,
            quote_id=quote.quote_id if quote else "elsewhere",
            created_at=now,
        )

        async def route(ledger: Any) -> Position:
            position, _ = await ledger.report(fill)
            return position  # type: ignore[no-any-return] # a ledger's answer

        for _ in range(8):
            ledger = self._host.one_of("ledger")
            response = await self._host.request(ledger, route, 6.0)
            if response is not None and response.status == 200:
                self.booked.add(fill.fill_id)
                if rng.random() < RACE:
                    await asyncio.sleep(rng.choice((0.0, 2.0 * rng.random())))
                    again = self._host.one_of("ledger")
                    response = await self._host.request(again, route, 6.0)
                    if response is not None and response.status not in (200, 503):
                        self._host.wrong.append(
                            f"{fill.fill_id} is recorded, but {again} refuses a second report of it: {response.body!r}"
                        )
                return
            if response is not None and response.status != 503:
                if b"quarantined" in response.body:  # it was appended, and no other fill has its id
                    self._host.wrong.append(f"{fill.fill_id} is refused by {ledger}: {response.body!r}")
                return
            await asyncio.sleep(1.0)
