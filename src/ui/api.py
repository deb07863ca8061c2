"""HTTP and websocket routes: the page, its files, and the stream that feeds it."""

import hashlib
from importlib import resources
from typing import Any

from litestar import Request, Response, WebSocket, get, websocket
from litestar.types import ControllerRouterHandler

from runtime import streaming
from ui.service import CLIENTS, UiService

DESCRIPTION = """
The page at `/`, and the websocket `/stream` that feeds it. It only reads.

Every websocket message is a JSON frame: `type`, the server's `time`, `status` (of each source whether it is current,
since when, and why not; and the exposure in `usage`, null while it is not known), and `rows`. A `snapshot` holds every
row and the recent net quantities of each symbol in `history`; it replaces all that came before. An `update` holds the
rows that changed, whole, only the newest of each symbol, at most twenty times a second. A `heartbeat` holds none; one
of these comes at least every second. An active quote in a row expires when `time` reaches its `expires_at`: no frame
says so.

A reader has nothing to say: whatever it sends ends the connection. So does making no room for a frame within 5
seconds.
"""

_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

_HEADERS = {
    "Cache-Control": "no-cache",  # kept, but asked for with its ETag each time: a new version shows at the next load
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def pages() -> list[ControllerRouterHandler]:
    """Handlers of the page's files, read once: `index.html` at `/`, every other under its name."""
    return [
        _file("/" if file.name == "index.html" else f"/{file.name}", file.read_bytes(), _MEDIA_TYPES[suffix])
        for file in (resources.files("ui") / "static").iterdir()
        if (suffix := file.name[file.name.rfind(".") :]) in _MEDIA_TYPES
    ]


def _file(path: str, content: bytes, media_type: str) -> ControllerRouterHandler:
    headers = {**_HEADERS, "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}

    @get(path, include_in_schema=False, media_type=media_type, sync_to_thread=False)
    def get_file(request: Request[Any, Any, Any]) -> Response[bytes]:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(b"", status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=f"{media_type}; charset=utf-8")

    return get_file


def routes(service: UiService) -> list[ControllerRouterHandler]:
    """The stream."""

    @websocket("/stream")
    async def stream(socket: WebSocket[Any, Any, Any]) -> None:
        await streaming.stream(socket, service.frames(), CLIENTS)

    return [stream]
