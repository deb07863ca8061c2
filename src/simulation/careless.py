"""Clients that do what the protocol forbids. All of it must be refused; the oracles check that it changes nothing."""

import itertools
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import msgspec

from simulation.client_process import PATIENCE, ClientProcess
from simulation.readers import active_quote
from wire.ids import reservation_id
from wire.orders import Fill, Order
from wire.quotes import ATTEMPTS_AHEAD, Quote, QuoteRequest
from wire.reservations import ReservationAnswer, ReservationRequest

CARELESS = "token careless"
"""The name by which services know this asker."""

FAR = 1000
"""More fills, revisions or attempts than any run makes."""

REMEMBERED = 5.0
"""An order id is reused within this many seconds after its execution, so that it is still remembered when the second
order is decided, however short the id window is."""


class Careless:
    """All careless clients, which are one asker.

    Attributes:
        refused: how many forbidden requests were answered. Any answer but a refusal is a violation.
    """

    def __init__(self, host: ClientProcess, filled: Callable[[], tuple[Order, float] | None]) -> None:
        """`filled` returns the order that last became known to have executed, and when."""
        self.refused = 0
        self._host = host
        self._filled = filled
        self._numbers = itertools.count(1)

    async def work(self) -> None:
        """Send forbidden requests until the process ends."""
        symbols = list(self._host.system.market.symbols)
        offences = (self._reuse_order_id, self._order, self._quote, self._reserve, self._disturb)
        async for _ in self._host.every(self._host.system.plan.careless_rate):
            offence = self._host.random.choice(offences)
            self._host.begin(offence(self._host.random.choice(symbols)))

    async def _forbidden(self, service: str, what: str, route: Callable[[Any], Awaitable[Any]]) -> None:
        """Send a request that must be refused."""
        target = self._host.one_of(service)
        response = await self._host.request(target, route, PATIENCE)
        if response is None:
            return
        if response.status == 200:
            self._host.wrong.append(f"{target} does not refuse {what}: {response.body!r}")
        self.refused += 1

    # --- orders -------------------------------------------------------------------------------------------------------

    async def _reuse_order_id(self, _: str) -> None:
        """Send another order under the id of one that executed. It is for the same symbol: otherwise it may execute."""
        found = self._filled()
        if found is None or self._host.world.now - found[1] > REMEMBERED:
            return
        order = found[0]
        other = self._host.random.choice(
            (
                msgspec.structs.replace(order, quantity=order.quantity + 1),
                msgspec.structs.replace(order, side="sell" if order.side == "buy" else "buy"),
                msgspec.structs.replace(order, limit_price=order.limit_price + 1),
            )
        )
        await self._forbidden("exchange", f"{other}, whose id {order} has used", lambda exchange: exchange.order(other))

    async def _order(self, symbol: str) -> None:
        """Send an order for an unknown symbol, or at a price that is no multiple of the tick."""
        rng = self._host.random
        order = Order(
            order_id=f"careless-{next(self._numbers)}",
            symbol="NOSUCH" if rng.random() < 0.5 else symbol,
            side="buy" if rng.random() < 0.5 else "sell",
            quantity=rng.randint(1, 10),
            limit_price=Decimal("100.000001"),
        )
        await self._forbidden("exchange", str(order), lambda exchange: exchange.order(order))

    # --- quotes -------------------------------------------------------------------------------------------------------

    async def _quote(self, symbol: str) -> None:
        """Put a quote of more than was granted, or of fills, revisions or attempts that do not exist, or another one
        under the id of the active quote."""
        rng = self._host.random
        latest = await active_quote(self._host, symbol)
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
        changes: dict[str, Any] = rng.choice(
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
        """Reserve a few lots, and return the reservation; None if it was not granted."""
        wanted = ReservationRequest(
            quote_id=f"careless-{next(self._numbers)}", symbol=symbol, bid_quantity=2, ask_quantity=2
        )
        answer = await self._ask_to_reserve(wanted)
        return answer.reservation if answer is not None else None

    # --- exposure -----------------------------------------------------------------------------------------------------

    async def _ask_to_reserve(self, wanted: ReservationRequest) -> ReservationAnswer | None:
        response = await self._host.request(self._host.one_of("exposure"), _reserving(wanted), PATIENCE)
        if response is None or response.status != 200:
            return None
        return msgspec.json.decode(response.body, type=ReservationAnswer)

    async def _reserve(self, symbol: str) -> None:
        """Reserve other quantities under a granted id, and for an unknown symbol."""
        granted = await self._granted(symbol)
        if granted is None:
            return
        more = ReservationRequest(quote_id=granted.quote_id, symbol=symbol, bid_quantity=3, ask_quantity=3)
        again = await self._ask_to_reserve(more)
        # The first grant may have expired in between: then this is another grant.
        if again is not None and again.reservation is not None and again.reservation.granted_at == granted.granted_at:
            self._host.wrong.append(f"{more} is not refused after {granted}: {again}")
        unknown = msgspec.structs.replace(more, symbol="NOSUCH", quote_id=f"careless-{next(self._numbers)}")
        await self._forbidden("exposure", str(unknown), _reserving(unknown))

    async def _disturb(self, symbol: str) -> None:
        """Release the reservation of an active quote, and apply fills to it that never happened or that belong to
        another quote."""
        latest = await active_quote(self._host, symbol)
        if latest is None:
            return
        target = self._host.one_of("exposure")
        fill = self._invented_fill(latest)
        if self._host.random.random() < 0.5:
            await self._host.request(target, lambda exposure: exposure.release(latest.reservation_id), PATIENCE)
        await self._host.request(target, lambda exposure: exposure.apply_fill(latest.reservation_id, fill), PATIENCE)
        another = msgspec.structs.replace(fill, quote_id=f"not-{latest.quote_id}")
        await self._forbidden(
            "exposure",
            f"{another} on {latest.reservation_id}",
            lambda exposure: exposure.apply_fill(latest.reservation_id, another),
        )
        unknown = reservation_id(f"careless-{next(self._numbers)}")
        await self._forbidden("exposure", f"release of {unknown}", lambda exposure: exposure.release(unknown))

    def _invented_fill(self, quote: Quote) -> Fill:
        """Return a fill that no exchange has made."""
        return Fill(
            fill_id=f"{quote.symbol}-{10**9}",
            order_id="careless",
            symbol=quote.symbol,
            side="buy",
            quantity=max(1, quote.ask_quantity),
            price=quote.ask_price,
            quote_id=quote.quote_id,
            created_at=self._host.process.clock(),
        )


def _reserving(wanted: ReservationRequest) -> Callable[[Any], Awaitable[ReservationAnswer]]:
    """Return what `POST /reservations` calls."""

    async def route(exposure: Any) -> ReservationAnswer:
        return (await exposure.reserve(wanted, CARELESS)).answer  # type: ignore[no-any-return] # exposure's answer

    return route
