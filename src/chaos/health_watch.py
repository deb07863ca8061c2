"""Polls the health of a stack's processes: until all are ready, during the faults, and until all have recovered."""

import asyncio
import time
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from chaos.recovery import Recoveries
from chaos.schedule import EVERYTHING
from chaos.system import NotStarted, System
from wire.quotes import Quote

START_TIMEOUT = 60.0
"""Seconds within which the stack must be ready, even on a busy machine."""

HEALED_WITHIN = 30.0
"""Seconds after the last fault within which all must be ready and every symbol quoted, unless a run sets another
time."""

ANSWER_TIMEOUT = 1.0

POLL = 0.05

_quotes = msgspec.json.Decoder(list[Quote]).decode


class NotHealed(Exception):  # noqa: N818 # names what happened
    """Something did not recover by itself; the message says what."""


class HealthWatch:
    """Polls one system, and reports to its recoveries what is ready again. A context manager.

    `healed_within`: seconds within which everything must have recovered.
    """

    def __init__(self, system: System, recoveries: Recoveries, healed_within: float = HEALED_WITHIN) -> None:
        self._healed_within = healed_within
        self._system = system
        self._recoveries = recoveries

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def get(self, url: str) -> bytes | None:
        """Return the body of a response with status 200; None without one."""
        try:
            async with self._http.get(url) as response:
                return await response.read() if response.status == 200 else None
        except (aiohttp.ClientError, OSError):
            return None

    async def until_started(self) -> None:
        """Wait until everything is ready.

        Raises:
            NotStarted: it is not ready after `START_TIMEOUT`, or the stack has ended.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while problems := await self._problems():
            if self._system.ended or time.monotonic() > deadline:
                raise NotStarted(f"{'; '.join(problems)}\n{self._system.output()}")
            await asyncio.sleep(POLL)

    async def until_healed(self) -> float:
        """Wait until everything has recovered and orders are filled again. Return the seconds that this took.

        Raises:
            NotHealed: it takes longer than `healed_within`.
        """
        began = time.monotonic()
        waiting_for = ["nothing was checked"]
        while time.monotonic() - began < self._healed_within and not self._system.ended:
            waiting_for = await self._problems()
            if not waiting_for and not self._recoveries.trading_awaited:
                return round(time.monotonic() - began, 2)
            await asyncio.sleep(POLL)
        if not waiting_for:
            waiting_for = ["no order was filled"]
        raise NotHealed(f"not healed within {self._healed_within:g} s: {'; '.join(waiting_for)}")

    def watchers(self) -> list[Coroutine[Any, Any, None]]:
        """Return coroutines that report to the recoveries whenever a process, or everything, is ready.

        Each runs until cancelled.
        """
        each = [self._watch(program.name, program.health) for program in self._system.plan if program.health]
        return [*each, self._watch_everything()]

    async def _watch(self, name: str, health: str) -> None:
        while True:
            asked = time.monotonic()
            if await self.get(health) is not None:
                self._recoveries.ready(name, asked, time.monotonic())
            await asyncio.sleep(POLL)

    async def _watch_everything(self) -> None:
        while True:
            asked = time.monotonic()
            if not await self._problems():
                self._recoveries.ready(EVERYTHING, asked, time.monotonic())
            await asyncio.sleep(5 * POLL)

    async def _problems(self) -> list[str]:
        """Return which processes are not ready, and which symbols are not quoted."""
        plan = [program for program in self._system.plan if program.health]
        bodies = await asyncio.gather(*(self.get(program.health) for program in plan))
        found = [f"{program.name} is not ready" for program, body in zip(plan, bodies, strict=True) if body is None]
        for address in self._system.addresses("exchange"):
            body = await self.get(f"{address}/quotes")
            quoted = {quote.symbol for quote in _quotes(body)} if body is not None else set()
            found += [f"{symbol} is not quoted" for symbol in self._system.settings.market.symbols.keys() - quoted]
        return found
