"""Those who reserve all there is, again and again, and never quote."""

import itertools
from typing import Any

from simulation.party import Party
from wire.reservations import ReservationAnswer, ReservationRequest


class Hoarders:
    """All who hoard: one asker."""

    def __init__(self, party: Party) -> None:
        self._party = party

    async def work(self) -> None:
        """Reserve the whole limit, until the process ends."""
        plan, symbols = self._party.system.plan, list(self._party.system.market.symbols)
        numbers = itertools.count(1)
        async for _ in self._party.every(plan.hoard_rate):
            wanted = ReservationRequest(
                quote_id=f"hoard-{next(numbers)}",
                symbol=self._party.random.choice(symbols),
                bid_quantity=plan.limit,
                ask_quantity=plan.limit,
            )
            self._party.begin(self._reserve(wanted))

    async def _reserve(self, wanted: ReservationRequest) -> None:
        async def reserve(exposure: Any) -> ReservationAnswer:
            return (await exposure.reserve(wanted, "token hoarder")).answer  # type: ignore[no-any-return] # exposure's answer

        await self._party.ask(self._party.one_of("exposure"), reserve, 3.0)
