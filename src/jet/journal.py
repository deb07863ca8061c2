"""Compare-and-append: the one way to write to a log.

An append names the sequence it believes is the last one, of the stream or of a subject filter, and the broker stores it
only if that is so. What makes an outcome certain:

- The identical message is sent again until the broker answers: a publish that timed out may still be stored, much
  later.
- "The head moved" is final for this message once the head that it names is beyond the expected one, and stored: no copy
  of the message can be stored any more. Whether an earlier copy was is seen by reading the first message after the
  expected head. Until then the message is sent again: a cluster's leader may name a head that is still under way, and
  one that leads no more but does not know it yet names a head of the past.
- A message is ours if it carries our token. Its id will not do: ids derive from facts, so another writer may have
  appended its own decision under the same id, and the broker would call ours a duplicate of it.

In a cluster the broker tracks compares in flight by the literal filter string, so all writers of one symbol's log must
send the identical filter: `subjects.market_head`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import structlog
from nats import errors as nats_errors

from jet import api
from jet.connection import Connection
from jet.requests import Forbidden
from wire.errors import Refusal, Refused

ACK_TIMEOUT = 1.0
"""Seconds to wait for an ack before the identical message is sent again."""

STALE_PATIENCE = 2.0
"""Seconds after which an answer is believed that names a head before the expected one. A leader that was paused or cut
off learns within milliseconds of being heard again that it leads no more."""

HEARD = 3.0
"""Seconds within which a leader must have heard of a majority to be believed. They hear each other every second, and
elect no other one before 4 s of silence."""

_TOKEN = "Quotestream-Append"  # noqa: S105 # a header's name


ASKED_BY = "Quotestream-Asked-By"
"""The header that says whose token came with the request that led to a message."""

_COPY_OF = ("Nats-Stream", "Nats-Stream-Source")
"""The headers by which the broker marks a copy of a stored message, headers and all: an answer that holds one, and what
a stream has taken from another."""

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Compare:
    """Append only if `sequence` is the last one: on `filter`, or of the whole stream if that is None."""

    sequence: int
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """Our message is in the log, at `sequence`, with these `headers`."""

    sequence: int
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Our message is not in the log and never will be: the head had moved.

    `head` is the newest sequence known to be stored, 0 if none is: whoever follows the log gets there.
    """

    head: int


class _Ack(msgspec.Struct):
    seq: int
    stream: str = ""
    domain: str = ""
    duplicate: bool = False


async def append(
    connection: Connection,
    stream: str,
    subject: str,
    payload: bytes,
    *,
    msg_id: str,
    compare: Compare,
    ttl: int | None = None,
    headers: Mapping[str, str] = {},
    on_unknown: Callable[[str], None] | None = None,
) -> Appended | Conflict:
    """Append a message if the head is where the caller believes; see the module for what makes the answer certain.

    It waits for as long as the broker is away: cancel it to stop waiting, and take the outcome as unknown then.

    In a bucket, where a newer value of a key takes the older one away, an append that landed, went unacknowledged and
    was overwritten since is told as a conflict. Decisions there are idempotent, so deciding again is right anyway.

    Args:
        connection: the connection.
        stream: the stream the subject belongs to.
        subject: where to append.
        payload: what to append.
        msg_id: the deduplication id.
        compare: what must be so.
        ttl: whole seconds after which the broker removes the message and leaves a marker.
        headers: more headers for the message.
        on_unknown: told why, each time the outcome remains unknown and the message is sent again.

    Raises:
        Refused: UNAVAILABLE: the broker does not take the message, or not from this user, and nothing was written.
    """
    token = connection.token()
    sent = {**headers, **_headers(stream, msg_id, compare, ttl), _TOKEN: token}
    past = _Past()
    maybe_stored = False
    pause = 0.02
    while True:
        try:
            ack = await _publish(connection, stream, subject, payload, sent)
            if ack.seq <= compare.sequence and not ack.duplicate:
                raise api.InvalidReply(f"an acknowledgement of {ack.seq}, which is not after {compare.sequence}")
        except Forbidden as error:
            if not maybe_stored:
                raise Refused(Refusal.UNAVAILABLE, f"{error}; nothing was written") from error
            reason = str(error)  # it was permitted a moment ago, when it may have been stored
        except api.NOT_SENT as error:
            reason = f"not connected: {error!r}"
        except nats_errors.MaxPayloadError as error:
            detail = f"the message is too large: {len(payload)} bytes; nothing was written"
            raise Refused(Refusal.UNAVAILABLE, detail) from error
        except (nats_errors.Error, TimeoutError) as error:
            maybe_stored = True
            reason = f"no answer: {error!r}"
        except api.ApiError as error:
            reason = str(error)
            if error.err_code == api.WRONG_LAST_SEQUENCE:
                head = await _moved_to(connection, stream, compare, error, on_unknown)
                if head > compare.sequence or (compare.filter is not None and past.believed()):
                    if compare.filter is not None and not maybe_stored:
                        return Conflict(head)
                    return await _outcome(connection, stream, token, compare, head, on_unknown)
                maybe_stored = True  # by the leader, if this was another's answer
            elif not _may_pass(error) and not maybe_stored:
                raise Refused(
                    Refusal.UNAVAILABLE, f"the broker refused the write: {error}; nothing was written"
                ) from error
        else:
            if not ack.duplicate or await _is_ours(connection, stream, ack.seq, token, on_unknown):
                return Appended(ack.seq, sent)
            # Another message had the id. Whether ours may be stored is for the compare to say: under an id of its own.
            sent["Nats-Msg-Id"] = f"{msg_id}-{token}"
            continue
        if on_unknown is not None:
            on_unknown(reason)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.5)


def is_append(headers: Mapping[str, str] | None) -> bool:
    """Whether a message was appended by `append`, and is no copy that somebody had stored there."""
    return headers is not None and _TOKEN in headers and not is_copy(headers)


def is_written(headers: Mapping[str, str] | None) -> bool:
    """Whether a message was written by `append` or `put`, and is no copy that somebody had stored there."""
    return headers is not None and "Nats-Expected-Stream" in headers and not is_copy(headers)


def is_copy(headers: Mapping[str, str]) -> bool:
    """Whether a message is a copy of another, headers and all: an answer of the broker that somebody had stored, or
    what somebody had a stream take from another."""
    return any(name in headers for name in _COPY_OF)


def number_in(message: api.StoredMessage, header: str) -> int:
    """A number that a header of ours holds; 0 if there is none that can be read."""
    try:
        return int(message.headers.get(header, 0))
    except ValueError:  # what none of ours writes; headers that are no text are of this kind, too
        return 0


async def put(
    connection: Connection,
    stream: str,
    subject: str,
    payload: bytes,
    *,
    msg_id: str | None = None,
    ttl: int | None = None,
) -> int:
    """Write without a compare, for projections, which are rebuilt from a log at any time. Returns the sequence.

    Raises:
        Refused: UNAVAILABLE: not written, or not known to be.
    """
    headers = {"Nats-Expected-Stream": stream}
    if msg_id is not None:
        headers["Nats-Msg-Id"] = msg_id
    if ttl is not None:
        headers["Nats-TTL"] = str(ttl)
    try:
        return (await _publish(connection, stream, subject, payload, headers)).seq
    except (api.ApiError, nats_errors.Error, TimeoutError) as error:
        raise Refused(Refusal.UNAVAILABLE, f"could not write to {stream}: {error!r}") from error


async def last_sequence(connection: Connection, stream: str, subject_filter: str, *, timeout: float = 1.0) -> int:
    """The sequence of the last message on a filter, 0 if there is none, as the stream's leader tells.

    One that is cut off from the other servers goes on telling what it knows for some 20 s, while another one leads. So
    it is believed only if it has heard of a majority more lately than another one can have been elected.

    Raises:
        Refused: UNAVAILABLE, if the broker did not answer, or may not know.
    """
    found = await api.read_message(connection, stream, {"last_by_subj": subject_filter}, timeout=timeout)
    if stream not in connection.single_replica:
        await _leader_info(connection, stream, timeout)
    return found.seq if found else 0


async def end(connection: Connection, stream: str, *, timeout: float = 1.0) -> int:
    """The last sequence of a stream, 0 if it is empty, as its leader tells, which is believed as by `last_sequence`.

    Raises:
        Refused: UNAVAILABLE, if the broker did not answer, or may not know.
    """
    return (await _leader_info(connection, stream, timeout)).state.last_seq


async def _leader_info(connection: Connection, stream: str, timeout: float) -> api.StreamInfo:
    try:
        info = await api.stream_info(connection, stream, timeout=timeout)
    except (api.ApiError, nats_errors.Error, TimeoutError) as error:
        raise Refused(Refusal.UNAVAILABLE, f"the broker did not answer about {stream}: {error!r}") from error
    if not info.replicated:
        connection.single_replica.add(stream)
    elif not info.has_majority_within(HEARD):
        raise Refused(Refusal.UNAVAILABLE, f"the leader of {stream} may have been replaced")
    return info


async def last_message(
    connection: Connection, stream: str, subject_filter: str, *, timeout: float = 1.0
) -> api.StoredMessage | None:
    """The last message on a filter, as the stream's leader tells.

    Raises:
        Refused: UNAVAILABLE, if the broker did not answer.
    """
    return await api.read_message(connection, stream, {"last_by_subj": subject_filter}, timeout=timeout)


def _headers(stream: str, msg_id: str, compare: Compare, ttl: int | None) -> dict[str, str]:
    headers = {"Nats-Msg-Id": msg_id, "Nats-Expected-Stream": stream}
    if compare.filter is None:
        headers["Nats-Expected-Last-Sequence"] = str(compare.sequence)
    else:
        headers["Nats-Expected-Last-Subject-Sequence"] = str(compare.sequence)
        headers["Nats-Expected-Last-Subject-Sequence-Subject"] = compare.filter
    if ttl is not None:
        headers["Nats-TTL"] = str(ttl)
    return headers


async def _publish(connection: Connection, stream: str, subject: str, payload: bytes, headers: dict[str, str]) -> _Ack:
    """Publish, and take the acknowledgement.

    Raises:
        ApiError: the broker refused.
        InvalidReply: what came is no acknowledgement of this stream's: the message may be stored.
    """
    message = await connection.request(subject, payload, timeout=ACK_TIMEOUT, headers=headers)
    api.raise_error(message.data)
    ack = api.read(message.data, _Ack)
    if ack.stream != stream or ack.domain or ack.seq < 1:
        raise api.InvalidReply(f"an acknowledgement of {ack.stream}, which is not {stream}")
    return ack


def _may_pass(error: api.ApiError) -> bool:
    """Whether the same message may be taken later: another under way, a full store, a broker in trouble."""
    return error.err_code in _PASSING or error.code >= 500


_PASSING = (api.COMPARE_IN_FLIGHT, api.DUPLICATE_IN_FLIGHT, api.TOO_MANY_REQUESTS, api.STREAM_FULL)


def _head_in(description: str) -> int:
    """The sequence in "wrong last sequence: 17", 0 if it is not told."""
    _, _, number = description.rpartition(": ")
    return int(number) if number.isdigit() else 0


async def _moved_to(
    connection: Connection,
    stream: str,
    compare: Compare,
    error: api.ApiError,
    on_unknown: Callable[[str], None] | None,
) -> int:
    """The stored head that a compare was lost to, as far as it is known.

    On a filter the broker compares with what is stored. Of a whole stream, a cluster's leader also counts what it has
    proposed and nobody has stored yet.
    """
    if compare.filter is not None:
        return _head_in(error.description)
    return (await _until_answered(lambda: api.stream_info(connection, stream), on_unknown)).state.last_seq


class _Past:
    """Answers that name a head before the expected one: from a server that led once, unless they go on."""

    def __init__(self) -> None:
        self._since: float | None = None

    def believed(self) -> bool:
        """Whether one more such answer is to be believed: on a filter the head may be gone with its time."""
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
        return now - self._since > STALE_PATIENCE


async def _outcome(
    connection: Connection,
    stream: str,
    token: str,
    compare: Compare,
    head: int,
    on_unknown: Callable[[str], None] | None,
) -> Appended | Conflict:
    """Whether the first message after the expected head is ours; `head` is known to be stored."""
    query = {"seq": compare.sequence + 1, "next_by_subj": compare.filter or ">"}
    found = await _read(connection, stream, query, on_unknown)
    if found is not None and found.headers.get(_TOKEN) == token:
        return Appended(found.seq, found.headers)
    return Conflict(max(head, found.seq if found else 0))


async def _is_ours(
    connection: Connection, stream: str, sequence: int, token: str, on_unknown: Callable[[str], None] | None
) -> bool:
    found = await _read(connection, stream, {"seq": sequence}, on_unknown)
    return found is not None and found.headers.get(_TOKEN) == token


async def _read(
    connection: Connection, stream: str, query: dict[str, Any], on_unknown: Callable[[str], None] | None
) -> api.StoredMessage | None:
    """A message that is known to be stored. None if it is gone since.

    One who leads no more may not have it yet: so "there is none" is believed when it is said again.
    """
    for pause in (0.05, 0.2, 0.0):
        found = await _until_answered(lambda: api.get_message(connection, stream, query), on_unknown)
        if found is not None:
            return found
        await asyncio.sleep(pause)
    return None


async def _until_answered(ask: Callable[[], Awaitable[T]], on_unknown: Callable[[str], None] | None) -> T:
    """Ask until the broker answers."""
    while True:
        try:
            return await ask()
        except (api.ApiError, nats_errors.Error, TimeoutError) as error:
            if on_unknown is not None:
                on_unknown(f"no answer: {error!r}")
            await asyncio.sleep(0.1)
