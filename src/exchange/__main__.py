"""Assemble and run the exchange."""

from exchange.api import fast_route, routes
from exchange.service import Exchange, ExchangeSettings
from jet.connection import Connection
from process import logs, tls, tracing
from process.clock import utc_now
from process.health import Health
from process.settings import load
from web.access import Access
from web.app import create_app
from web.serve import run, serve


async def main() -> None:
    """Run until stopped."""
    settings = load(ExchangeSettings, "exchange")
    logs.configure("exchange", settings.stack.log_level)
    tracing.configure("exchange", settings.stack.traces)
    access = Access.of(settings.stack)
    health = Health("exchange", "nats", "market")
    seed, tls_context = settings.stack.nats_seed("exchange"), tls.client_context(settings.stack)
    connection = Connection(settings.stack.url, "exchange", health, seed, tls_context)
    exchange = Exchange(settings.market, connection, health, utc_now)
    access.use_clock(exchange.clock)
    app = create_app(
        title="Quotestream exchange",
        description="Executes orders against the one active quote of a symbol, and decides which quote that is.",
        health=health,
        access=access,
        routes=routes(exchange),
        before=exchange.observe,
    )
    await serve(app, settings, exchange.run, exchange.stop, fast_route(exchange), access)


if __name__ == "__main__":
    run(main)
