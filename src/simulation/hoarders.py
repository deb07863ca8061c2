"""Clients that keep reserving the whole limit and never quote."""

import itertools
from typing import Any

from simulation.client_process import ClientProcess
from wire.reservations import ReservationAnswer, ReservationRequest


class Hoarders:
    """All hoarders, which are one asker."""

    def __init__(self, host: ClientProcess) -> None:
        self._host = host

    async def work(self) -> None:
        """Reserve the whole limit again and again until the process ends."""
        plan, symbols = self._host.system.plan, list(self._host.system.market.symbols)
        numbers = itertools.count(1)
        async for _ in self._host.every(plan.hoard_rate):
            wanted = ReservationRequest(
                quote_id=f"hoard-{next(numbers)}",
                symbol=self._host.random.choice(symbols),
                bid_quantity=plan.limit,
                ask_quantity=plan.limit,
            )
            self._host.begin(self._reserve(wanted))

    async def _reserve(self, wanted: ReservationRequest) -> None:
        async def reserve(exposure: Any) -> ReservationAnswer:
            return (await exposure.reserve(wanted, "token hoarder")).answer  # type: ignore[no-any-return] # exposure's answer

        await self._host.request(self._host.one_of("exposure"), reserve, 3.0)
