"""A connection's shell: it moves bytes between the socket, the state machine and what answers, within the limits."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import httptools
import msgspec
import structlog

from process import tracing
from web import connection_limits, http1
from web.app import INTERNAL_ERROR
from web.asgi import STATUS_LINE, Call, scope
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
        waiting_since: at which look it began to wait for its client, if it does.
    """

    def __init__(self, server: "Server") -> None:
        self.waiting_since = 0.0
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._machine = http1.Connection()
        self._encode = msgspec.json.Encoder().encode
        self._transport: asyncio.Transport
        self._tls = False
        self._call: Call | None = None
        self._begun = False
        self._held = 0
        self._advancing = False
        self._reading = True
        self._lingers = False
        self._unheard = 0
        self._upgraded = False
        self._writable: asyncio.Future[None] | None = None
        self._waits_with = (0, False, False)
        self._known_addresses: tuple[Any, Any] | None = None

    @property
    def may_go(self) -> bool:
        """Whether it keeps us waiting, and is not about to be closed already."""
        return not self.busy and not self._transport.is_closing()

    @property
    def busy(self) -> bool:
        """Whether a request is whole, and not answered yet."""
        return self._machine.answering

    # --- from the socket ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # it is a stream
        """A client has connected; there may be too many."""
        self._transport = transport
        self._tls = transport.get_extra_info("sslcontext") is not None
        self.waiting_since = self._loop.time()
        server = self._server
        server.connections.add(self)
        if server.stopping:
            self.shut()
        elif (
            len(server.connections) + len(server.streams) > connection_limits.MAX_CONNECTIONS and not self._make_room()
        ):
            self._refuse("crowded", Refused(Refusal.OVERLOADED, "too many connections"))

    def data_received(self, data: bytes) -> None:
        """A piece of a request, or of several."""
        if self._lingers:
            self._unheard += len(data)
            if self._unheard > http1.MAX_REQUEST:
                self._transport.abort()
            return
        self._machine.receive(data)
        self._account()
        if self._server.held > connection_limits.MAX_BUFFERED:
            self._refuse("memory", Refused(Refusal.OVERLOADED, "too much is being read already"))
        else:
            self._advance()

    def eof_received(self) -> bool:
        """The client sends no more. Unless it is TLS that has ended, it still gets its answers."""
        self._machine.receive_end()
        if self._lingers:
            return False
        self._advance()
        return not self._tls

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 # the signature is asyncio's
        """It is over."""
        server = self._server
        server.connections.discard(self)
        server.held -= self._held
        self._held = 0
        self._machine.lost()
        self.resume_writing()
        if self._call is not None:
            self._call.leave()

    def pause_writing(self) -> None:
        """The client does not take its answers: nothing more is begun for it."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """It does again, or has gone."""
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None
            self._loop.call_soon(self._advance)

    # --- what is to be done ---------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Do what is to be done; an answer that comes at once does not begin the next request on its own stack."""
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
                self._take(event)
            else:
                self._loop.call_soon(self._advance)
        finally:
            self._advancing = False
        self._account()

    def _take(self, event: http1.Event) -> None:
        if isinstance(event, Request):
            self._begun = False
            direct = self._server.direct
            if (
                direct is not None
                and event.target == direct.path
                and event.method == b"POST"
                and self._server.access.admits(event.fields, direct.roles)
            ):
                self._answer(event)
            else:
                self._hand_over(event)
        elif isinstance(event, Refuse):
            self._send_last(event)
        elif isinstance(event, Upgrade):
            self._become_websocket(event)
        elif event is Step.CONTINUE:
            self._transport.write(_CONTINUE)
        else:
            self._transport.close()

    def _answer(self, request: Request) -> None:
        """Answer the route that is answered ahead of the app."""
        direct = self._server.direct
        assert direct is not None  # noqa: S101 # the caller has looked
        span = None
        if tracing.tracer is not None:
            span = tracing.http_span("POST", direct.path.decode(), request.headers)
        try:
            with tracing.within(span):
                answer = direct.ask(request.body)
        except Refused as refused:
            self._send_refused(span, refused)
        except Exception as error:  # noqa: BLE001 # as the app does: it is logged, and the connection lives on
            self._send_failed(span, error)
        else:
            answer.add_done_callback(partial(self._answered_by_direct, span))

    def _answered_by_direct(self, span: tracing.AnySpan, answered: "asyncio.Future[Any]") -> None:
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
            "request failed", method="POST", path=self._server.direct and self._server.direct.path, exc_info=error
        )
        self._send(500, _PROBLEM, self._encode(INTERNAL_ERROR), span=span)

    def _send(self, status: int, media: bytes, body: bytes, more: bytes = b"", *, span: tracing.AnySpan = None) -> None:
        """Answer in one write."""
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
                self._server.common,
                len(body),
                more,
                b"connection: close\r\n" if self._machine.closes else b"",
                body,
            )
        )
        self._machine.answered()
        self._advance()

    # --- through the app ------------------------------------------------------------------------------------------

    def _hand_over(self, request: Request) -> None:
        try:
            about = scope(request, "http", self._tls, *self._addresses())
        except (httptools.HttpParserInvalidURLError, UnicodeError):
            self._machine.answered()
            self._machine.finish(Refuse(http1.NO_HTTP, "no-http"))
            return
        self._call = Call(self, request, about)
        self._server.begin(self._call.run(self._server.app))

    def _addresses(self) -> tuple[Any, Any]:
        """Ours and the client's, as ASGI tells of them: looked up once."""
        if self._known_addresses is None:
            found = [self._transport.get_extra_info(name) for name in ("sockname", "peername")]
            server, client = [tuple(address[:2]) if address else None for address in found]
            self._known_addresses = server, client
        return self._known_addresses

    @property
    def common(self) -> bytes:
        """The header lines that every answer has."""
        return self._server.common

    @property
    def closes(self) -> bool:
        """Whether no request is taken after this one."""
        return self._machine.closes

    async def write(self, data: bytes) -> None:
        """Send a part of the app's answer, once the client has taken enough of what was sent before."""
        while (writable := self._writable) is not None:
            await asyncio.shield(writable)
        if not self._transport.is_closing():
            self._begun = True
            self._transport.write(data)

    def answered(self, *, keep_alive: bool) -> None:
        """The app's answer is sent."""
        self._call = None
        if not keep_alive:
            self._machine.finish()
        self._machine.answered()
        self._advance()

    def fail(self) -> None:
        """The app has no answer."""
        self._call = None
        if self._begun:
            self._transport.abort()
        else:
            self._send(500, _PROBLEM, self._encode(INTERNAL_ERROR))

    # --- limits and ends ------------------------------------------------------------------------------------------

    def _account(self) -> None:
        """Tell what is kept of what was read, and read on or not."""
        held = self._machine.held
        if held != self._held:
            self._server.held += held - self._held
            self._held = held
        if self._lingers or self._upgraded or self._machine.ended:
            return
        takes_more = self._machine.takes_more
        if takes_more != self._reading and not self._transport.is_closing():
            self._reading = takes_more
            if takes_more:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _make_room(self) -> bool:
        """Close those that have kept us waiting for the longest. False if none does."""
        waiting = [other for other in self._server.connections if other is not self and other.may_go]
        waiting.sort(key=lambda other: other.waiting_since)
        for other in waiting[: max(1, int(connection_limits.MAX_CONNECTIONS * connection_limits.EVICTED_SHARE))]:
            other.give_up("crowded-out")
        return bool(waiting)

    def look(self, now: float) -> None:
        """See how long the client has kept us waiting, at a look every `LOOK`."""
        machine = self._machine
        waits_with = (machine.begun, machine.partial, machine.answering)
        if waits_with != self._waits_with:
            self._waits_with = waits_with
            self.waiting_since = now
            return
        waited = now - self.waiting_since
        if self._lingers:
            if waited > connection_limits.LINGER_TIMEOUT:
                self._transport.abort()
        elif machine.answering:
            return
        elif machine.begun and not machine.partial and self._writable is None:
            if waited > connection_limits.KEEP_ALIVE_TIMEOUT:
                self._transport.close()
        elif waited > connection_limits.ARRIVAL_TIMEOUT:
            self.give_up("slow")

    def give_up(self, reason: str) -> None:
        """Close a connection that waits for its client."""
        connection_limits.CLOSED.labels(reason).inc()
        self._transport.abort()

    def _refuse(self, reason: str, refused: Refused) -> None:
        """Take nothing more, and say why, behind the answer that is due."""
        self._machine.finish(Refuse(refused.problem, reason, refused.retry_after))
        self._advance()

    def _send_last(self, last: Refuse) -> None:
        """Say why no more is taken. Whoever is still sending would not hear it if we closed at once."""
        if last.reason:
            connection_limits.CLOSED.labels(last.reason).inc()
        body = self._encode(last.problem)
        retry = b"retry-after: %d\r\n" % last.retry_after if last.retry_after is not None else b""
        self._transport.write(
            b"%b%bcontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n%b\r\n%b"
            % (STATUS_LINE[last.problem.status], self._server.common, _PROBLEM, len(body), retry, body)
        )
        if self._machine.ended or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._lingers = True
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
        self._machine.lost()
        socket = WebSocketProtocol(server, self._transport, upgrade.request, about)
        self._transport.set_protocol(socket)
        socket.begin(upgrade.rest)

    def shut(self) -> None:
        """The service stops: answer what was begun, and close."""
        self._machine.finish()
        self._advance()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
