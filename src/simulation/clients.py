"""All clients of the system: they send orders, report fills, quote by hand, pause, resume and read."""

import asyncio
from pathlib import Path

from simulation.bookers import Bookers
from simulation.careless import Careless
from simulation.client_process import ClientProcess
from simulation.definers import Definers, Feeds, Lifetimes
from simulation.forgers import Forgers
from simulation.hoarders import Hoarders
from simulation.operators import Operators
from simulation.oracles import Monitor
from simulation.quoters import Quoters
from simulation.readers import Readers
from simulation.resumers import Resumers
from simulation.system import System
from simulation.traders import Traders
from simulation.world import Process


class Clients(ClientProcess):
    """All clients, in one process.

    Attributes:
        history: the file of orders and answers.
        traders: send orders.
        operators: set the kill switch.
        bookers: report fills.
        definers: change instruments.
        careless: send forbidden requests.
    """

    def __init__(self, system: System, folder: Path, monitor: Monitor) -> None:
        super().__init__(system, monitor)
        self.history = folder / "history.jsonl"
        self.traders = Traders(self, self.history)
        self.operators = Operators(self)
        self.bookers = Bookers(self)
        self._quoters = Quoters(self)
        self._hoarders = Hoarders(self)
        self.careless = Careless(self, lambda: self.traders.filled)
        self._forgers = Forgers(self)
        self.definers = Definers(self)
        self._lifetimes = Lifetimes(self)
        self._feeds = Feeds(self)
        self._readers = Readers(self)
        self._resumers = Resumers(self)

    def start(self) -> None:
        """Start all clients whose rate is above 0."""
        plan = self.system.plan
        rates = (
            (self.traders, plan.order_rate),
            (self.operators, plan.switch_rate),
            (self.bookers, plan.booking_rate),
            (self._readers, plan.read_rate),
            (self._quoters, plan.hand_rate),
            (self._hoarders, plan.hoard_rate),
            (self.careless, plan.careless_rate),
            (self._forgers, plan.forge_rate),
            (self.definers, plan.define_rate),
            (self._lifetimes, plan.ttl_rate),
            (self._feeds, plan.refer_rate),
            (self._resumers, plan.resume_rate),
        )

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                for clients, rate in rates:
                    if rate:
                        group.create_task(clients.work())
                await asyncio.get_running_loop().create_future()

        self.process.start(main(), self._ended)

    def _ended(self, _: Process, error: BaseException | None) -> None:
        self.wrong.append(f"the clients ended: {error!r}")
