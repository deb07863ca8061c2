"""One HTTP/1.1 connection as a state machine, without I/O: what was read goes in, what is to be done comes out.

Every request that was read whole is given out once, in order, and the next one only when it has been answered. What
follows a request waits unparsed until then, so that nothing that follows can take its answer away: not what is no HTTP,
nor a client that shuts its sending half, nor an offer of another protocol. When nothing more can be read, one last step
is left, and then the connection is over:

    | read so far                                      | what comes out next                          |
    | ------------------------------------------------ | -------------------------------------------- |
    | a request is given out, and not answered         | nothing                                      |
    | a whole request                                  | the `Request`                                |
    | part of one, whose client asks if it may go on   | `Step.CONTINUE`, once                        |
    | a request after which its client wants no more   | the `Request`, then `Step.CLOSE`             |
    | what is no HTTP, or too large                    | a `Refuse`                                   |
    | the end, within a request or before one          | `Step.CLOSE`                                 |
    | a request to become a websocket                  | an `Upgrade`                                 |

httptools parses. It is fed in pieces of `PIECE` bytes, so that no more than a dozen small requests are ever parsed
ahead of their turn.
"""

from collections import deque
from enum import Enum, auto

import httptools

from wire.errors import Problem, Refusal, Refused

MAX_BODY = 64 * 1024
"""Bytes of a body."""

MAX_HEAD = 32 * 1024
"""Bytes of a request's head, to within a piece."""

MAX_REQUEST = 256 * 1024
"""Bytes of a whole request: a body in the smallest of chunks still fits, and is refused by its own limit."""

MAX_UNREAD = 4 * 1024
"""Bytes that may wait for their turn before no more is read."""

PIECE = 512

NO_HTTP = Refused(Refusal.BAD_REQUEST, "it is not HTTP/1.1").problem
HOST_MISSING = Refused(Refusal.BAD_REQUEST, "it must have one Host").problem
TWICE = Refused(Refusal.BAD_REQUEST, "a header that identifies the client occurs twice").problem
BODY_TOO_LARGE = Refused(Refusal.TOO_LARGE, f"the limit is {MAX_BODY} bytes").problem
HEAD_TOO_LARGE = Problem(type="about:blank", title="The request's head is too large", status=431)
OTHER_VERSION = Problem(type="about:blank", title="only HTTP/1.1 is supported", status=505)

_ONCE = frozenset({b"host", b"authorization", b"origin", b"sec-fetch-site", b"content-type"})
"""What decides who is let in: readers differ in which of two they take."""


class Request:
    """A whole request. Header names are in lower case; `fields` has the last of each name."""

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
        """Whether its head says that a body follows."""
        return b"transfer-encoding" in self.fields or self.fields.get(b"content-length", b"0") != b"0"


class Refuse:
    """The last thing to say: why no more requests are taken. `reason` is what it counts as."""

    __slots__ = ("problem", "reason", "retry_after")

    def __init__(self, problem: Problem, reason: str, retry_after: int | None = None) -> None:
        self.problem = problem
        self.reason = reason
        self.retry_after = retry_after


class Upgrade:
    """From here on the connection is a websocket: `request` asked for it, and `rest` was read behind it."""

    __slots__ = ("request", "rest")

    def __init__(self, request: Request, rest: bytes) -> None:
        self.request = request
        self.rest = rest


class Step(Enum):
    """What is to be done besides answering."""

    CONTINUE = auto()  # tell the client to go on with its body
    CLOSE = auto()


Event = Request | Refuse | Upgrade | Step


class _Stop(Exception):  # noqa: N818 # it is no error: httptools is told to parse no further
    """What the parser makes of the rest does not matter."""


class Connection:
    """The state of one connection.

    Attributes:
        begun: how many requests have begun to arrive.
        answering: whether a request was given out that is not answered.
        partial: whether a part of a request has arrived.
        ended: whether the client sends no more.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.answering = False
        self.partial = False
        self.ended = False
        self._parser = httptools.HttpRequestParser(self)
        self._unread = b""
        self._at = 0
        self._ready: deque[Request] = deque()
        self._last: Refuse | Upgrade | Step | None = None
        self._over = False
        self._asks_to_continue = False
        self._upgrading = False
        self._in_head = True
        self._size = 0
        self._piece = 0
        self._parsed = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._request: Request | None = None

    @property
    def held(self) -> int:
        """Bytes that were read and not answered."""
        return len(self._unread) - self._at + self._parsed

    @property
    def takes_more(self) -> bool:
        """Whether it makes sense to read on: enough waits otherwise, or nothing more will be taken."""
        return len(self._unread) - self._at < MAX_UNREAD and self._last is None and not self._over

    @property
    def closes(self) -> bool:
        """Whether the answer that is due is the last thing to say."""
        return self._last is Step.CLOSE and not self._ready

    def receive(self, data: bytes) -> None:
        """Bytes have been read."""
        if self._last is not None or self._over:
            return
        self._unread = data if self._at == len(self._unread) else self._unread[self._at :] + data
        self._at = 0

    def receive_end(self) -> None:
        """The client sends no more. It still gets its answers."""
        self.ended = True

    def answered(self) -> None:
        """The request that was given out has had its answer."""
        self.answering = False
        if not self._ready:
            self._parsed = self._size

    def finish(self, last: Refuse | Step = Step.CLOSE) -> None:
        """Take no more requests: answer the one that is given out, and say `last`."""
        self._ready.clear()
        self._unread, self._at, self._parsed, self._size = b"", 0, 0, 0
        self.partial = False
        self._last = last

    def lost(self) -> None:
        """There is no connection any more: nothing is kept, and the parser and this let go of each other."""
        self.finish()
        self._over = True
        del self._parser

    def next(self) -> Event | None:
        """What is to be done; None until something more is read or answered."""
        if self.answering or self._over:
            return None
        while not self._ready and self._last is None and self._at < len(self._unread):
            self._parse()
        if self._ready:
            self.answering = True
            return self._ready.popleft()
        if self._last is None and self.ended:
            self._last = Step.CLOSE
        if self._last is not None:
            self._over = True
            return self._last
        if self._asks_to_continue:
            self._asks_to_continue = False
            return Step.CONTINUE
        return None

    def _parse(self) -> None:
        """Have the next piece parsed."""
        piece = self._unread if len(self._unread) <= PIECE else self._unread[self._at : self._at + PIECE]
        self._at += len(piece)
        self._piece = len(piece)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(piece[upgrade.args[0] :] + self._unread[self._at :])
            return
        except httptools.HttpParserCallbackError:
            if self._last is None:
                raise
        except httptools.HttpParserError:
            if self._last is None:
                self._last = Refuse(NO_HTTP, "no-http")
        self._size += len(piece)
        self._parsed += len(piece)
        if self._last is None and self._size > MAX_HEAD:
            if self._in_head:
                self._last = Refuse(HEAD_TOO_LARGE, "large-head")
            elif self._size > MAX_REQUEST:
                self._last = Refuse(BODY_TOO_LARGE, "large-request")
        if self._last is not None:
            self._unread, self._at = b"", 0
            self.partial = False

    def _upgrade(self, rest: bytes) -> None:
        """The parser has stopped behind a head that offers another protocol."""
        request = self._request
        assert request is not None  # noqa: S101 # its head is whole
        self._unread, self._at, self.partial = b"", 0, False
        if _asks_for_websocket(request):
            self._last = Upgrade(request, rest)
        elif request.method == b"CONNECT":
            self._last = Refuse(NO_HTTP, "no-http")
        else:
            # We do not take the offer. The parser would leave the body to the other protocol: so it reads the same
            # request again, without the offer.
            lines = [b"%b: %b\r\n" % header for header in request.headers if header[0] != b"upgrade"]
            head = b"%b %b HTTP/%b\r\n%b\r\n" % (
                request.method,
                request.target,
                request.version.encode(),
                b"".join(lines),
            )
            self.begun -= 1
            self._parser = httptools.HttpRequestParser(self)
            self._unread = head + rest

    # --- called by the parser -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._last is not None:
            raise _Stop
        self.begun += 1
        self.partial = True
        self._size = 0
        self._in_head = True
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or behind a body a trailer, which says nothing to us."""
        if self._in_head:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Its head is whole."""
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
            self._refuse(OTHER_VERSION, "no-http")
        if not self._target.isascii():
            self._refuse(NO_HTTP, "no-http")
        length = fields.get(b"content-length")
        if length is not None and (len(length) > 18 or int(length) > MAX_BODY):
            self._refuse(BODY_TOO_LARGE, "large-request")
        if b"expect" in fields and version == "1.1" and fields[b"expect"].lower() == b"100-continue":
            self._asks_to_continue = True

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        assert self._request is not None  # noqa: S101 # its head is whole
        self._asks_to_continue = False
        self._request.body += body
        if len(self._request.body) > MAX_BODY:
            self._refuse(BODY_TOO_LARGE, "large-request")

    def on_message_complete(self) -> None:
        """It is whole."""
        request = self._request
        assert request is not None  # noqa: S101 # its head is whole
        if self._upgrading:  # the parser stops here, whatever the head says of a body: see `_upgrade`
            return
        self._request = None
        self._asks_to_continue = False
        self.partial = False
        self._size = -self._piece  # which is counted once it has been parsed
        self._ready.append(request)
        if not request.keep_alive:
            self._last = Step.CLOSE

    def _merge(self, request: Request) -> None:
        """Headers that are there more than once."""
        names = [name for name, _ in request.headers]
        for name in _ONCE:
            if names.count(name) > 1:
                self._refuse(HOST_MISSING if name == b"host" else TWICE, "no-http")
        if names.count(b"cookie") > 1:  # a proxy may hand one on in pieces
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
