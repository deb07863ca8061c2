"""What all clients share: one process they are in, asking a service, and what they were told that cannot be."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from loadgen.http import Response
from simulation.oracles import Monitor
from simulation.system import System
from simulation.world import Clock, Process

PATIENCE = 12.0
"""Seconds that one waits for an answer who does not ask again."""

RACE = 0.4
"""The share of requests that are sent to two instances at nearly the same time."""


class Party:
    """The clients' process.

    Attributes:
        system: whom they ask. `monitor` sees what the broker stores.
        wrong: what a client was told that cannot be.
        running: they ask for new things.
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
        """Whether everything that was asked has its end."""
        return not self._busy

    def stop(self) -> None:
        """Ask for nothing new."""
        self.running = False

    def begin(self, work: Any) -> None:
        """Have something done that ends by itself."""
        task = self.process.loop.create_task(work)
        self._busy.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._busy.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.wrong.append(f"a client failed: {task.exception()!r}")

    async def every(self, rate: float) -> AsyncIterator[None]:
        """So many times a second, at random, until it is stopped."""
        while True:
            await asyncio.sleep(self.random.expovariate(rate))
            if self.running:
                yield

    def one_of(self, service: str) -> str:
        """The name of some instance of a service."""
        return self.random.choice(self.system.of(service)).name

    async def ask(self, target: str, route: Any, seconds: float) -> Response | None:
        """Ask once. None without an answer."""
        try:
            async with asyncio.timeout(seconds):
                return await self.system.web.ask(self.process, target, route)
        except OSError:
            return None

    async def race(self, service: str, route: Any) -> list[Response | None]:
        """Ask an instance of a service; or two, which may be the same, at nearly the same time."""
        chance = self.random
        names = [self.one_of(service) for _ in range(2 if chance.random() < RACE else 1)]

        async def ask(name: str, after: float) -> Response | None:
            await asyncio.sleep(after)
            return await self.ask(name, route, 3.0)

        delays = [0.0, chance.choice((0.0, 0.01 * chance.random(), chance.random()))]
        return await asyncio.gather(*(ask(name, delay) for name, delay in zip(names, delays, strict=False)))
