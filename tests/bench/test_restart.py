"""A restart lasts until the first order executes."""

from typing import Any, cast

import msgspec
from litestar import Litestar, Request, Response, post

from bench.restart import _first_fill
from bench.stage import Stage
from support.http import served
from wire.orders import Order


class Running:
    """A stage on which everything runs."""

    symbols = ("AAA", "BBB")

    def check(self) -> None:
        pass


async def test_the_same_order_is_sent_until_it_executes() -> None:
    received: list[Order] = []

    @post("/orders")
    async def answer(request: Request[Any, Any, Any]) -> Response[bytes]:
        received.append(msgspec.json.decode(await request.body(), type=Order))
        status = b"rejected" if len(received) < 3 else b"filled"
        return Response(b'{"status":"%b"}' % status, status_code=200, media_type="application/json")

    async with served(Litestar([answer], openapi_config=None)) as (_, port):
        await _first_fill(cast("Stage", Running()), f"http://127.0.0.1:{port}", 7)
    assert [order.order_id for order in received] == ["first-7"] * 3
    assert received[0].symbol == "BBB"
