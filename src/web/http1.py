"""One HTTP/1.1 connection as a state machine without I/O: bytes that were read go in, events come out.

Each complete request comes out once, in order, and only after the previous one has been answered. Bytes after a request
wait unparsed until then. So nothing that follows a request can prevent its response: neither invalid HTTP, nor a client
that shuts down its sending side, nor an offer of another protocol. When nothing more can be read, there is one final
event, and then the connection has ended:

    | read so far                                          | next event                                   |
    | ---------------------------------------------------- | -------------------------------------------- |
    | a request that came out, and is not answered yet     | none                                         |
    | a complete request                                   | the `Request`                                |
    | part of a request that expects `100 Continue`        | `Step.CONTINUE`, once                        |
    | a request after which the client wants to close      | the `Request`, then `Step.CLOSE`             |
    | invalid HTTP, or something too large                 | a `Refuse`                                   |
    | the end of the stream, in a request or between two   | `Step.CLOSE`                                 |
    | a request to become a websocket                      | an `Upgrade`                                 |

httptools parses. It is fed in pieces of `PIECE` bytes, so that it never parses more than a dozen small requests ahead
of their turn.
"""

from collections import deque
from enum import Enum, auto

import httptools

from wire.errors import Problem, Refusal, Refused

MAX_BODY = 64 * 1024
"""The largest body, in bytes."""

MAX_HEAD = 32 * 1024
"""The largest head of a request, in bytes, to within a piece."""

MAX_REQUEST = 256 * 1024
"""The largest whole request, in bytes, with all framing of its body's chunks."""

MAX_UNREAD = 4 * 1024
"""How many bytes may wait for their turn. While there are more, nothing is read."""

PIECE = 512

NOT_HTTP = Refused(Refusal.BAD_REQUEST, "it is not HTTP/1.1").problem
HOST_MISSING = Refused(Refusal.BAD_REQUEST, "it must have one Host").problem
DUPLICATE_HEADER = Refused(Refusal.BAD_REQUEST, "a header that identifies the client occurs twice").problem
BODY_TOO_LARGE = Refused(Refusal.TOO_LARGE, f"the limit is {MAX_BODY} bytes").problem
HEAD_TOO_LARGE = Problem(type="about:blank", title="The request's head is too large", status=431)
UNSUPPORTED_VERSION = Problem(type="about:blank", title="only HTTP/1.1 is supported", status=505)

_UNIQUE_HEADERS = frozenset({b"host", b"authorization", b"origin", b"sec-fetch-site", b"content-type"})
"""The headers that decide on access. Parsers differ in which of two they use, so each may occur only once."""


class Request:
    """A complete request. Header names are in lower case; `fields` has the last header of each name."""

    __slots__ = ("body", "fields", "headers", "keep_alive", "method", "target", "version")

    def __init__(
        self, method: bytes, target: bytes, version: str, headers: list[tuple[bytes, bytes]], *, keep_alive: bool
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.fields = dict(headers)
        self.keep_alive = keep_alive
        self.body = bytearray()

    @property
    def has_body(self) -> bool:
        """True if its head announces a body."""
        return b"transfer-encoding" in self.fields or self.fields.get(b"content-length", b"0") != b"0"


class Refuse:
    """The final response: why no more requests are accepted. `reason` is the label of its metric."""

    __slots__ = ("problem", "reason", "retry_after")

    def __init__(self, problem: Problem, reason: str, retry_after: int | None = None) -> None:
        self.problem = problem
        self.reason = reason
        self.retry_after = retry_after


class Upgrade:
    """The connection becomes a websocket: `request` requested it, and `rest` was read after it."""

    __slots__ = ("request", "rest")

    def __init__(self, request: Request, rest: bytes) -> None:
        self.request = request
        self.rest = rest


class Step(Enum):
    """What to do besides responding."""

    CONTINUE = auto()  # send `100 Continue`
    CLOSE = auto()


Event = Request | Refuse | Upgrade | Step


class _Stop(Exception):  # noqa: N818 # it is no error
    """Stops the parser: the remaining bytes do not matter."""


class Connection:
    """The state of one connection.

    Attributes:
        requests_begun: how many requests have begun to arrive.
        responding: True while a request that came out is not answered.
        partial: True while only a part of the next request has arrived.
        eof: True once the client sends no more.
    """

    def __init__(self) -> None:
        self.requests_begun = 0
        self.responding = False
        self.partial = False
        self.eof = False
        self._parser = httptools.HttpRequestParser(self)
        self._unread = b""
        self._position = 0
        self._ready: deque[Request] = deque()
        self._last: Refuse | Upgrade | Step | None = None
        self._ended = False
        self._expects_continue = False
        self._upgrading = False
        self._in_head = True
        self._size = 0
        self._piece = 0
        self._parsed = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._request: Request | None = None

    @property
    def buffered(self) -> int:
        """How many bytes of unanswered requests were read."""
        return len(self._unread) - self._position + self._parsed

    @property
    def wants_more(self) -> bool:
        """True if more should be read: not too much is waiting, and more requests are accepted."""
        return len(self._unread) - self._position < MAX_UNREAD and self._last is None and not self._ended

    @property
    def closes(self) -> bool:
        """True if the connection closes after the current response."""
        return self._last is Step.CLOSE and not self._ready

    def receive(self, data: bytes) -> None:
        """Add bytes that were read."""
        if self._last is not None or self._ended:
            return
        self._unread = data if self._position == len(self._unread) else self._unread[self._position :] + data
        self._position = 0

    def receive_end(self) -> None:
        """Note that the client sends no more. It still receives its responses."""
        self.eof = True

    def response_sent(self) -> None:
        """Note that the current request has been answered."""
        self.responding = False
        if not self._ready:
            self._parsed = self._size

    def finish(self, last: Refuse | Step = Step.CLOSE) -> None:
        """Accept no more requests. After the current response, the last event is `last`."""
        self._ready.clear()
        self._unread, self._position, self._parsed, self._size = b"", 0, 0, 0
        self.partial = False
        self._last = last

    def discard(self) -> None:
        """Drop all state once the connection is lost, including the reference cycle with the parser."""
        self.finish()
        self._ended = True
        del self._parser

    def next(self) -> Event | None:
        """Return the next event; None until more is read or answered."""
        if self.responding or self._ended:
            return None
        while not self._ready and self._last is None and self._position < len(self._unread):
            self._parse()
        if self._ready:
            self.responding = True
            return self._ready.popleft()
        if self._last is None and self.eof:
            self._last = Step.CLOSE
        if self._last is not None:
            self._ended = True
            return self._last
        if self._expects_continue:
            self._expects_continue = False
            return Step.CONTINUE
        return None

    def _parse(self) -> None:
        """Parse the next piece."""
        piece = self._unread if len(self._unread) <= PIECE else self._unread[self._position : self._position + PIECE]
        self._position += len(piece)
        self._piece = len(piece)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(piece[upgrade.args[0] :] + self._unread[self._position :])
            return
        except httptools.HttpParserCallbackError:
            if self._last is None:
                raise
        except httptools.HttpParserError:
            if self._last is None:
                self._last = Refuse(NOT_HTTP, "no-http")
        self._size += len(piece)
        self._parsed += len(piece)
        if self._last is None and self._size > MAX_HEAD:
            if self._in_head:
                self._last = Refuse(HEAD_TOO_LARGE, "large-head")
            elif self._size > MAX_REQUEST:
                self._last = Refuse(BODY_TOO_LARGE, "large-request")
        if self._last is not None:
            self._unread, self._position = b"", 0
            self.partial = False

    def _upgrade(self, rest: bytes) -> None:
        """Handle a head that offers another protocol; the parser has stopped after it."""
        request = self._request
        assert request is not None  # noqa: S101 # its head is complete
        self._unread, self._position, self.partial = b"", 0, False
        if _asks_for_websocket(request):
            self._last = Upgrade(request, rest)
        elif request.method == b"CONNECT":
            self._last = Refuse(NOT_HTTP, "no-http")
        else:
            # Decline the offer. The parser would leave the body to the other protocol, so a new parser reads the
            # request again without the offer.
            lines = [b"%b: %b\r\n" % header for header in request.headers if header[0] != b"upgrade"]
            head = b"%b %b HTTP/%b\r\n%b\r\n" % (
                request.method,
                request.target,
                request.version.encode(),
                b"".join(lines),
            )
            self.requests_begun -= 1
            self._parser = httptools.HttpRequestParser(self)
            self._unread = head + rest

    # --- called by the parser -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._last is not None:
            raise _Stop
        self.requests_begun += 1
        self.partial = True
        self._size = 0
        self._in_head = True
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        """Add a piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header. Ignore a trailer, which comes after the body."""
        if self._in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Create the request, since its head is complete, and check it."""
        self._in_head = False
        parser = self._parser
        version = parser.get_http_version()
        keep_alive = version == "1.1" and parser.should_keep_alive()
        request = Request(parser.get_method(), self._target, version, self._headers, keep_alive=keep_alive)
        self._request = request
        self._upgrading = parser.should_upgrade()
        fields = request.fields
        if len(fields) < len(self._headers):
            self._merge(request)
        if b"host" not in fields and version == "1.1":
            self._refuse(HOST_MISSING, "no-http")
        if version not in ("1.1", "1.0"):
            self._refuse(UNSUPPORTED_VERSION, "no-http")
        if not self._target.isascii():
            self._refuse(NOT_HTTP, "no-http")
        length = fields.get(b"content-length")
        if length is not None and (len(length) > 18 or int(length) > MAX_BODY):
            self._refuse(BODY_TOO_LARGE, "large-request")
        if b"expect" in fields and version == "1.1" and fields[b"expect"].lower() == b"100-continue":
            self._expects_continue = True

    def on_body(self, body: bytes) -> None:
        """Add a piece of the body."""
        assert self._request is not None  # noqa: S101 # its head is complete
        self._expects_continue = False
        self._request.body += body
        if len(self._request.body) > MAX_BODY:
            self._refuse(BODY_TOO_LARGE, "large-request")

    def on_message_complete(self) -> None:
        """Add the complete request to those that may come out."""
        request = self._request
        assert request is not None  # noqa: S101 # its head is complete
        if self._upgrading:  # the parser stops here even if a body follows: see `_upgrade`
            return
        self._request = None
        self._expects_continue = False
        self.partial = False
        self._size = -self._piece  # which is counted once it has been parsed
        self._ready.append(request)
        if not request.keep_alive:
            self._last = Step.CLOSE

    def _merge(self, request: Request) -> None:
        """Handle headers that occur more than once."""
        names = [name for name, _ in request.headers]
        for name in _UNIQUE_HEADERS:
            if names.count(name) > 1:
                self._refuse(HOST_MISSING if name == b"host" else DUPLICATE_HEADER, "no-http")
        if names.count(b"cookie") > 1:  # a proxy may split a cookie header
            whole = b"; ".join(value for name, value in request.headers if name == b"cookie")
            request.fields[b"cookie"] = whole
            request.headers = [header for header in request.headers if header[0] != b"cookie"]
            request.headers.append((b"cookie", whole))

    def _refuse(self, problem: Problem, reason: str) -> None:
        self._last = Refuse(problem, reason)
        raise _Stop


def _asks_for_websocket(request: Request) -> bool:
    offers = [
        offer.strip().lower() for name, value in request.headers if name == b"upgrade" for offer in value.split(b",")
    ]
    return request.method == b"GET" and request.version == "1.1" and b"websocket" in offers and not request.has_body
