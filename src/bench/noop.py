"""The reference of the order benchmarks: a typed POST route that does nothing, served by uvicorn as is usual.

It has the exchange's app and messages; only the work is missing. The server is uvicorn with its fastest settings rather
than our own, so that a change of ours shows in the ratio. `python -m bench.noop`, with the exchange's settings.
"""

from datetime import UTC, datetime
from decimal import Decimal

from litestar import post
from litestar.params import JSONBody

from process import logs
from process.health import Health
from process.settings import Port, ServiceSettings, load
from web.app import create_app
from wire.orders import Fill, Order, OrderResult


class _Settings(ServiceSettings, frozen=True, kw_only=True):
    port: Port = 8001


_FILL = Fill(
    fill_id="AAAA-f123456",
    order_id="bench-0-000000001",
    symbol="AAAA",
    side="buy",
    quantity=1,
    price=Decimal("100.05"),
    quote_id="AAAA-v0-a1",
    created_at=datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC),
)


def example(order_id: str) -> OrderResult:
    """Return an answer as an exchange would give it."""
    return OrderResult(
        order_id=order_id, symbol="AAAA", status="filled", filled_quantity=1, leaves_quantity=0, fills=[_FILL]
    )


@post("/orders", status_code=200)
async def post_order(data: JSONBody[Order]) -> OrderResult:
    """Answer as if the order had been filled."""
    return example(data.order_id)


def main() -> None:
    """Run until stopped."""
    import uvicorn  # a dependency of tests and benchmarks only

    settings = load(_Settings, "exchange")
    logs.configure("noop", settings.stack.log_level)
    app = create_app(title="No-op", description="Answers orders.", health=Health("noop"), routes=[post_order])
    uvicorn.run(
        app,
        host=settings.stack.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
    )


if __name__ == "__main__":
    main()
