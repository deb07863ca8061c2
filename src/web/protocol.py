"""The shell of a connection: it moves bytes between socket, state machine and handlers, within the limits."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import httptools
import msgspec
import structlog

from process import tracing
from web import connection_limits, http1
from web.app import INTERNAL_ERROR
from web.asgi import STATUS_LINE, RequestCycle, scope
from web.http1 import Refuse, Request, Step, Upgrade
from web.websocket import WebSocketProtocol
from wire.errors import Refusal, Refused

if TYPE_CHECKING:
    from web.server import Server

_JSON = b"application/json"
_PROBLEM = b"application/problem+json"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = structlog.get_logger()


class HttpProtocol(asyncio.Protocol):
    """One HTTP connection.

    Attributes:
        waiting_since: when `check` first saw it waiting for its client, by the event loop's clock; meaningless while it
            waits for no client.
    """

    def __init__(self, server: "Server") -> None:
        self.waiting_since = 0.0
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._machine = http1.Connection()
        self._encode = msgspec.json.Encoder().encode
        self._transport: asyncio.Transport
        self._tls = False
        self._cycle: RequestCycle | None = None
        self._response_begun = False
        self._buffered = 0
        self._advancing = False
        self._reading = True
        self._lingering = False
        self._discarded = 0
        self._upgraded = False
        self._writable: asyncio.Future[None] | None = None
        self._wait_state = (0, False, False)
        self._known_addresses: tuple[Any, Any] | None = None

    @property
    def evictable(self) -> bool:
        """True if it waits for its client, and is not being closed already."""
        return not self.busy and not self._transport.is_closing()

    @property
    def busy(self) -> bool:
        """True while it has a complete request that is not answered yet."""
        return self._machine.responding

    # --- from the socket ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # it is a stream
        """Accept a client, or refuse it if there are too many."""
        self._transport = transport
        self._tls = transport.get_extra_info("sslcontext") is not None
        self.waiting_since = self._loop.time()
        server = self._server
        server.connections.add(self)
        if server.stopping:
            self.shut_down()
        elif (
            len(server.connections) + len(server.streams) > connection_limits.MAX_CONNECTIONS
            and not self._evict_longest_waiting()
        ):
            self._refuse("crowded", Refused(Refusal.OVERLOADED, "too many connections"))

    def data_received(self, data: bytes) -> None:
        """Receive a piece of a request, or of several."""
        if self._lingering:
            self._discarded += len(data)
            if self._discarded > http1.MAX_REQUEST:
                self._transport.abort()
            return
        self._machine.receive(data)
        self._update_buffered()
        if self._server.buffered > connection_limits.MAX_BUFFERED:
            self._refuse("memory", Refused(Refusal.OVERLOADED, "too much is being read already"))
        else:
            self._advance()

    def eof_received(self) -> bool:
        """Note that the client sends no more. It still receives its responses, except over TLS."""
        self._machine.receive_end()
        if self._lingering:
            return False
        self._advance()
        return not self._tls

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 # the signature is asyncio's
        """Release what the connection holds."""
        server = self._server
        server.connections.discard(self)
        server.buffered -= self._buffered
        self._buffered = 0
        self._machine.discard()
        self.resume_writing()
        if self._cycle is not None:
            self._cycle.disconnect()

    def pause_writing(self) -> None:
        """Begin no more requests while the client does not read its responses."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Continue: the client reads again, or has gone."""
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None
            self._loop.call_soon(self._advance)

    # --- events ---------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Handle the next events. A response that is ready at once does not begin the next request recursively."""
        if self._advancing:
            return
        self._advancing = True
        try:
            for _ in range(connection_limits.REQUESTS_PER_TURN):
                if self._writable is not None or self._transport.is_closing():
                    break
                event = self._machine.next()
                if event is None:
                    break
                self._handle(event)
            else:
                self._loop.call_soon(self._advance)
        finally:
            self._advancing = False
        self._update_buffered()

    def _handle(self, event: http1.Event) -> None:
        if isinstance(event, Request):
            self._response_begun = False
            route = self._server.fast_route
            if (
                route is not None
                and event.target == route.path
                and event.method == b"POST"
                and self._server.access.admits(event.fields, route.roles)
            ):
                self._call_fast_route(event)
            else:
                self._call_app(event)
        elif isinstance(event, Refuse):
            self._send_last(event)
        elif isinstance(event, Upgrade):
            self._become_websocket(event)
        elif event is Step.CONTINUE:
            self._transport.write(_CONTINUE)
        else:
            self._transport.close()

    def _call_fast_route(self, request: Request) -> None:
        """Handle a request for the fast route."""
        route = self._server.fast_route
        assert route is not None  # noqa: S101 # the caller has checked
        span = None
        if tracing.tracer is not None:
            span = tracing.http_span("POST", route.path.decode(), request.headers)
        try:
            with tracing.within(span):
                answer = route.handle(request.body)
        except Refused as refused:
            self._send_refused(span, refused)
        except Exception as error:  # noqa: BLE001 # as in the app: it is logged, and the connection continues
            self._send_failed(span, error)
        else:
            answer.add_done_callback(partial(self._on_fast_response, span))

    def _on_fast_response(self, span: tracing.AnySpan, answered: "asyncio.Future[Any]") -> None:
        if answered.cancelled():
            self._send_failed(span, asyncio.CancelledError())
            return
        error = answered.exception()
        if error is None:
            self._send(200, _JSON, self._encode(answered.result()), span=span)
        elif isinstance(error, Refused):
            self._send_refused(span, error)
        else:
            self._send_failed(span, error)

    def _send_refused(self, span: tracing.AnySpan, refused: Refused) -> None:
        retry = b"retry-after: %d\r\n" % refused.retry_after if refused.retry_after is not None else b""
        self._send(refused.refusal.status, _PROBLEM, self._encode(refused.problem), retry, span=span)

    def _send_failed(self, span: tracing.AnySpan, error: BaseException) -> None:
        log.error(
            "request failed",
            method="POST",
            path=self._server.fast_route and self._server.fast_route.path,
            exc_info=error,
        )
        self._send(500, _PROBLEM, self._encode(INTERNAL_ERROR), span=span)

    def _send(self, status: int, media: bytes, body: bytes, more: bytes = b"", *, span: tracing.AnySpan = None) -> None:
        """Send a response in one write."""
        if span is not None:
            span.set_attribute("http.response.status_code", status)
            span.end()
        if self._transport.is_closing():
            return
        self._transport.write(
            b"%bcontent-type: %b\r\n%bcontent-length: %d\r\n%b%b\r\n%b"
            % (
                STATUS_LINE[status],
                media,
                self._server.common_headers,
                len(body),
                more,
                b"connection: close\r\n" if self._machine.closes else b"",
                body,
            )
        )
        self._machine.response_sent()
        self._advance()

    # --- through the app ------------------------------------------------------------------------------------------

    def _call_app(self, request: Request) -> None:
        try:
            about = scope(request, "http", self._tls, *self._addresses())
        except (httptools.HttpParserInvalidURLError, UnicodeError):
            self._machine.response_sent()
            self._machine.finish(Refuse(http1.NOT_HTTP, "no-http"))
            return
        self._cycle = RequestCycle(self, request, about)
        self._server.spawn(self._cycle.run(self._server.app))

    def _addresses(self) -> tuple[Any, Any]:
        """Return our address and the client's, in the form of ASGI. They are looked up once."""
        if self._known_addresses is None:
            found = [self._transport.get_extra_info(name) for name in ("sockname", "peername")]
            server, client = [tuple(address[:2]) if address else None for address in found]
            self._known_addresses = server, client
        return self._known_addresses

    @property
    def common_headers(self) -> bytes:
        """The header lines of every response."""
        return self._server.common_headers

    @property
    def closes(self) -> bool:
        """True if the connection accepts no request after this one."""
        return self._machine.closes

    async def write(self, data: bytes) -> None:
        """Send a part of the app's response once the client has received enough of the earlier data."""
        while (writable := self._writable) is not None:
            await asyncio.shield(writable)
        if not self._transport.is_closing():
            self._response_begun = True
            self._transport.write(data)

    def response_sent(self, *, keep_alive: bool) -> None:
        """Continue after the app's response has been sent."""
        self._cycle = None
        if not keep_alive:
            self._machine.finish()
        self._machine.response_sent()
        self._advance()

    def response_failed(self) -> None:
        """Send an error because the app failed, or abort if a part of its response has been sent."""
        self._cycle = None
        if self._response_begun:
            self._transport.abort()
        else:
            self._send(500, _PROBLEM, self._encode(INTERNAL_ERROR))

    # --- limits and ends ------------------------------------------------------------------------------------------

    def _update_buffered(self) -> None:
        """Update the count of buffered bytes, and pause or resume reading."""
        buffered = self._machine.buffered
        if buffered != self._buffered:
            self._server.buffered += buffered - self._buffered
            self._buffered = buffered
        if self._lingering or self._upgraded or self._machine.eof:
            return
        wants_more = self._machine.wants_more
        if wants_more != self._reading and not self._transport.is_closing():
            self._reading = wants_more
            if wants_more:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _evict_longest_waiting(self) -> bool:
        """Close the connections that have waited longest for their clients. False if there are none."""
        waiting = [other for other in self._server.connections if other is not self and other.evictable]
        waiting.sort(key=lambda other: other.waiting_since)
        for other in waiting[: max(1, int(connection_limits.MAX_CONNECTIONS * connection_limits.EVICTED_SHARE))]:
            other.evict("crowded-out")
        return bool(waiting)

    def check(self, now: float) -> None:
        """Close the connection if it has waited too long for its client. Called every `CHECK_INTERVAL`."""
        machine = self._machine
        wait_state = (machine.requests_begun, machine.partial, machine.responding)
        if wait_state != self._wait_state:
            self._wait_state = wait_state
            self.waiting_since = now
            return
        waited = now - self.waiting_since
        if self._lingering:
            if waited > connection_limits.LINGER_TIMEOUT:
                self._transport.abort()
        elif machine.responding:
            return
        elif machine.requests_begun and not machine.partial and self._writable is None:
            if waited > connection_limits.KEEP_ALIVE_TIMEOUT:
                self._transport.close()
        elif waited > connection_limits.ARRIVAL_TIMEOUT:
            self.evict("slow")

    def evict(self, reason: str) -> None:
        """Abort a connection that waits for its client, and count it by `reason`."""
        connection_limits.CLOSED.labels(reason).inc()
        self._transport.abort()

    def _refuse(self, reason: str, refused: Refused) -> None:
        """Accept no more requests, and send the reason after the current response."""
        self._machine.finish(Refuse(refused.problem, reason, refused.retry_after))
        self._advance()

    def _send_last(self, last: Refuse) -> None:
        """Send the final response. A client that is still sending could not read it if we closed at once."""
        if last.reason:
            connection_limits.CLOSED.labels(last.reason).inc()
        body = self._encode(last.problem)
        retry = b"retry-after: %d\r\n" % last.retry_after if last.retry_after is not None else b""
        self._transport.write(
            b"%b%bcontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n%b\r\n%b"
            % (STATUS_LINE[last.problem.status], self._server.common_headers, _PROBLEM, len(body), retry, body)
        )
        if self._machine.eof or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._lingering = True
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def _become_websocket(self, upgrade: Upgrade) -> None:
        server = self._server
        if len(server.streams) >= connection_limits.MAX_STREAMS:
            refused = Refused(Refusal.OVERLOADED, "too many readers")
            self._send_last(Refuse(refused.problem, "streams", refused.retry_after))
            return
        self._upgraded = True
        server.connections.discard(self)
        about = scope(upgrade.request, "websocket", self._tls, *self._addresses())
        self._machine.discard()
        socket = WebSocketProtocol(server, self._transport, upgrade.request, about)
        self._transport.set_protocol(socket)
        socket.begin(upgrade.rest)

    def shut_down(self) -> None:
        """Close once the current request has been answered."""
        self._machine.finish()
        self._advance()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
