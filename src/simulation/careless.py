"""Those who do what the protocol forbids. They must be refused; that it changes nothing either is for the oracles."""

import itertools
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import msgspec

from simulation.party import PATIENCE, Party
from simulation.readers import active_quote
from wire.ids import reservation_id
from wire.orders import Fill, Order
from wire.quotes import ATTEMPTS_AHEAD, Quote, QuoteRequest
from wire.reservations import ReservationAnswer, ReservationRequest

CARELESS = "token careless"
"""Who asks, as services tell askers apart."""

FAR = 1000
"""Further than anything gets within a run: fills, revisions, attempts."""

REMEMBERED = 5.0
"""Seconds since an order executed within which its id is remembered for as long as an answer takes, whatever the id
window."""


class Careless:
    """All who are careless: one asker.

    Attributes:
        refused: how often something was that must be.
    """

    def __init__(self, party: Party, filled: Callable[[], tuple[Order, float] | None]) -> None:
        """`filled` is the order that was last known to have executed, and since when."""
        self.refused = 0
        self._party = party
        self._filled = filled
        self._numbers = itertools.count(1)

    async def work(self) -> None:
        """Ask for what is forbidden, until the process ends."""
        symbols = list(self._party.system.market.symbols)
        offences = (self._reuse_order_id, self._order, self._quote, self._reserve, self._disturb)
        async for _ in self._party.every(self._party.system.plan.careless_rate):
            offence = self._party.random.choice(offences)
            self._party.begin(offence(self._party.random.choice(symbols)))

    async def _forbidden(self, service: str, what: str, route: Callable[[Any], Awaitable[Any]]) -> None:
        """Ask for what must be refused."""
        target = self._party.one_of(service)
        response = await self._party.ask(target, route, PATIENCE)
        if response is None:
            return
        if response.status == 200:
            self._party.wrong.append(f"{target} does not refuse {what}: {response.body!r}")
        self.refused += 1

    # --- orders -------------------------------------------------------------------------------------------------------

    async def _reuse_order_id(self, _: str) -> None:
        """Send another order under the id of one that executed. Not for another symbol: that may execute."""
        found = self._filled()
        if found is None or self._party.world.now - found[1] > REMEMBERED:
            return
        order = found[0]
        other = self._party.random.choice(
            (
                msgspec.structs.replace(order, quantity=order.quantity + 1),
                msgspec.structs.replace(order, side="sell" if order.side == "buy" else "buy"),
                msgspec.structs.replace(order, limit_price=order.limit_price + 1),
            )
        )
        await self._forbidden("exchange", f"{other}, whose id {order} has used", lambda exchange: exchange.order(other))

    async def _order(self, symbol: str) -> None:
        """Order what is not traded, or at a price that there is not."""
        chance = self._party.random
        order = Order(
            order_id=f"careless-{next(self._numbers)}",
            symbol="NOSUCH" if chance.random() < 0.5 else symbol,
            side="buy" if chance.random() < 0.5 else "sell",
            quantity=chance.randint(1, 10),
            limit_price=Decimal("100.000001"),
        )
        await self._forbidden("exchange", str(order), lambda exchange: exchange.order(order))

    # --- quotes -------------------------------------------------------------------------------------------------------

    async def _quote(self, symbol: str) -> None:
        """Quote more than was granted, or from what there is not, or other prices under the id of the active quote."""
        chance = self._party.random
        latest = await active_quote(self._party, symbol)
        granted = await self._granted(symbol)
        if latest is None or granted is None or not (latest.bid_price and latest.ask_price):
            return
        honest = QuoteRequest(
            quote_id=granted.quote_id,
            reservation_id=granted.reservation_id,
            position_version=latest.position_version,
            revision=latest.revision,
            attempt=latest.attempt + 1,
            bid_price=latest.bid_price,
            bid_quantity=granted.reserved_bid_quantity,
            ask_price=latest.ask_price,
            ask_quantity=granted.reserved_ask_quantity,
        )
        changes: dict[str, Any] = chance.choice(
            (
                {"position_version": latest.position_version + FAR},
                {"revision": latest.revision + FAR},
                {"attempt": latest.attempt + ATTEMPTS_AHEAD + FAR},
                {"bid_quantity": granted.reserved_bid_quantity + 1},
                {"reservation_id": latest.reservation_id},
                {"ask_price": latest.ask_price + Decimal("0.000001")},
                {
                    "quote_id": latest.quote_id,
                    "reservation_id": latest.reservation_id,
                    "attempt": latest.attempt,
                    "bid_quantity": latest.bid_quantity + 1,
                },
            )
        )
        request = msgspec.structs.replace(honest, **changes)
        await self._forbidden(
            "exchange", f"{request} beside {latest}", lambda exchange: exchange.put_quote(symbol, request, CARELESS)
        )

    async def _granted(self, symbol: str) -> Any:
        """A reservation of a few lots."""
        wanted = ReservationRequest(
            quote_id=f"careless-{next(self._numbers)}", symbol=symbol, bid_quantity=2, ask_quantity=2
        )
        answer = await self._ask_to_reserve(wanted)
        return answer.reservation if answer is not None else None

    # --- exposure -----------------------------------------------------------------------------------------------------

    async def _ask_to_reserve(self, wanted: ReservationRequest) -> ReservationAnswer | None:
        response = await self._party.ask(self._party.one_of("exposure"), _reserving(wanted), PATIENCE)
        if response is None or response.status != 200:
            return None
        return msgspec.json.decode(response.body, type=ReservationAnswer)

    async def _reserve(self, symbol: str) -> None:
        """Reserve other quantities under an id that was granted, and for what is not traded."""
        granted = await self._granted(symbol)
        if granted is None:
            return
        more = ReservationRequest(quote_id=granted.quote_id, symbol=symbol, bid_quantity=3, ask_quantity=3)
        again = await self._ask_to_reserve(more)
        # Its time may have been over meanwhile: then it is another grant.
        if again is not None and again.reservation is not None and again.reservation.granted_at == granted.granted_at:
            self._party.wrong.append(f"{more} is not refused after {granted}: {again}")
        unknown = msgspec.structs.replace(more, symbol="NOSUCH", quote_id=f"careless-{next(self._numbers)}")
        await self._forbidden("exposure", str(unknown), _reserving(unknown))

    async def _disturb(self, symbol: str) -> None:
        """Release what an active quote needs, and apply fills to it that never were, or are another quote's."""
        latest = await active_quote(self._party, symbol)
        if latest is None:
            return
        target = self._party.one_of("exposure")
        fill = self._never(latest)
        if self._party.random.random() < 0.5:
            await self._party.ask(target, lambda exposure: exposure.release(latest.reservation_id), PATIENCE)
        await self._party.ask(target, lambda exposure: exposure.apply_fill(latest.reservation_id, fill), PATIENCE)
        another = msgspec.structs.replace(fill, quote_id=f"not-{latest.quote_id}")
        await self._forbidden(
            "exposure",
            f"{another} on {latest.reservation_id}",
            lambda exposure: exposure.apply_fill(latest.reservation_id, another),
        )
        unknown = reservation_id(f"careless-{next(self._numbers)}")
        await self._forbidden("exposure", f"release of {unknown}", lambda exposure: exposure.release(unknown))

    def _never(self, quote: Quote) -> Fill:
        """A fill that no exchange has made."""
        return Fill(
            fill_id=f"{quote.symbol}-{10**9}",
            order_id="careless",
            symbol=quote.symbol,
            side="buy",
            quantity=max(1, quote.ask_quantity),
            price=quote.ask_price,
            quote_id=quote.quote_id,
            created_at=self._party.process.clock(),
        )


def _reserving(wanted: ReservationRequest) -> Callable[[Any], Awaitable[ReservationAnswer]]:
    """What `POST /reservations` calls."""

    async def route(exposure: Any) -> ReservationAnswer:
        return (await exposure.reserve(wanted, CARELESS)).answer  # type: ignore[no-any-return] # exposure's answer

    return route
