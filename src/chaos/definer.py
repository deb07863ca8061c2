"""Changes reference prices during a run, and checks that no acknowledged change is lost."""

import asyncio
import random
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec
from msgspec.structs import replace

from wire.instruments import Instrument, ListedInstrument

EVERY = 0.5
"""Seconds between two changes."""

TIMEOUT = 5.0

_listed = msgspec.json.Decoder(ListedInstrument).decode
_all = msgspec.json.Decoder(list[ListedInstrument]).decode


class Definer:
    """Changes one instrument after the other until cancelled.

    Attributes:
        acknowledged: how many changes an exchange has acknowledged.
        findings: violations, as text.
    """

    def __init__(self, exchanges: Sequence[str], instruments: Mapping[str, Instrument], seed: int) -> None:
        self.acknowledged = 0
        self.findings: list[str] = []
        self._exchanges = exchanges
        self._instruments = instruments
        self._rng = random.Random(f"{seed}/definer")
        self._revisions: dict[str, int] = {}

    async def run(self) -> None:
        """Move a random reference price through a random exchange, every `EVERY` seconds."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:
            while True:
                await asyncio.sleep(EVERY)
                await self._move(session, self._rng.choice(list(self._instruments)))

    async def compare(self) -> None:
        """Check on every exchange, once all has healed, that no acknowledged change was lost."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:
            for address in self._exchanges:
                try:
                    async with session.get(f"{address}/instruments") as response:
                        body = await response.read()
                except (aiohttp.ClientError, OSError) as error:
                    self.findings.append(f"{address} does not return the instruments: {error!r}")
                    continue
                if response.status != 200:
                    self.findings.append(f"{address} does not return the instruments: {response.status}")
                    continue
                for listed in _all(body):
                    self._check(listed.symbol, listed.revision, address)

    async def _move(self, session: aiohttp.ClientSession, symbol: str) -> None:
        instrument, address = self._instruments[symbol], self._rng.choice(self._exchanges)
        moved = instrument.reference_price + self._rng.randint(-10, 10) * instrument.tick
        body = msgspec.json.encode(replace(instrument, reference_price=moved))
        try:
            async with session.put(
                f"{address}/instruments/{symbol}", data=body, headers={"Content-Type": "application/json"}
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError):
            return
        if response.status == 200:  # otherwise it may not be in force
            self.acknowledged += 1
            listed = _listed(answer)
            self._check(symbol, listed.revision, address)
            self._revisions[symbol] = max(self._revisions.get(symbol, 0), listed.revision)

    def _check(self, symbol: str, revision: int, where: str) -> None:
        known = self._revisions.get(symbol, 0)
        if revision < known:
            self.findings.append(f"{symbol} is at revision {revision} at {where}, but {known} was acknowledged")
