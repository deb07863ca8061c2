"""Checks the limit during a run: ten times per second, what the services themselves report as in use."""

import asyncio
from collections.abc import Sequence

import aiohttp
import msgspec

from wire.quotes import Quote
from wire.reservations import Exposure

EVERY = 0.1
"""Seconds between two samples."""

TIMEOUT = 1.0

_exposure = msgspec.json.Decoder(Exposure).decode
_quotes = msgspec.json.Decoder(list[Quote]).decode


class Samples(msgspec.Struct):
    """The samples taken so far.

    Attributes:
        taken: how many responses were checked.
        most: the most lots in use on one side.
        exceeded: one line for each response that shows more than the limit.
    """

    taken: int = 0
    most: int = 0
    exceeded: list[str] = []

    def exposure(self, exposure: Exposure, limit: int, where: str) -> None:
        """Check a response of an exposure service."""
        self._check(exposure.bid.used, exposure.ask.used, limit, f"exposure at {where}")

    def quotes(self, quotes: Sequence[Quote], limit: int, where: str) -> None:
        """Check an exchange's active quotes."""
        bid = sum(quote.remaining_bid_quantity for quote in quotes)
        ask = sum(quote.remaining_ask_quantity for quote in quotes)
        self._check(bid, ask, limit, f"quotes at {where}")

    def _check(self, bid: int, ask: int, limit: int, what: str) -> None:
        self.taken += 1
        self.most = max(self.most, bid, ask)
        if max(bid, ask) > limit:
            self.exceeded.append(f"{what}: {bid} lots bid, {ask} lots ask, over the limit of {limit}")


class Sampler:
    """Samples until cancelled."""

    def __init__(self, exposures: Sequence[str], exchanges: Sequence[str], limit: int) -> None:
        self._exposures = exposures
        self._exchanges = exchanges
        self._limit = limit
        self.samples = Samples()

    async def run(self) -> None:
        """Sample every instance in its own task, so that a paused one does not delay the others."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            for address in self._exposures:
                group.create_task(self._exposure(session, address))
            for address in self._exchanges:
                group.create_task(self._quotes(session, address))

    async def _exposure(self, session: aiohttp.ClientSession, address: str) -> None:
        while True:
            if body := await _get(session, f"{address}/exposure"):
                self.samples.exposure(_exposure(body), self._limit, address)
            await asyncio.sleep(EVERY)

    async def _quotes(self, session: aiohttp.ClientSession, address: str) -> None:
        while True:
            if body := await _get(session, f"{address}/quotes"):
                self.samples.quotes(_quotes(body), self._limit, address)
            await asyncio.sleep(EVERY)


async def _get(session: aiohttp.ClientSession, url: str) -> bytes | None:
    """Return the body of a response with status 200; None without one."""
    try:
        async with session.get(url) as response:
            return await response.read() if response.status == 200 else None
    except (aiohttp.ClientError, OSError):
        return None
