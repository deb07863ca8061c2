"""Assemble and run the ledger."""

from jet.connection import Connection
from ledger.api import DESCRIPTION, routes
from ledger.service import PARTS, Ledger, LedgerSettings
from process import logs, tls, tracing
from process.clock import utc_now
from process.health import Health
from process.settings import load
from web.access import Access
from web.app import create_app
from web.serve import run, serve


async def main() -> None:
    """Run the ledger until it is stopped."""
    settings = load(LedgerSettings, "ledger")
    logs.configure("ledger", settings.stack.log_level)
    tracing.configure("ledger", settings.stack.traces)
    access = Access.of(settings.stack)
    health = Health("ledger", *PARTS)
    seed, tls_context = settings.stack.nats_seed("ledger"), tls.client_context(settings.stack)
    connection = Connection(settings.stack.url, "ledger", health, seed, tls_context)
    service = Ledger(settings, connection, health, utc_now)
    access.use_clock(service.clock)
    app = create_app(
        title="Quotestream ledger",
        description=DESCRIPTION,
        health=health,
        access=access,
        routes=routes(service),
        before=service.measure,
    )
    await serve(app, settings, service.run, service.stop)


if __name__ == "__main__":
    run(main)
