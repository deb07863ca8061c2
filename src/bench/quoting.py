"""Publish quotes as a maker would: reserve at exposure, then put the quote at the exchange, over HTTP."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from bench.stage import LIMIT, CouldNotMeasure, Stage
from loadgen.http import Address, Client
from wire import ids
from wire.quotes import QuoteRequest
from wire.reservations import ReservationAnswer, ReservationRequest

PARALLEL = 16
BID, ASK = Decimal("99.95"), Decimal("100.05")


async def quote(stage: Stage, attempt: int, symbols: Sequence[str], size: int | None = None) -> None:
    """Make a new quote of each symbol active, with `size` lots on each side, or with an equal share of the limit.

    Raises:
        CouldNotMeasure: a request was refused.
    """
    lots = size or LIMIT // len(stage.symbols)
    left = iter(symbols)
    exposure, exchange = Address(stage.url("exposure")), Address(stage.url("exchange"))
    with Client(exposure, PARALLEL) as reserving, Client(exchange, PARALLEL) as putting:

        async def work() -> None:
            for symbol in left:
                quote_id = ids.quote_id(symbol, ids.QuoteVersion(0, 0, attempt))
                request = ReservationRequest(quote_id=quote_id, symbol=symbol, bid_quantity=lots, ask_quantity=lots)
                answer = await reserving.request("POST", "/reservations", msgspec.json.encode(request))
                if answer.status != 201:
                    raise CouldNotMeasure(f"no reservation: {answer.body!r}")
                given = msgspec.json.decode(answer.body, type=ReservationAnswer)
                if given.outcome != "granted" or given.reservation is None:
                    raise CouldNotMeasure(f"no reservation: {answer.body!r}")
                put = QuoteRequest(
                    quote_id=quote_id,
                    reservation_id=given.reservation.reservation_id,
                    position_version=0,
                    attempt=attempt,
                    bid_price=BID,
                    bid_quantity=lots,
                    ask_price=ASK,
                    ask_quantity=lots,
                )
                answer = await putting.request("PUT", f"/quotes/{symbol}", msgspec.json.encode(put))
                if answer.status != 200:
                    raise CouldNotMeasure(f"no quote: {answer.body!r}")

        async with asyncio.TaskGroup() as group:
            for _ in range(min(PARALLEL, len(symbols))):
                group.create_task(work())
