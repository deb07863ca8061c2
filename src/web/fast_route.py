"""A shorter way for one busy route: from the socket to the answer and back, past ASGI and the framework.

For a small JSON message, what stands between the two (a task and two events a request, routing, argument signatures,
response objects) costs several times what decoding, deciding and encoding do. `web/protocol.py` answers this one
route itself, as the app would: strict decoding, problem details.

The app declares the same route, for its OpenAPI page and for the requests that are left to it: those that are not
admitted, which it refuses as it does on every route.
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
    """A route: `POST path` of a `kind` is answered with status 200 and what `answer` comes to, or its refusal.

    It is for the bearers of `roles`.
    """

    def __init__(
        self, path: str, kind: type[T], answer: Callable[[T], "asyncio.Future[Any]"], roles: Roles = NOBODY
    ) -> None:
        self.path = path.encode("ascii")
        self.roles = roles
        self._entry = StrictDecoder(kind)
        self._answer = answer

    def ask(self, body: bytearray) -> "asyncio.Future[Any]":
        """Ask for the answer to a body.

        Raises:
            Refused: the body is no such message; or at once by `answer`.
        """
        return self._answer(decode(body, self._entry))
