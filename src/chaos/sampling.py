"""Looking at the limit while a run goes on: what the services themselves say is in use, ten times a second."""

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
    """What was seen.

    Attributes:
        taken: answers that were looked at.
        most: the most lots seen in use on one side.
        over: one line for each answer that shows more than the limit.
    """

    taken: int = 0
    most: int = 0
    over: list[str] = []

    def exposure(self, exposure: Exposure, limit: int, where: str) -> None:
        """Look at an answer of the exposure service."""
        self._look(exposure.bid.used, exposure.ask.used, limit, f"exposure at {where}")

    def quotes(self, quotes: Sequence[Quote], limit: int, where: str) -> None:
        """Look at an exchange's active quotes."""
        bid = sum(quote.remaining_bid_quantity for quote in quotes)
        ask = sum(quote.remaining_ask_quantity for quote in quotes)
        self._look(bid, ask, limit, f"quotes at {where}")

    def _look(self, bid: int, ask: int, limit: int, what: str) -> None:
        self.taken += 1
        self.most = max(self.most, bid, ask)
        if max(bid, ask) > limit:
            self.over.append(f"{what}: {bid} lots bid, {ask} asked, over the limit of {limit}")


class Sampler:
    """Samples until cancelled."""

    def __init__(self, exposures: Sequence[str], exchanges: Sequence[str], limit: int) -> None:
        self._exposures = exposures
        self._exchanges = exchanges
        self._limit = limit
        self.samples = Samples()

    async def run(self) -> None:
        """Ask every instance at its own pace: one that is paused holds up no other."""
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
    """The body of a good answer; None for any other."""
    try:
        async with session.get(url) as response:
            return await response.read() if response.status == 200 else None
    except (aiohttp.ClientError, OSError):
        return None
