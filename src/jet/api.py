"""Requests to the JetStream API: typed replies, the errors we know by their codes, and nothing else."""

import base64
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from nats import errors as nats_errors
from prometheus_client import Counter

from jet.connection import Connection, Forbidden, NotConnected
from wire.errors import Refusal, Refused
from wire.messages import UNREADABLE

T = TypeVar("T")

WRONG_LAST_SEQUENCE = 10071
COMPARE_IN_FLIGHT = 10164
DUPLICATE_IN_FLIGHT = 10158
TOO_MANY_REQUESTS = 10167
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
MESSAGE_NOT_FOUND = 10037
STREAM_FULL = 10077
INSUFFICIENT_STORAGE = 10047
NO_PEERS = 10005
REPLICAS_WITHOUT_CLUSTER = 10074

GARBLED = Counter(
    "quotestream_nats_unreadable_answers", "Answers of the broker that cannot be read, or answer something else."
)

NOT_SENT = (
    NotConnected,
    nats_errors.OutboundBufferLimitError,
    nats_errors.ConnectionClosedError,
    nats_errors.ConnectionDrainingError,
    Forbidden,
)
"""Raised by a publish that never left this process, or that the broker did not take."""


class ApiError(Exception):
    """The JetStream API refused a request.

    Attributes:
        code: the HTTP-like class of the error.
        err_code: JetStream's own code, which names the error.
        description: for a person.
    """

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


class Garbled(nats_errors.Error):
    """An answer that cannot be read, or is not one to what was asked: what was asked for may have been done."""

    def __init__(self, told: str) -> None:
        super().__init__(told)
        GARBLED.inc()


NO_REPLY = (ApiError, nats_errors.Error, TimeoutError)
"""Raised by a request that has no reply."""


class _Error(msgspec.Struct):
    code: int
    err_code: int = 0
    description: str = ""


class _Envelope(msgspec.Struct):
    error: _Error | None = None


class StoredMessage(msgspec.Struct):
    """A message as `STREAM.MSG.GET` returns it: `data` and `hdrs` in base 64."""

    subject: str
    seq: int
    time: datetime
    data: str = ""
    hdrs: str = ""

    @property
    def payload(self) -> bytes:
        """The message's body."""
        return base64.b64decode(self.data)

    @property
    def headers(self) -> dict[str, str]:
        """The message's headers."""
        lines = base64.b64decode(self.hdrs).decode().split("\r\n")[1:]
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


class _StoredReply(msgspec.Struct):
    message: StoredMessage


class StreamState(msgspec.Struct):
    """What a stream holds. `subjects`, with how many messages each: only where they were asked for. `num_deleted`: how
    many sequences between the first and the last are gone. `lost`: what the server could not read when it started."""

    messages: int
    first_seq: int
    last_seq: int
    bytes: int
    subjects: dict[str, int] = {}
    num_deleted: int = 0
    lost: dict[str, Any] | None = None


class Peer(msgspec.Struct):
    """Another server that holds a stream, as its leader sees it: `active` is for how many nanoseconds it was not heard,
    0 if it never was; `lag` is how many messages its copy is behind."""

    name: str = ""
    current: bool = False
    offline: bool = False
    active: int = 0
    lag: int = 0


class Group(msgspec.Struct):
    """The servers that hold a stream."""

    leader: str = ""
    replicas: list[Peer] = []


class StreamInfo(msgspec.Struct):
    """A stream's configuration and state. `created` tells a stream from a later one of the same name; `total` is how
    many subjects there are, where they were asked for: an answer has no more than 100,000."""

    config: dict[str, Any]
    created: datetime
    state: StreamState
    cluster: Group | None = None
    total: int = 0

    @property
    def replicated(self) -> bool:
        """Whether there are several copies, of which some may be behind the leader's."""
        return int(self.config.get("num_replicas", 1)) > 1

    def heard_within(self, seconds: float) -> bool:
        """Whether the leader, which told this, has heard of a majority lately, counting itself."""
        replicas = int(self.config.get("num_replicas", 1))
        peers = self.cluster.replicas if self.cluster else []
        return 1 + sum(0 < peer.active < seconds * 1e9 for peer in peers) > replicas // 2


async def request(
    connection: Connection, subject: str, body: Any, reply: type[T], *, timeout: float = 2.0, prefix: str = "$JS.API."
) -> T:
    """Ask the JetStream API.

    Raises:
        ApiError: it refused.
        nats.errors.Error, TimeoutError: it did not answer.
    """
    payload = msgspec.json.encode(body) if body is not None else b""
    message = await connection.request(prefix + subject, payload, timeout=timeout)
    raise_error(message.data)
    return read(message.data, reply)


def read(data: bytes, reply: type[T]) -> T:
    """An answer as it is meant.

    Raises:
        Garbled: it is not.
    """
    try:
        return msgspec.json.decode(data, type=reply)
    except UNREADABLE as error:
        raise Garbled(f"an answer that cannot be read: {error!r}") from error


def raise_error(data: bytes) -> None:
    """Raise the error a reply holds, if it holds one.

    Raises:
        ApiError: it does.
        Garbled: it cannot be read.
    """
    error = read(data, _Envelope).error
    if error is not None:
        raise ApiError(error.code, error.err_code, error.description)


async def stream_info(connection: Connection, stream: str, *, timeout: float = 2.0) -> StreamInfo:
    """A stream's configuration and state, as its leader tells."""
    return await request(connection, f"STREAM.INFO.{stream}", None, StreamInfo, timeout=timeout)


async def stream_details(
    connection: Connection, stream: str, subject: str | None = None, *, timeout: float = 2.0
) -> StreamInfo:
    """The same, with what the server could not read when it started, which it tells nobody who does not ask; and with
    how many messages are on a subject, if one is named. Not for streams from which much is deleted: it is listed.
    """
    ask = {"deleted_details": True, **({"subjects_filter": subject} if subject else {})}
    return await request(connection, f"STREAM.INFO.{stream}", ask, StreamInfo, timeout=timeout)


async def get_message(
    connection: Connection, stream: str, query: dict[str, Any], *, timeout: float = 1.0
) -> StoredMessage | None:
    """One stored message, as the stream's leader tells; None if there is none.

    `query` is `{"seq": n}`, `{"last_by_subj": s}` or `{"seq": n, "next_by_subj": s}`.
    """
    try:
        found = await request(connection, f"STREAM.MSG.GET.{stream}", query, _StoredReply, timeout=timeout)
    except ApiError as error:
        if error.err_code == MESSAGE_NOT_FOUND:
            return None
        raise
    return found.message


async def read_message(
    connection: Connection, stream: str, query: dict[str, Any], *, timeout: float = 1.0
) -> StoredMessage | None:
    """`get_message` for those who answer a client.

    Raises:
        Refused: UNAVAILABLE, if the broker did not answer.
    """
    try:
        return await get_message(connection, stream, query, timeout=timeout)
    except (ApiError, nats_errors.Error, TimeoutError) as error:
        raise Refused(Refusal.UNAVAILABLE, f"the broker did not say what {stream} holds: {error!r}") from error
