"""Assemble and run the exposure service."""

import exposure
from exposure.api import routes
from exposure.service import ExposureService, ExposureSettings
from jet.connection import Connection
from runtime import logs
from runtime.app import create_app
from runtime.clock import utc_now
from runtime.health import Health
from runtime.serve import run, serve
from runtime.settings import load


async def main() -> None:
    """Serve until told to stop."""
    settings = load(ExposureSettings, "exposure")
    logs.configure("exposure", settings.stack.log_level)
    health = Health("exposure", "nats", "reservations", "market")
    connection = Connection(settings.stack.url, "exposure", health, settings.stack.nats_seed("exposure"))
    service = ExposureService(settings, connection, health, utc_now)
    app = create_app(
        title="exposure",
        description=exposure.__doc__ or "",
        health=health,
        routes=routes(service),
        before=service.measure,
    )
    await serve(app, settings, service.run, service.stop)


run(main)
