"""A simulated broker for one test, in virtual time."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from jet import topology
from jet.connection import Connection
from process.health import Health
from process.settings import Market
from simulation.broker import Broker
from simulation.client import SimClient
from simulation.network import Latency
from simulation.stdlib import replaced
from simulation.trace import Trace
from simulation.world import Clock, Process, World
from support.broker import shape_of


class Simulated:
    """A world with a broker and one process, in which a test runs its coroutine."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed, Trace())
        self.broker = Broker(self.world, Latency())
        self.process = Process(self.world, "test", Clock(self.world), 1)

    def connection(self, name: str = "test") -> Connection:
        """Return a connection of the process; a context manager."""
        client = SimClient(self.process, self.broker, None, lambda: True)
        return Connection("nats://simulated", name, Health(name), client=client)

    def run(self, main: Callable[[], Coroutine[Any, Any, None]], seconds: float = 600.0) -> None:
        """Run a coroutine in the process until it is done."""
        ended: list[BaseException | None] = []

        def on_end(_: Process, error: BaseException | None) -> None:
            ended.append(error)
            self.world.stop()

        with replaced(self.world, 0.5):
            self.process.start(main(), on_end)
            self.world.run(seconds)
        self.world.leave()
        assert ended, f"not done after {seconds} s"
        if ended[0] is not None:
            raise ended[0]
        assert not self.world.uncaught

    def with_streams(self, market: Market, scenario: Callable[[Connection], Awaitable[None]]) -> None:
        """Run a scenario on a connection to a broker that holds the declared streams."""

        async def main() -> None:
            async with self.connection() as connection:
                await topology.prepare(connection, shape_of(market))
                await scenario(connection)

        self.run(main)
