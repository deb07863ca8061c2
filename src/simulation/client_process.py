"""The process that all simulated clients share: it sends their requests and collects the violations that they see."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from loadgen.http import Response
from simulation.oracles import Monitor
from simulation.system import System
from simulation.world import Clock, Process

PATIENCE = 12.0
"""Seconds that a client waits for an answer if it does not retry."""

RACE = 0.4
"""The share of requests that are sent to two instances at nearly the same time."""


class ClientProcess:
    """The clients' process.

    Attributes:
        system: the services that they send requests to.
        monitor: the oracles, which see everything that the broker stores.
        wrong: answers that violate an invariant.
        running: False once clients begin nothing new.
    """

    def __init__(self, system: System, monitor: Monitor) -> None:
        self.system = system
        self.world = system.world
        self.monitor = monitor
        self.process = Process(self.world, "client", Clock(self.world), 1)
        self.random = self.process.random
        self.wrong: list[str] = []
        self.running = True
        self._busy: set[asyncio.Task[Any]] = set()

    @property
    def idle(self) -> bool:
        """True if no client's work is unfinished."""
        return not self._busy

    def stop(self) -> None:
        """Begin nothing new."""
        self.running = False

    def begin(self, work: Any) -> None:
        """Start a coroutine that ends by itself."""
        task = self.process.loop.create_task(work)
        self._busy.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._busy.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.wrong.append(f"a client failed: {task.exception()!r}")

    async def every(self, rate: float) -> AsyncIterator[None]:
        """Yield at random times, `rate` times per second on average, except after `stop`."""
        while True:
            await asyncio.sleep(self.random.expovariate(rate))
            if self.running:
                yield

    def one_of(self, service: str) -> str:
        """Return the name of a random instance of a service."""
        return self.random.choice(self.system.of(service)).name

    async def request(self, target: str, route: Any, seconds: float) -> Response | None:
        """Send a request once. Return None if no answer comes within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                return await self.system.web.request(self.process, target, route)
        except OSError:
            return None

    async def race(self, service: str, route: Any) -> list[Response | None]:
        """Send a request to one instance of a service, or to two at nearly the same time, which may be the same one."""
        rng = self.random
        names = [self.one_of(service) for _ in range(2 if rng.random() < RACE else 1)]

        async def send(name: str, after: float) -> Response | None:
            await asyncio.sleep(after)
            return await self.request(name, route, 3.0)

        delays = [0.0, rng.choice((0.0, 0.01 * rng.random(), rng.random()))]
        return await asyncio.gather(*(send(name, delay) for name, delay in zip(names, delays, strict=False)))
