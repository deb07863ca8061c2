"""Assemble and run the page's service."""

from jet.connection import Connection
from process import logs, tls
from process.clock import utc_now
from process.health import Health
from process.settings import load
from ui.api import DESCRIPTION, pages, routes
from ui.login import login
from ui.service import PARTS, UiService, UiSettings
from web.access import Access
from web.app import create_app
from web.serve import run, serve


async def main() -> None:
    """Serve until a signal stops the process."""
    settings = load(UiSettings, "ui")
    logs.configure("ui", settings.stack.log_level)
    access = Access.of(settings.stack)
    health = Health("ui", *PARTS)
    seed, context = settings.stack.nats_seed("ui"), tls.client_context(settings.stack)
    connection = Connection(settings.stack.url, "ui", health, seed, context)
    service = UiService(settings, connection, health, utc_now)
    access.use_clock(service.clock)
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
