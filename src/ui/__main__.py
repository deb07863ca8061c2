"""Assemble and run the page's service."""

from jet.connection import Connection
from runtime import logs, tls
from runtime.access import Access
from runtime.app import create_app
from runtime.clock import utc_now
from runtime.health import Health
from runtime.serve import run, serve
from runtime.settings import load
from ui.api import DESCRIPTION, pages, routes
from ui.login import login
from ui.service import PARTS, UiService, UiSettings


async def main() -> None:
    """Serve until told to stop."""
    settings = load(UiSettings, "ui")
    logs.configure("ui", settings.stack.log_level)
    access = Access.of(settings.stack)
    health = Health("ui", *PARTS)
    seed, asking = settings.stack.nats_seed("ui"), tls.asking(settings.stack)
    connection = Connection(settings.stack.url, "ui", health, seed, asking)
    service = UiService(settings, connection, health, utc_now)
    access.goes_by(service.clock)
    app = create_app(
        title="Quotestream page",
        description=DESCRIPTION,
        health=health,
        access=access,
        routes=routes(service),
        static=[*pages(access), *login(access)],
    )
    await serve(app, settings, service.run, service.stop)


if __name__ == "__main__":
    run(main)
