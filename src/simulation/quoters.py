"""Clients that quote by hand, unlike any maker, and withdraw whatever quote is active."""

import itertools
from contextlib import suppress
from typing import Any

import msgspec

from simulation import in_flight
from simulation.client_process import PATIENCE, ClientProcess
from simulation.readers import active_quote
from wire.errors import Refused
from wire.quotes import Quote, QuoteRequest
from wire.reservations import ReservationAnswer, ReservationRequest

WITHDRAWN = 0.3
"""The share of quotes by hand at which the active quote is withdrawn at the same time."""

HAND = "token hand"
"""The name by which services know this asker."""


class Quoters:
    """All clients that quote by hand, which are one asker."""

    def __init__(self, host: ClientProcess) -> None:
        self._host = host

    async def work(self) -> None:
        """Quote and withdraw until the process ends."""
        symbols = list(self._host.system.market.symbols)
        numbers = itertools.count(1)
        async for _ in self._host.every(self._host.system.plan.hand_rate):
            symbol = self._host.random.choice(symbols)
            if self._host.random.random() < WITHDRAWN:
                self._host.begin(self._withdraw(symbol))
            self._host.begin(self._put(symbol, f"hand-{next(numbers)}"))

    async def _withdraw(self, symbol: str) -> None:
        """Withdraw without a quote id: that means the quote that was active when the withdrawal arrived."""
        active: list[str] = []

        async def route(exchange: Any) -> Quote:
            if in_flight.is_idle(exchange, symbol):
                with suppress(Refused):
                    active.append(exchange.quote(symbol).quote_id)
            return await exchange.withdraw(symbol)  # type: ignore[no-any-return] # an exchange's answer

        target = self._host.one_of("exchange")
        response = await self._host.request(target, route, PATIENCE)
        if response is not None and response.status == 200 and active:
            withdrawn = msgspec.json.decode(response.body, type=Quote).quote_id
            if withdrawn != active[0]:
                self._host.wrong.append(f"{target} was to withdraw {active[0]}, but has withdrawn {withdrawn}")

    async def _put(self, symbol: str, quote_id: str) -> None:
        """Reserve up to the whole limit, which no maker does, and put a quote of what was granted."""
        rng, plan = self._host.random, self._host.system.plan
        latest = await active_quote(self._host, symbol)
        if latest is None:
            return
        bid, ask = rng.randint(0, plan.limit), rng.randint(1, plan.limit)
        wanted = ReservationRequest(quote_id=quote_id, symbol=symbol, bid_quantity=bid, ask_quantity=ask)

        async def reserve(exposure: Any) -> ReservationAnswer:
            return (await exposure.reserve(wanted, HAND)).answer  # type: ignore[no-any-return] # exposure's answer

        answers = [
            msgspec.json.decode(response.body, type=ReservationAnswer)
            for response in await self._host.race("exposure", reserve)
            if response is not None and response.status == 200
        ]
        grants = [answer.reservation for answer in answers if answer.reservation is not None]
        if not grants:
            return
        first, granted = (pick(grants, key=lambda grant: grant.granted_at) for pick in (min, max))
        if first.granted_at != granted.granted_at < first.expires_at:
            self._host.wrong.append(f"{quote_id} was requested twice, and granted twice: {answers}")
        reference = self._host.system.market.symbols[symbol].reference_price
        request = QuoteRequest(
            quote_id=quote_id,
            reservation_id=granted.reservation_id,
            position_version=latest.position_version,
            revision=latest.revision,
            attempt=latest.attempt + 1,
            bid_price=reference - 1,
            bid_quantity=granted.reserved_bid_quantity,
            ask_price=reference + 1,
            ask_quantity=granted.reserved_ask_quantity,
        )

        async def put(exchange: Any) -> Quote:
            return await exchange.put_quote(symbol, request, HAND)  # type: ignore[no-any-return] # an exchange's answer

        responses = await self._host.race("exchange", put)
        if not any(response is not None and response.status == 200 for response in responses):

            async def release(exposure: Any) -> Any:
                return await exposure.release(granted.reservation_id)

            await self._host.request(self._host.one_of("exposure"), release, 3.0)
