"""A stand-in for the exchange: a real HTTP server with scripted responses."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from litestar import Litestar, Response, get, post
from litestar.params import JSONBody

from support.builders import fill
from support.http import served
from wire.errors import Refused
from wire.orders import Order, OrderResult, RejectReason

Answer = Callable[[Order], Awaitable[Response[bytes]]]


class StandIn:
    """Responds to each request as the next entry of `script` says. After the script, it fills every order.

    Attributes:
        received: all orders received, in order, repetitions included.
        script: the next responses.
        url: the URL at which it listens.
    """

    def __init__(self) -> None:
        self.received: list[Order] = []
        self.script: deque[Answer] = deque()
        self.url = ""

    def then(self, *answers: Answer) -> None:
        """Add responses to the script."""
        self.script.extend(answers)

    async def answer(self, order: Order) -> Response[bytes]:
        self.received.append(order)
        answer = self.script.popleft() if self.script else self.filled
        return await answer(order)

    async def filled(self, order: Order) -> Response[bytes]:
        """Fill the whole order."""
        whole = fill(order_id=order.order_id, symbol=order.symbol, side=order.side, quantity=order.quantity)
        return _result(order, "filled", [whole], None)

    def rejected(self, reason: RejectReason) -> Answer:
        """Reject the order."""

        async def answer(order: Order) -> Response[bytes]:
            return _result(order, "rejected", [], reason)

        return answer

    def refused(self, refused: Refused) -> Answer:
        """Refuse the order with a problem detail."""

        async def answer(_: Order) -> Response[bytes]:
            problem = refused.problem
            headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
            body = msgspec.json.encode(problem)
            return Response(body, status_code=problem.status, media_type="application/problem+json", headers=headers)

        return answer

    def held(self, let_go: asyncio.Event) -> Answer:
        """Fill the whole order once `let_go` is set."""

        async def answer(order: Order) -> Response[bytes]:
            await let_go.wait()
            return await self.filled(order)

        return answer

    def stalled(self, seconds: float) -> Answer:
        """Fill the whole order after a delay."""

        async def answer(order: Order) -> Response[bytes]:
            await asyncio.sleep(seconds)
            return await self.filled(order)

        return answer


def _result(order: Order, status: str, fills: list[object], reason: str | None) -> Response[bytes]:
    filled = order.quantity if fills else 0
    result = {
        "order_id": order.order_id,
        "symbol": order.symbol,
        "status": status,
        "filled_quantity": filled,
        "leaves_quantity": order.quantity - filled,
        "fills": fills,
        "reason": reason,
    }
    body = msgspec.json.encode(msgspec.convert(result, OrderResult))
    return Response(body, status_code=200, media_type="application/json")


@pytest.fixture
async def exchange() -> AsyncIterator[StandIn]:
    """A stand-in that listens on a free port."""
    stand_in = StandIn()

    @post("/orders")
    async def post_order(data: JSONBody[Order]) -> Response[bytes]:
        return await stand_in.answer(data)

    @get("/health")
    async def get_health() -> str:
        return "fine"

    app = Litestar([post_order, get_health], openapi_config=None)
    async with served(app) as (_, port):
        stand_in.url = f"http://127.0.0.1:{port}"
        yield stand_in


@pytest.fixture
def nowhere() -> str:
    """The URL of an exchange that does not exist."""
    return "http://127.0.0.1:1"
