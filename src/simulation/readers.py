"""Clients that read, and check that what they read is no older than their request."""

from typing import Any

import msgspec

from simulation.client_process import ClientProcess
from wire.ids import NEVER
from wire.positions import Position
from wire.quotes import Quote


async def active_quote(host: ClientProcess, symbol: str) -> Quote | None:
    """Return a symbol's active quote from some exchange; None if there is none, or no answer."""

    async def route(exchange: Any) -> Quote:
        await exchange.confirm(symbol)
        return exchange.quote(symbol)  # type: ignore[no-any-return] # an exchange's answer

    asked, target = host.world.now, host.one_of("exchange")
    book = host.monitor.symbols[symbol]
    latest = book.event.version if book.event is not None else NEVER
    response = await host.request(target, route, 2.0)
    if response is None or response.status != 200:
        return None
    quote = msgspec.json.decode(response.body, type=Quote)
    version = quote.version
    if version < latest:
        host.wrong.append(f"{target}, asked at {asked:.3f}, returned quote {version} of {symbol} after {latest}")
    return quote


class Readers:
    """All clients that read."""

    def __init__(self, host: ClientProcess) -> None:
        self._host = host
        self._versions: dict[tuple[str, str], int] = {}

    async def work(self) -> None:
        """Read until the process ends."""
        async for _ in self._host.every(self._host.system.plan.read_rate):
            self._host.begin(self._read_positions())
            self._host.begin(self._read_exposure())

    async def _read_positions(self) -> None:
        async def route(ledger: Any) -> list[Position]:
            await ledger.confirm()
            return [update.position for update in ledger.snapshot()]

        ledger = self._host.one_of("ledger")
        asked = self._host.world.now
        before = dict(self._versions)
        recorded = {name: book.number for name, book in self._host.monitor.symbols.items()}
        response = await self._host.request(ledger, route, 2.0)
        if response is None or response.status != 200:
            return
        for position in msgspec.json.decode(response.body, type=list[Position]):
            known = before.get((ledger, position.symbol), 0)
            if position.position_version < known:
                self._host.wrong.append(
                    f"{ledger}, asked at {asked:.3f}, returned position {position.position_version} of "
                    f"{position.symbol}, and {known} before"
                )
            if position.position_version < recorded[position.symbol]:
                shown = f"{ledger}, asked at {asked:.3f}, returned position {position.position_version}"
                self._host.wrong.append(f"{shown} of {position.symbol}, but the log held {recorded[position.symbol]}")
            key = (ledger, position.symbol)
            self._versions[key] = max(self._versions.get(key, 0), position.position_version)

    async def _read_exposure(self) -> None:
        async def route(exposure: Any) -> Any:
            await exposure.confirm()
            return exposure.exposure()

        exposure = self._host.one_of("exposure")
        response = await self._host.request(exposure, route, 2.0)
        if response is None or response.status != 200:
            return
        shown = msgspec.json.decode(response.body)
        limit = self._host.system.market.limit
        if max(shown["bid"]["used"], shown["ask"]["used"]) > limit:
            self._host.wrong.append(f"{exposure} returned that more than the limit of {limit} is used: {shown}")
