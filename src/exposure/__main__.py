"""Assemble and run the exposure service."""

import exposure
from exposure.api import routes
from exposure.service import ExposureService, ExposureSettings
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
    settings = load(ExposureSettings, "exposure")
    logs.configure("exposure", settings.stack.log_level)
    tracing.configure("exposure", settings.stack.traces)
    access = Access.of(settings.stack)
    health = Health("exposure", "nats", "reservations", "market")
    seed, tls_context = settings.stack.nats_seed("exposure"), tls.client_context(settings.stack)
    connection = Connection(settings.stack.url, "exposure", health, seed, tls_context)
    service = ExposureService(settings, connection, health, utc_now)
    access.use_clock(service.clock)
    app = create_app(
        title="exposure",
        description=exposure.__doc__ or "",
        health=health,
        access=access,
        routes=routes(service),
        before=service.measure,
    )
    await serve(app, settings, service.run, service.stop)


if __name__ == "__main__":
    run(main)
