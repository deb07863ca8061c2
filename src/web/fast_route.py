"""A fast path for one busy route, from the socket to the handler and back, without ASGI and the framework.

For a small JSON message, the framework's part (a task and two events per request, routing, argument signatures,
response objects) costs several times as much as decoding, deciding and encoding. So `web/protocol.py` handles this one
route itself, and responds exactly as the app would: with strict decoding and problem details.

The app declares the same route, for its OpenAPI page and for requests that access control refuses: the app then sends
the same refusal as for every route.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from web.app import decode
from web.roles import NOBODY, Roles
from wire.strict_decoder import StrictDecoder

T = TypeVar("T", bound=msgspec.Struct)


class FastRoute(Generic[T]):
    """A route: `POST path` with a body of type `kind`.

    The response is the result of `handler` with status 200, or its refusal. Only bearers of `roles` may use it.
    """

    def __init__(
        self, path: str, kind: type[T], handler: Callable[[T], "asyncio.Future[Any]"], roles: Roles = NOBODY
    ) -> None:
        self.path = path.encode("ascii")
        self.roles = roles
        self._decoder = StrictDecoder(kind)
        self._handler = handler

    def handle(self, body: bytearray) -> "asyncio.Future[Any]":
        """Decode a body and call the handler with it.

        Raises:
            Refused: the body is invalid, or the handler refuses it at once.
        """
        return self._handler(decode(body, self._decoder))
