"""Assemble and run the page's service."""

from jet.connection import Connection
from runtime import logs
from runtime.app import create_app
from runtime.clock import utc_now
from runtime.health import Health
from runtime.serve import run, serve
from runtime.settings import load
from ui.api import DESCRIPTION, pages, routes
from ui.service import PARTS, UiService, UiSettings


async def main() -> None:
    """Serve until told to stop."""
    settings = load(UiSettings, "ui")
    logs.configure("ui", settings.stack.log_level)
    health = Health("ui", *PARTS)
    connection = Connection(settings.stack.url, "ui", health, settings.stack.nats_seed("ui"))
    service = UiService(settings, connection, health, utc_now)
    app = create_app(
        title="Quotestream page", description=DESCRIPTION, health=health, routes=routes(service), static=pages()
    )
    await serve(app, settings, service.run, service.stop)


if __name__ == "__main__":
    run(main)
