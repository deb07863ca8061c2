"""Those who quote by hand, as no maker does, and withdraw whatever is active."""

import itertools
from contextlib import suppress
from typing import Any

import msgspec

from simulation import leftovers
from simulation.party import PATIENCE, Party
from simulation.readers import active_quote
from wire.errors import Refused
from wire.quotes import Quote, QuoteRequest
from wire.reservations import ReservationAnswer, ReservationRequest

WITHDRAWN = 0.3
"""The share of quotes by hand beside which whatever is active is withdrawn."""


HAND = "token hand"
"""Who quotes by hand, as services tell askers apart."""


class Quoters:
    """All who quote by hand."""

    def __init__(self, party: Party) -> None:
        self._party = party

    async def work(self) -> None:
        """Quote now and then, until the process ends."""
        symbols = list(self._party.system.market.symbols)
        numbers = itertools.count(1)
        async for _ in self._party.every(self._party.system.plan.hand_rate):
            symbol = self._party.random.choice(symbols)
            if self._party.random.random() < WITHDRAWN:
                self._party.begin(self._withdraw(symbol))
            self._party.begin(self._put(symbol, f"hand-{next(numbers)}"))

    async def _withdraw(self, symbol: str) -> None:
        """Withdraw whatever is active, without a name: what is meant is what the exchange decides it on first."""
        meant: list[str] = []

        async def route(exchange: Any) -> Quote:
            if leftovers.is_idle(exchange, symbol):
                with suppress(Refused):
                    meant.append(exchange.quote(symbol).quote_id)
            return await exchange.withdraw(symbol)  # type: ignore[no-any-return] # an exchange's answer

        target = self._party.one_of("exchange")
        response = await self._party.ask(target, route, PATIENCE)
        if response is not None and response.status == 200 and meant:
            withdrawn = msgspec.json.decode(response.body, type=Quote).quote_id
            if withdrawn != meant[0]:
                self._party.wrong.append(f"{target} was to withdraw {meant[0]}, and has withdrawn {withdrawn}")

    async def _put(self, symbol: str, quote_id: str) -> None:
        """Reserve up to the whole limit, as no maker does, and publish what was granted."""
        chance, plan = self._party.random, self._party.system.plan
        latest = await active_quote(self._party, symbol)
        if latest is None:
            return
        bid, ask = chance.randint(0, plan.limit), chance.randint(1, plan.limit)
        wanted = ReservationRequest(quote_id=quote_id, symbol=symbol, bid_quantity=bid, ask_quantity=ask)

        async def reserve(exposure: Any) -> ReservationAnswer:
            return (await exposure.reserve(wanted, HAND)).answer  # type: ignore[no-any-return] # exposure's answer

        answers = [
            msgspec.json.decode(response.body, type=ReservationAnswer)
            for response in await self._party.race("exposure", reserve)
            if response is not None and response.status == 200
        ]
        grants = [answer.reservation for answer in answers if answer.reservation is not None]
        if not grants:
            return
        first, granted = (of(grants, key=lambda each: each.granted_at) for of in (min, max))
        if first.granted_at != granted.granted_at < first.expires_at:
            self._party.wrong.append(f"{quote_id} was asked for twice, and granted twice: {answers}")
        reference = self._party.system.market.symbols[symbol].reference_price
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

        responses = await self._party.race("exchange", put)
        if not any(response is not None and response.status == 200 for response in responses):

            async def release(exposure: Any) -> Any:
                return await exposure.release(granted.reservation_id)

            await self._party.ask(self._party.one_of("exposure"), release, 3.0)
