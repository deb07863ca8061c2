"""HTTP and websocket routes: the page, its files, and the data that it loads."""

import hashlib
from importlib import resources
from typing import Any

from litestar import Request, Response, WebSocket, get, websocket
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ui.service import CLIENTS, UiService
from web import streaming
from web.access import OPEN, Access
from web.app import check_path
from web.roles import READ, anyone
from wire.fields import Id, Symbol

DESCRIPTION = """
The page at `/`, and the websocket `/stream` that feeds it. It only reads.

Every websocket message is a JSON frame: `type`, the server's `time`, `status` (for each source whether it is current,
since when, and why not; and the exposure in use, null while it is not known), and `rows`. A `snapshot` contains every
row, and in `history` the recent net quantities of each symbol; it replaces everything sent before. An `update` contains
the rows that changed, complete, the newest of each symbol, and is sent at most twenty times per second. A `heartbeat`
contains no rows. At least one frame is sent every second. Profit and exposure over time are in a snapshot's `trend`,
and new points of it in the `points` of every frame. An active quote in a row expires when `time` reaches its
`expires_at`, without a frame that says so.

A reader must not send anything: the connection ends if it does, or if it does not make room for a frame within 5
seconds.
"""

_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

_HEADERS = {
    "Cache-Control": "no-cache",  # may be stored, but is validated by its ETag at each load
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}

_NO_STORE = {"Cache-Control": "no-store"}


def pages(access: Access = OPEN) -> list[ControllerRouterHandler]:
    """Return the handlers of the page's files, which are read once: `index.html` at `/`, all others under their names.

    A reader without permission to read gets `login.html` in place of the page.
    """
    files = {file.name: file.read_bytes() for file in (resources.files("ui") / "static").iterdir()}
    index, login = files.pop("index.html"), files.pop("login.html")
    return [
        _page(index, login, access),
        *(
            _file(f"/{name}", content, _MEDIA_TYPES[suffix])
            for name, content in files.items()
            if (suffix := name[name.rfind(".") :]) in _MEDIA_TYPES
        ),
    ]


def _page(index: bytes, login: bytes, access: Access) -> ControllerRouterHandler:
    @get("/", include_in_schema=False, media_type="text/html", sync_to_thread=False, opt=anyone())
    def get_page(request: Request[Any, Any, Any]) -> Response[bytes]:
        if access.roles_of(dict(request.scope["headers"])) & READ:
            return _respond(request, index, "text/html")
        return Response(login, status_code=401, headers=_HEADERS | _NO_STORE, media_type="text/html")

    return get_page


def _file(path: str, content: bytes, media_type: str) -> ControllerRouterHandler:
    @get(path, include_in_schema=False, media_type=media_type, sync_to_thread=False, opt=anyone())
    def get_file(request: Request[Any, Any, Any]) -> Response[bytes]:
        return _respond(request, content, media_type)

    return get_file


def _respond(request: Request[Any, Any, Any], content: bytes, media_type: str) -> Response[bytes]:
    headers = {**_HEADERS, "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(b"", status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)


def routes(service: UiService) -> list[ControllerRouterHandler]:
    """Return the handlers of the stream, the stories and the histories."""

    @websocket("/stream")
    async def stream(socket: WebSocket[Any, Any, Any]) -> None:
        await streaming.stream(socket, service.frames(), CLIENTS)

    # Not in the schema: recorded/story.py describes the story.
    @get("/explain/{quote_id:str}", include_in_schema=False)
    async def get_story(quote_id: FromPath[str]) -> Response[bytes]:
        story = await service.explainer.story(check_path(quote_id, Id, "quote_id"))
        return Response(story, media_type="application/json")

    # Not in the schema: docs/protocol.md describes its arrays.
    @get("/history/{symbol:str}", include_in_schema=False)
    async def get_history(symbol: FromPath[str]) -> Response[bytes]:
        history = await service.history_reader.history(check_path(symbol, Symbol, "symbol"))
        return Response(history, media_type="application/json")

    return [stream, get_story, get_history]
