"""Those who report fills to ledgers."""

import asyncio
import itertools
from datetime import datetime
from typing import Any

from simulation.party import RACE, Party
from simulation.readers import active_quote
from wire.orders import ReportedFill
from wire.positions import Position


class Bookers:
    """All who report.

    Attributes:
        booked: ids of reported fills that were acknowledged.
    """

    def __init__(self, party: Party) -> None:
        self.booked: set[str] = set()
        self._party = party

    async def work(self) -> None:
        """Report, until the process ends."""
        plan, symbols = self._party.system.plan, list(self._party.system.market.symbols)
        numbers = itertools.count(1)
        async for _ in self._party.every(plan.booking_rate):
            self._party.begin(self._report(self._party.random.choice(symbols), next(numbers)))

    async def _report(self, symbol: str, number: int) -> None:
        chance = self._party.random
        quote = await active_quote(self._party, symbol) if chance.random() < 0.5 else None
        side = "buy" if chance.random() < 0.5 else "sell"
        now: datetime = self._party.process.clock()
        price = self._party.system.market.symbols[symbol].reference_price
        if quote is not None:
            price = quote.ask_price if side == "buy" else quote.bid_price
        if not price:
            return
        fill = ReportedFill(
            fill_id=f"booked-{number}",
            order_id=f"elsewhere-{number}",
            symbol=symbol,
            side=side,  # type: ignore[arg-type] # it is one of the two
            quantity=chance.randint(1, 3),
            price=price,
            quote_id=quote.quote_id if quote else "elsewhere",
            created_at=now,
        )

        async def route(ledger: Any) -> Position:
            position, _ = await ledger.report(fill)
            return position  # type: ignore[no-any-return] # a ledger's answer

        for _ in range(8):
            ledger = self._party.one_of("ledger")
            response = await self._party.ask(ledger, route, 6.0)
            if response is not None and response.status == 200:
                self.booked.add(fill.fill_id)
                if chance.random() < RACE:
                    await asyncio.sleep(chance.choice((0.0, 2.0 * chance.random())))
                    again = self._party.one_of("ledger")
                    response = await self._party.ask(again, route, 6.0)
                    if response is not None and response.status not in (200, 503):
                        self._party.wrong.append(
                            f"{fill.fill_id} is booked, and reported again to {again}: {response.body!r}"
                        )
                return
            if response is not None and response.status != 503:
                if b"quarantined" in response.body:  # it was appended, and its id is no other fill's
                    self._party.wrong.append(f"{fill.fill_id} is refused by {ledger}: {response.body!r}")
                return
            await asyncio.sleep(1.0)
