"""Requests to the JetStream API: typed replies, and the API's errors by their codes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from nats import errors as nats_errors
from prometheus_client import Counter

from jet.connection import Connection, NotConnected
from jet.frames import headers_of
from jet.requests import Forbidden
from wire import subjects
from wire.errors import Refusal, Refused
from wire.fields import DECODE_ERRORS
from wire.units import check_time

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

INVALID_REPLY = Counter(
    "quotestream_nats_invalid_replies", "Answers of the broker that cannot be read, or belong to another request."
)

NOT_SENT = (
    NotConnected,
    nats_errors.OutboundBufferLimitError,
    nats_errors.ConnectionClosedError,
    nats_errors.ConnectionDrainingError,
    Forbidden,
)
"""Raised by a publish that never left this process, or that the broker did not accept."""


class ApiError(Exception):
    """The JetStream API refused a request.

    Attributes:
        code: the HTTP-like class of the error.
        err_code: JetStream's own code, which identifies the error.
        description: the error in words.
    """

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


class InvalidReply(nats_errors.Error):
    """A reply that cannot be decoded, or belongs to another request. The request may have been executed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        INVALID_REPLY.inc()


NO_REPLY = (ApiError, nats_errors.Error, TimeoutError)
"""Raised by a request that gets no valid reply."""


class _Error(msgspec.Struct):
    code: int
    err_code: int = 0
    description: str = ""


class _Envelope(msgspec.Struct):
    error: _Error | None = None


Sequence = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class StoredMessage(msgspec.Struct):
    """A message as `STREAM.MSG.GET` returns it."""

    subject: str
    seq: Sequence
    time: Annotated[datetime, Meta(tz=True)]
    payload: bytes = msgspec.field(default=b"", name="data")
    raw_headers: bytes = msgspec.field(default=b"", name="hdrs")

    def __post_init__(self) -> None:
        check_time("time", self.time)

    @property
    def headers(self) -> dict[str, str]:
        """The message's headers; bytes that are not headers are left out."""
        return headers_of(self.raw_headers)

    def matches(self, query: Mapping[str, Any]) -> bool:
        """True if it may be the reply to a query of `get_message`."""
        pattern = query.get("next_by_subj") or query.get("last_by_subj")
        if pattern is None:
            return bool(self.seq == query["seq"])
        return self.seq >= query.get("seq", 0) and subjects.matches(self.subject, pattern)


class _StoredReply(msgspec.Struct):
    message: StoredMessage


class StreamState(msgspec.Struct):
    """The messages of a stream.

    Attributes:
        messages: how many there are.
        first_seq: the first sequence.
        last_seq: the last sequence.
        bytes: their size.
        subjects: how many messages each subject has; only if subjects were requested.
        lost: what the server could not read when it started.
    """

    messages: Count
    first_seq: Sequence
    last_seq: Sequence
    bytes: Count
    subjects: dict[str, int] = {}
    lost: dict[str, Any] | None = None


class Peer(msgspec.Struct):
    """Another server with a replica of a stream, as the stream's leader sees it.

    Attributes:
        name: the server's name.
        current: its replica is complete.
        offline: it is not connected.
        active: nanoseconds since it was last heard from; 0 if it never was.
        lag: how many messages its replica lags.
    """

    name: str = ""
    current: bool = False
    offline: bool = False
    active: Count = 0
    lag: Count = 0


class _Config(msgspec.Struct):
    """The types of a stream's configuration, which are checked."""

    num_replicas: Count = 1
    max_bytes: int = -1
    max_age: Count = 0
    subjects: list[str] | None = None


class Group(msgspec.Struct):
    """The servers that hold the replicas of a stream."""

    leader: str = ""
    replicas: list[Peer] = []


class StreamInfo(msgspec.Struct):
    """A stream's configuration and state.

    Attributes:
        config: its configuration.
        created: when it was created; distinguishes it from a later stream of the same name.
        state: its messages.
        cluster: its servers; None without a cluster.
        total: how many subjects there are, if they were requested; one reply lists at most 100,000.
    """

    config: dict[str, Any]
    created: Annotated[datetime, Meta(tz=True)]
    state: StreamState
    cluster: Group | None = None
    total: Count = 0

    def __post_init__(self) -> None:
        check_time("created", self.created)
        msgspec.convert(self.config, _Config)

    @property
    def replicated(self) -> bool:
        """True if there are several replicas, of which some may lag the leader's."""
        return bool(self.config.get("num_replicas", 1) > 1)

    def has_majority_within(self, seconds: float) -> bool:
        """True if the leader, which sent this, has heard from a majority within so many seconds, counting itself."""
        replicas = self.config.get("num_replicas", 1)
        peers = self.cluster.replicas if self.cluster else []
        return bool(1 + sum(0 < peer.active < seconds * 1e9 for peer in peers) > replicas // 2)


class _Delivered(msgspec.Struct):
    """How far a consumer has come, by its own sequence and by the stream's."""

    consumer_seq: Sequence = 0
    stream_seq: Sequence = 0


class ConsumerInfo(msgspec.Struct):
    """A consumer's configuration, and how far it has come."""

    name: str
    stream_name: str
    config: dict[str, Any]
    num_pending: Count = 0
    delivered: _Delivered = msgspec.field(default_factory=_Delivered)


async def request(
    connection: Connection, subject: str, body: Any, reply: type[T], *, timeout: float = 2.0, prefix: str = "$JS.API."
) -> T:
    """Send a request to the JetStream API, and return its reply.

    Raises:
        ApiError: it refused the request.
        nats.errors.Error, TimeoutError: it did not reply.
    """
    payload = msgspec.json.encode(body) if body is not None else b""
    message = await connection.request(prefix + subject, payload, timeout=timeout)
    raise_error(message.data)
    return decode(message.data, reply)


def decode(data: bytes, reply: type[T]) -> T:
    """Decode a reply.

    Raises:
        InvalidReply: it cannot be decoded.
    """
    try:
        return msgspec.json.decode(data, type=reply)
    except DECODE_ERRORS as error:
        raise InvalidReply(f"a reply that cannot be decoded: {error!r}") from error


def raise_error(data: bytes) -> None:
    """Raise the error that a reply contains, if any.

    Raises:
        ApiError: the reply contains an error.
        InvalidReply: the reply cannot be decoded.
    """
    error = decode(data, _Envelope).error
    if error is not None:
        raise ApiError(error.code, error.err_code, error.description)


async def stream_info(
    connection: Connection, stream: str, ask: dict[str, Any] | None = None, *, timeout: float = 2.0
) -> StreamInfo:
    """Request a stream's configuration and state from its leader; `ask` may request more details."""
    info = await request(connection, f"STREAM.INFO.{stream}", ask, StreamInfo, timeout=timeout)
    if info.config.get("name") != stream:
        raise InvalidReply(f"a reply about {info.config.get('name')!r} to a request for {stream}")
    return info


async def stream_details(
    connection: Connection, stream: str, subject: str | None = None, *, timeout: float = 2.0
) -> StreamInfo:
    """As `stream_info`, with what the server could not read when it started, and the number of messages on `subject`.

    Not for streams with many deleted messages: the reply lists them all.
    """
    ask = {"deleted_details": True, **({"subjects_filter": subject} if subject else {})}
    return await stream_info(connection, stream, ask, timeout=timeout)


async def stream_subjects(connection: Connection, stream: str, pattern: str, *, timeout: float = 2.0) -> StreamInfo:
    """As `stream_info`, with every subject that matches a pattern, in as many requests as that takes."""
    info = await stream_info(connection, stream, {"subjects_filter": pattern}, timeout=timeout)
    found = dict(info.state.subjects)
    while len(found) < info.total:
        ask = {"subjects_filter": pattern, "offset": len(found)}
        info = await stream_info(connection, stream, ask, timeout=timeout)
        if info.state.subjects.keys() <= found.keys():  # subjects that are not text may look the same
            break
        found |= info.state.subjects
    return msgspec.structs.replace(info, state=msgspec.structs.replace(info.state, subjects=found))


async def consumer(
    connection: Connection, stream: str, name: str, config: dict[str, Any] | None = None, *, timeout: float
) -> ConsumerInfo:
    """Request a consumer's state; with `config`, create the consumer first."""
    action = "INFO" if config is None else "CREATE"
    body = {"stream_name": stream, "config": config, "action": "create"} if config is not None else None
    info = await request(connection, f"CONSUMER.{action}.{stream}.{name}", body, ConsumerInfo, timeout=timeout)
    if (info.stream_name, info.name) != (stream, name):
        raise InvalidReply(f"a reply about {info.name!r} of {info.stream_name!r} to a request for {name} of {stream}")
    return info


async def get_message(
    connection: Connection, stream: str, query: dict[str, Any], *, timeout: float = 1.0
) -> StoredMessage | None:
    """Request one stored message from the stream's leader; None if there is none.

    `query` is `{"seq": n}`, `{"last_by_subj": s}` or `{"seq": n, "next_by_subj": s}`.
    """
    try:
        found = await request(connection, f"STREAM.MSG.GET.{stream}", query, _StoredReply, timeout=timeout)
    except ApiError as error:
        if error.err_code == MESSAGE_NOT_FOUND:
            return None
        raise
    if not found.message.matches(query):
        raise InvalidReply(f"a reply with {found.message.seq} on {found.message.subject!r} to a request for {query}")
    return found.message


async def read_message(
    connection: Connection, stream: str, query: dict[str, Any], *, timeout: float = 1.0
) -> StoredMessage | None:
    """As `get_message`, for code that answers a client.

    Raises:
        Refused: UNAVAILABLE, if the broker did not answer.
    """
    try:
        return await get_message(connection, stream, query, timeout=timeout)
    except (ApiError, nats_errors.Error, TimeoutError) as error:
        raise Refused(Refusal.UNAVAILABLE, f"the broker did not return a message of {stream}: {error!r}") from error
