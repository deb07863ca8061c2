"""Assemble and run the maker."""

from jet.connection import Connection
from maker.api import SAMPLES, routes
from maker.service import Maker, MakerSettings
from process import logs, tls, tracing
from process.clock import utc_now
from process.health import Health
from process.settings import load
from web.access import Access
from web.app import create_app
from web.serve import run, serve


async def main() -> None:
    """Run the maker until it is stopped."""
    settings = load(MakerSettings, "maker")
    logs.configure("maker", settings.stack.log_level)
    tracing.configure("maker", settings.stack.traces)
    access = Access.of(settings.stack)
    health = Health("maker", "nats", "positions", "market", "switch")
    seed, tls_context = settings.stack.nats_seed("maker"), tls.client_context(settings.stack)
    connection = Connection(settings.stack.url, "maker", health, seed, tls_context)
    maker = Maker(settings, connection, health, utc_now)
    access.use_clock(maker.clock)
    app = create_app(
        title="Quotestream maker",
        description="Keeps one quote active on every symbol, priced from the newest committed position.",
        health=health,
        access=access,
        routes=routes(maker),
        before=maker.measure,
        samples=SAMPLES,
    )
    await serve(app, settings, maker.run, maker.stop)


if __name__ == "__main__":
    run(main)
