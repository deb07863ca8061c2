"""A shorter way for one busy route: from the socket to the answer and back, past ASGI and the framework.

For a small JSON message, what stands between the two (a task and two events a request, connection objects, routing,
argument signatures, response objects, one write for the head and one for the body) costs several times what decoding,
deciding and encoding do. Here uvicorn still parses HTTP, keeps connections alive, puts pipelined requests in order and
shuts down; only the one route is taken out of its hands where it would start a task, and answered as the app would:
strict decoding, the body limit, problem details.

The app declares the same route, for its OpenAPI page and for the few requests that are left to it: those that ask to
be told to continue, those of a client that does not take its answers, and those that are not admitted, which it refuses
as it does on every route.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from runtime import tracing
from runtime.access import OPEN, Access
from runtime.app import INTERNAL_ERROR, MAX_BODY_BYTES, decode
from runtime.guarded import GuardedProtocol
from runtime.roles import NOBODY, Roles
from wire.entry import Entry
from wire.errors import Refusal, Refused

T = TypeVar("T", bound=msgspec.Struct)

_Header = tuple[bytes, bytes]
_JSON = b"application/json"
_PROBLEM = b"application/problem+json"

log = structlog.get_logger()


class Direct(Generic[T]):
    """A route: `POST path` of a `kind` is answered with status 200 and what `answer` comes to, or its refusal.

    It is for the bearers of `roles`.
    """

    def __init__(
        self, path: str, kind: type[T], answer: Callable[[T], "asyncio.Future[Any]"], roles: Roles = NOBODY
    ) -> None:
        self.path = path
        self.roles = roles
        self._decoder = Entry(kind)
        self._answer = answer

    def ask(self, body: bytearray) -> "asyncio.Future[Any]":
        """Ask for the answer to a body.

        Raises:
            Refused: the body is no such message; or at once by `answer`.
        """
        if len(body) > MAX_BODY_BYTES:
            raise Refused(Refusal.TOO_LARGE, f"the limit is {MAX_BODY_BYTES} bytes")
        return self._answer(decode(body, self._decoder))


class DirectProtocol(GuardedProtocol):
    """uvicorn's connection, which answers one route itself."""

    def __init__(self, *args: Any, direct: Direct[Any], access: Access = OPEN, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._direct = direct
        self._access = access
        self._ours: RequestResponseCycle | None = None
        self._encoder = msgspec.json.Encoder()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """A request is next on its connection: its head has arrived, its body perhaps."""
        scope = cycle.scope
        if (
            scope["path"] != self._direct.path
            or scope["method"] != "POST"
            or cycle.waiting_for_100_continue
            or self.flow.write_paused
            or not self._access.admits(scope["headers"], self._direct.roles)
        ):
            super()._start_asgi_task(cycle, app)
            return
        self._ours = cycle
        if not cycle.more_body:
            self._take(cycle)

    def on_body(self, body: bytes) -> None:
        """A piece of a body. One that is too large is refused before the rest of it is here."""
        super().on_body(body)
        if self._ours is self.cycle and len(self.cycle.body) > MAX_BODY_BYTES:
            self._take(self.cycle)

    def on_message_complete(self) -> None:
        """The whole body has arrived."""
        super().on_message_complete()
        if self._ours is self.cycle and not self.cycle.response_complete:
            self._take(self.cycle)

    def _take(self, cycle: RequestResponseCycle) -> None:
        self._ours = None
        try:
            answer = self._direct.ask(cycle.body)
        except Refused as refused:
            self._refuse(cycle, refused)
        except Exception as error:  # noqa: BLE001 # as the app does: it is logged, and the connection lives on
            self._fail(cycle, error)
        else:
            answer.add_done_callback(lambda answered: self._answered(cycle, answered))

    def _answered(self, cycle: RequestResponseCycle, answered: "asyncio.Future[Any]") -> None:
        if answered.cancelled():
            self._fail(cycle, asyncio.CancelledError())
            return
        error = answered.exception()
        if error is None:
            self._send(cycle, 200, _JSON, self._encoder.encode(answered.result()))
        elif isinstance(error, Refused):
            self._refuse(cycle, error)
        else:
            self._fail(cycle, error)

    def _refuse(self, cycle: RequestResponseCycle, refused: Refused) -> None:
        retry = [(b"retry-after", b"%d" % refused.retry_after)] if refused.retry_after is not None else []
        self._send(cycle, refused.refusal.status, _PROBLEM, self._encoder.encode(refused.problem), retry)

    def _fail(self, cycle: RequestResponseCycle, error: BaseException) -> None:
        log.error("request failed", method="POST", path=self._direct.path, exc_info=error)
        self._send(cycle, INTERNAL_ERROR.status, _PROBLEM, self._encoder.encode(INTERNAL_ERROR))

    def _send(
        self, cycle: RequestResponseCycle, status: int, media: bytes, body: bytes, more: Sequence[_Header] = ()
    ) -> None:
        """Answer in one write, as uvicorn would in two."""
        if cycle.disconnected or self.transport.is_closing():
            return
        headers = [*self.server_state.default_headers, (b"content-type", media), (b"content-length", b"%d" % len(body))]
        headers += more
        keep_alive = cycle.keep_alive and not cycle.more_body  # the rest of a body that is too large is not read
        if not keep_alive:
            headers.append((b"connection", b"close"))
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        self.transport.write(b"%b%bx-content-type-options: nosniff\r\n\r\n%b" % (STATUS_LINE[status], lines, body))
        cycle.response_started = cycle.response_complete = True
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()


class TracedProtocol(DirectProtocol):
    """The same with a span around each of those requests, from its `traceparent` on, until its answer."""

    def _take(self, cycle: RequestResponseCycle) -> None:
        with tracing.within(tracing.http(cycle.scope)):  # whatever is begun here, the answer too, goes on within it
            super()._take(cycle)

    def _send(
        self, cycle: RequestResponseCycle, status: int, media: bytes, body: bytes, more: Sequence[_Header] = ()
    ) -> None:
        if (span := tracing.current()) is not None:
            span.set_attribute("http.response.status_code", status)
            span.end()
        super()._send(cycle, status, media, body, more)
