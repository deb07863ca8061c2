"""Assemble and run the ledger."""

from jet.connection import Connection
from ledger.api import DESCRIPTION, routes
from ledger.service import PARTS, Ledger, LedgerSettings
from runtime import logs, tls, tracing
from runtime.access import Access
from runtime.app import create_app
from runtime.clock import utc_now
from runtime.health import Health
from runtime.serve import run, serve
from runtime.settings import load


async def main() -> None:
    """Serve until told to stop."""
    settings = load(LedgerSettings, "ledger")
    logs.configure("ledger", settings.stack.log_level)
    tracing.configure("ledger", settings.stack.traces)
    access = Access.of(settings.stack)
    health = Health("ledger", *PARTS)
    seed, asking = settings.stack.nats_seed("ledger"), tls.asking(settings.stack)
    connection = Connection(settings.stack.url, "ledger", health, seed, asking)
    service = Ledger(settings, connection, health, utc_now)
    access.goes_by(service.clock)
    app = create_app(
        title="Quotestream ledger",
        description=DESCRIPTION,
        health=health,
        access=access,
        routes=routes(service),
        before=service.measure,
    )
    await serve(app, settings, service.run, service.stop)


run(main)
