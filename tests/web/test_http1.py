"""The connection as a state machine: scripts of bytes, in one piece, cut in two at every byte, and byte by byte."""

from collections.abc import Iterator

import pytest

from web.http1 import (
    MAX_BODY,
    MAX_HEAD,
    MAX_REQUEST,
    PIECE,
    Connection,
    Event,
    Refuse,
    Request,
    Step,
    Upgrade,
)

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /o HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
WS = b"GET /s HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"


def post(*headers: bytes, version: bytes = b"1.1", body: bytes = b"{}", host: bytes = b"Host: h") -> bytes:
    lines = [host, *headers, b"Content-Length: %d" % len(body)]
    return b"POST /o HTTP/%b\r\n%b\r\n\r\n%b" % (version, b"\r\n".join(line for line in lines if line), body)


CHUNKS = CHUNKED[: CHUNKED.index(b"1\r\n{")]
ASKING = b"POST /o HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
ASKED, ORDERED, SENT = "GET /a", "POST /o {}", "POST /c {}"

SCRIPTS: dict[str, tuple[bytes, list[str]]] = {
    "nothing": (b"", []),
    "one": (GET, [ASKED]),
    "one with a body": (POST, [ORDERED]),
    "one in chunks": (CHUNKED + b"\r\n", [SENT]),
    "blank lines before": (b"\r\n\r\n" + GET + b"\r\n" + POST, [ASKED, ORDERED]),
    "several": (POST + GET + CHUNKED + b"\r\n" + POST, [ORDERED, ASKED, SENT, ORDERED]),
    "a part of one": (POST + GET[:-1], [ORDERED]),
    # bytes that follow a request
    "a NUL behind": (POST + b"\0", [ORDERED, "400"]),
    "a blank behind": (POST + b" ", [ORDERED, "400"]),
    "a brace behind": (POST + b"}", [ORDERED, "400"]),
    "TLS behind": (POST + b"\x16\x03\x01\x02\x00" + GET, [ORDERED, "400"]),
    "a wrong request behind two": (POST + GET + b"GET\r\n\r\n" + POST, [ORDERED, ASKED, "400"]),
    "a request in which it goes wrong is not given out": (GET + CHUNKED[:-3] + b"zz\r\n", [ASKED, "400"]),
    # the last request
    "no more wanted": (post(b"Connection: close") + GET, [ORDERED, "close"]),
    "no more wanted, and no HTTP behind": (post(b"Connection: close") + b"\0\0", [ORDERED, "close"]),
    "HTTP/1.0": (post(version=b"1.0") + POST, [ORDERED, "close"]),
    "HTTP/1.0 that would stay": (post(b"Connection: keep-alive", version=b"1.0") + POST, [ORDERED, "close"]),
    "HTTP/1.0 without a host": (post(version=b"1.0", host=b""), [ORDERED, "close"]),
    # offers of another protocol
    "h2c": (post(H2C[:-2]) + GET, [ORDERED, ASKED]),
    "h2c in chunks": (CHUNKED.replace(b"Host: h\r\n", b"Host: h\r\n" + H2C) + b"\r\n" + GET, [SENT, ASKED]),
    "h2c without a body": (GET.replace(b"Host: h\r\n", b"Host: h\r\n" + H2C) + POST, [ASKED, ORDERED]),
    "h2c behind another": (POST + post(H2C[:-2]) + b"\0", [ORDERED, ORDERED, "400"]),
    "h2c without a host": (post(H2C[:-2], host=b""), ["400"]),
    "TLS offered": (post(b"Connection: upgrade\r\nUpgrade: TLS/1.0, HTTP/2.0"), [ORDERED]),
    "a websocket with a body": (post(b"Connection: upgrade\r\nUpgrade: websocket") + GET, [ORDERED, ASKED]),
    "a websocket": (WS, ["websocket"]),
    "a websocket in a hurry": (GET + WS + b"\x81\x00", [ASKED, "websocket"]),
    "a websocket of HTTP/1.0": (WS.replace(b"1.1", b"1.0"), ["GET /s", "close"]),
    "a tunnel": (GET + b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n\x16\x03", [ASKED, "400"]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ["400"]),
    # hosts and duplicate headers
    "no host": (GET + post(host=b"") + GET, [ASKED, "400"]),
    "two hosts": (post(b"Host: other"), ["400"]),
    "two hosts that agree": (post(b"HOST: h"), ["400"]),
    "two tokens": (post(b"Authorization: Bearer a", b"authorization: Bearer b"), ["400"]),
    "two origins": (post(b"Origin: a", b"Origin: b"), ["400"]),
    "two lengths": (post(b"Content-Length: 2"), ["400"]),
    "a length and chunks": (post(b"Transfer-Encoding: chunked"), ["400"]),
    "two of what does not matter": (post(b"Accept: a", b"Accept: b"), [ORDERED]),
    "a header in two lines": (post(b"A: b\r\n c: d"), ["400"]),
    "a blank before a colon": (post(b"Transfer-Encoding : chunked"), ["400"]),
    "bare line feeds": (POST + b"GET /a HTTP/1.1\nHost: h\n\n", [ORDERED, "400"]),
    # trailers
    "trailers": (CHUNKED + b"Host: evil\r\nAuthorization: Bearer x\r\n\r\n" + GET, [SENT, ASKED]),
    "a trailer that is a length": (CHUNKED + b"Content-Length: 5\r\n\r\n" + GET, ["400"]),
    # 100 Continue
    "may it go on": (ASKING, ["continue"]),
    "may it go on, behind another": (POST + ASKING, [ORDERED, "continue"]),
    # too large
    "a body that is announced too large": (b"POST /o HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\n\r\n", ["413"]),
    "a length without end": (b"POST /o HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", ["400"]),
    # targets
    "a target of other letters": (GET.replace(b"/a", b"/\xc3\xa4"), ["400"]),
    "a whole address": (GET.replace(b"/a", b"http://h/a"), ["GET http://h/a"]),
}  # fmt: skip


def text(event: Event) -> str:
    match event:
        case Request():
            return f"{event.method.decode()} {event.target.decode()} {event.body.decode()}".strip()
        case Refuse():
            return str(event.problem.status)
        case Upgrade():
            return "websocket"
        case Step():
            return event.name.lower()


def run(pieces: list[bytes], *, at_once: bool, ends: bool = False) -> list[str]:
    """Return the events, with each request answered at once, or only when everything has been read."""
    connection, out = Connection(), []

    def take(*, answer: bool) -> None:
        while (event := connection.next()) is not None:
            assert not connection.responding or isinstance(event, Request)
            out.append(text(event))
            if connection.responding and answer:
                connection.response_sent()

    for piece in pieces:
        connection.receive(piece)
        take(answer=at_once)
    if ends:
        connection.receive_end()
    if connection.responding and not at_once:
        connection.response_sent()
    take(answer=True)
    return out


def cuts(script: bytes) -> Iterator[list[bytes]]:
    yield [script]
    yield [script[at : at + 1] for at in range(len(script))]
    for at in range(1, len(script)):
        yield [script[:at], script[at:]]


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_request_comes_out_once_and_in_order_whatever_follows(name: str) -> None:
    """However the bytes are split, and however soon each request is answered."""
    script, expected = SCRIPTS[name]
    for pieces in cuts(script):
        for at_once in (True, False):
            assert run(pieces, at_once=at_once) == expected, pieces


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_client_that_sends_no_more_receives_its_responses_and_is_closed(name: str) -> None:
    script, answers = SCRIPTS[name]
    expected = [line for line in answers if line != "continue"]
    ends = bool(expected) and not expected[-1].startswith(("4", "close", "websocket"))
    for at_once in (True, False):
        out = [line for line in run([script], at_once=at_once, ends=True) if line != "continue"]
        if ends or not expected:
            assert out.pop() == "close"
        assert len(out) == len(expected)
        assert not out or out[-1] != "close" or expected[-1] == "close"


def test_a_websocket_receives_what_was_read_after_its_request() -> None:
    connection = Connection()
    connection.receive(WS + b"\x81\x00" * 1000)
    event = connection.next()
    assert isinstance(event, Upgrade)
    assert event.rest == b"\x81\x00" * 1000
    assert event.request.fields[b"upgrade"] == b"WebSocket"


def test_trailers_are_not_headers_not_even_of_the_next_request() -> None:
    connection = Connection()
    connection.receive(CHUNKED + b"Host: evil\r\nCookie: x\r\n\r\n" + GET)
    for _ in range(2):
        request = connection.next()
        assert isinstance(request, Request)
        assert (request.fields[b"host"], b"cookie" in request.fields) == (b"h", False)
        connection.response_sent()


def test_split_cookie_headers_are_joined() -> None:
    connection = Connection()
    connection.receive(post(b"Cookie: a=1", b"Cookie: b=2"))
    request = connection.next()
    assert isinstance(request, Request)
    assert request.fields[b"cookie"] == b"a=1; b=2"


@pytest.mark.parametrize(
    ("begins", "goes_on", "most", "status"),
    [
        (b"GET /", b"a", MAX_HEAD, 431),
        (b"GET / HTTP/1.1\r\n", b"A: b\r\n", MAX_HEAD, 431),
        (b"", b"\r\n", MAX_HEAD, 431),
        (CHUNKS, b"400\r\n" + b"x" * 1024 + b"\r\n", MAX_BODY, 413),
        (CHUNKS, b"1\r\nx\r\n", MAX_REQUEST, 413),
        (CHUNKED, b"A: b\r\n", MAX_REQUEST, 413),
    ],
    ids=["target", "headers", "blank-lines", "chunks", "small-chunks", "trailers"],
)
def test_endless_requests_are_refused(begins: bytes, goes_on: bytes, most: int, status: int) -> None:
    connection = Connection()
    connection.receive(begins)
    sent = 0
    while (event := connection.next()) is None:
        assert sent < most + PIECE + len(goes_on) * 100
        connection.receive(goes_on)
        sent += len(goes_on)
    assert isinstance(event, Refuse)
    assert event.problem.status == status
    assert not connection.wants_more


def test_requests_ahead_of_their_turn_wait_unparsed() -> None:
    connection = Connection()
    connection.receive(GET * 5000)
    assert not connection.wants_more
    answered = 0
    while isinstance(connection.next(), Request):
        assert len(connection._ready) <= PIECE // len(GET) + 1
        assert connection.buffered <= len(GET) * (5000 - answered) + 2 * PIECE
        assert connection.wants_more or answered < 4900
        connection.response_sent()
        answered += 1
    assert (answered, connection.buffered, connection.wants_more) == (5000, 0, True)


def test_buffered_counts_the_bytes_of_unanswered_requests() -> None:
    connection = Connection()
    connection.receive(POST)
    assert connection.next() is not None
    assert connection.buffered == len(POST)
    connection.response_sent()
    assert (connection.next(), connection.buffered) == (None, 0)
    connection.receive(POST[:-1])
    assert (connection.next(), connection.buffered) == (None, len(POST) - 1)


def test_a_finished_connection_answers_only_the_current_request() -> None:
    connection = Connection()
    connection.receive(POST + POST)
    assert isinstance(connection.next(), Request)
    connection.finish()
    assert connection.next() is None
    connection.response_sent()
    assert (connection.next(), connection.next(), connection.buffered) == (Step.CLOSE, None, 0)
