"""Compare-and-append: the one way to write to a log.

An append names the sequence that it expects to be the last one, of the stream or of a subject filter, and the broker
stores the message only if it is. What makes an outcome certain:

- The identical message is resent until the broker replies: a publish that timed out may still be stored, much later.
- "The head moved" is final for a message once the head that it names is beyond the expected one, and is stored: no copy
  of the message can be stored any more. To see whether an earlier copy was, the first message after the expected head
  is read. Until then the message is resent: a cluster's leader may name a head that is not stored yet, and a deposed
  leader that does not know it yet names an old head.
- A message is ours if it carries our token. Its id does not prove that: ids derive from facts, so another writer may
  have appended its own decision under the same id, and the broker would call ours a duplicate of it.

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
"""Seconds to wait for an acknowledgement before the identical message is resent."""

STALE_LEADER_TIMEOUT = 2.0
"""Seconds for which a reply that names an older head than the expected one is not believed. A leader that was paused or
cut off learns within milliseconds after it is back that it no longer leads."""

MAJORITY_TIMEOUT = 3.0
"""Seconds within which a leader must have heard from a majority to be believed. Servers hear from each other every
second, and elect no other leader before 4 s of silence."""

_TOKEN = "Quotestream-Append"  # noqa: S105 # a header's name

ASKED_BY = "Quotestream-Asked-By"
"""The header with the asker: a digest of the token with which the message was requested."""

_COPY_OF = ("Nats-Stream", "Nats-Stream-Source")
"""The headers with which the broker marks a copy of a stored message: a reply that contains one, and a message that a
stream has copied from another."""

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Compare:
    """Append only if `sequence` is the last one: on `filter`, or in the whole stream if that is None."""

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

    `head` is the newest sequence known to be stored, 0 if none is: a follower of the log will reach it.
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
    """Append a message if the head is the expected one; the module explains why the outcome is certain.

    Waits while the broker is away. Cancel it to stop waiting; the outcome is then unknown.

    In a bucket, where a newer value of a key replaces the older one, an append that was stored but not acknowledged,
    and was then overwritten, is reported as a conflict. Decisions there are idempotent, so deciding again is right
    anyway.

    Args:
        connection: to the broker.
        stream: the stream of the subject.
        subject: the subject of the message.
        payload: the payload of the message.
        msg_id: the deduplication id.
        compare: the expected head.
        ttl: whole seconds after which the broker removes the message and leaves a marker.
        headers: more headers of the message.
        on_unknown: called with the reason each time the outcome is still unknown and the message is resent.

    Raises:
        Refused: UNAVAILABLE: the broker does not accept the message, or not from this user, and nothing was written.
    """
    token = connection.token()
    sent = {**headers, **_headers(stream, msg_id, compare, ttl), _TOKEN: token}
    stale_heads = _StaleHeads()
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
            reason = str(error)  # it was permitted before, when it may have been stored
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
                head = await _stored_head(connection, stream, compare, error, on_unknown)
                if head > compare.sequence or (compare.filter is not None and stale_heads.are_believed()):
                    if compare.filter is not None and not maybe_stored:
                        return Conflict(head)
                    return await _outcome(connection, stream, token, compare, head, on_unknown)
                maybe_stored = True  # by the leader, if this reply came from a deposed one
            elif not _is_transient(error) and not maybe_stored:
                raise Refused(
                    Refusal.UNAVAILABLE, f"the broker refused the write: {error}; nothing was written"
                ) from error
        else:
            if not ack.duplicate or await _is_ours(connection, stream, ack.seq, token, on_unknown):
                return Appended(ack.seq, sent)
            # Another message had the id. The compare must decide whether ours is stored, so it gets an id of its own.
            sent["Nats-Msg-Id"] = f"{msg_id}-{token}"
            continue
        if on_unknown is not None:
            on_unknown(reason)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.5)


def is_append(headers: Mapping[str, str] | None) -> bool:
    """True if a message was written by `append`, and is not a copy that somebody caused to be stored there."""
    return headers is not None and _TOKEN in headers and not is_copy(headers)


def is_written(headers: Mapping[str, str] | None) -> bool:
    """True if a message was written by `append` or `put`, and is not a copy that somebody caused to be stored there."""
    return headers is not None and "Nats-Expected-Stream" in headers and not is_copy(headers)


def is_copy(headers: Mapping[str, str]) -> bool:
    """True if a message is a copy of another, with its headers: a reply of the broker that somebody caused to be
    stored, or a message that a stream has copied from another one."""
    return any(name in headers for name in _COPY_OF)


def int_header(message: api.StoredMessage, header: str) -> int:
    """Return the number in one of our headers; 0 if there is none or it is invalid."""
    try:
        return int(message.headers.get(header, 0))
    except ValueError:  # none of our writers writes this; headers that are not text end here, too
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
    """Write without a compare, for projections, which can be rebuilt at any time. Return the sequence.

    Raises:
        Refused: UNAVAILABLE: the message was not written, or the outcome is unknown.
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
    """Ask the stream's leader for the sequence of the last message on a filter; 0 if there is none.

    A leader that is cut off from the other servers keeps answering for some 20 s, while another one leads. So it is
    believed only if it has heard from a majority so recently that no other leader can have been elected.

    Raises:
        Refused: UNAVAILABLE: the broker did not answer, or its leader may be deposed.
    """
    found = await api.read_message(connection, stream, {"last_by_subj": subject_filter}, timeout=timeout)
    if stream not in connection.single_replica:
        await _leader_info(connection, stream, timeout)
    return found.seq if found else 0


async def end(connection: Connection, stream: str, *, timeout: float = 1.0) -> int:
    """Ask a stream's leader for its last sequence, 0 if it is empty. The leader is believed as in `last_sequence`.

    Raises:
        Refused: UNAVAILABLE: the broker did not answer, or its leader may be deposed.
    """
    return (await _leader_info(connection, stream, timeout)).state.last_seq


async def _leader_info(connection: Connection, stream: str, timeout: float) -> api.StreamInfo:
    try:
        info = await api.stream_info(connection, stream, timeout=timeout)
    except (api.ApiError, nats_errors.Error, TimeoutError) as error:
        raise Refused(Refusal.UNAVAILABLE, f"the broker did not answer about {stream}: {error!r}") from error
    if not info.replicated:
        connection.single_replica.add(stream)
    elif not info.has_majority_within(MAJORITY_TIMEOUT):
        raise Refused(Refusal.UNAVAILABLE, f"the leader of {stream} may have been replaced")
    return info


async def last_message(
    connection: Connection, stream: str, subject_filter: str, *, timeout: float = 1.0
) -> api.StoredMessage | None:
    """Ask the stream's leader for the last message on a filter; None if there is none.

    Raises:
        Refused: UNAVAILABLE: the broker did not answer.
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
    """Publish a message, and return the acknowledgement.

    Raises:
        ApiError: the broker refused the message.
        InvalidReply: the reply is not an acknowledgement of this stream; the message may be stored.
    """
    message = await connection.request(subject, payload, timeout=ACK_TIMEOUT, headers=headers)
    api.raise_error(message.data)
    ack = api.decode(message.data, _Ack)
    if ack.stream != stream or ack.domain or ack.seq < 1:
        raise api.InvalidReply(f"an acknowledgement of {ack.stream}, which is not {stream}")
    return ack


def _is_transient(error: api.ApiError) -> bool:
    """True if the same message may be accepted later: another one is in flight, the store is full, the broker fails."""
    return error.err_code in _TRANSIENT or error.code >= 500


_TRANSIENT = (api.COMPARE_IN_FLIGHT, api.DUPLICATE_IN_FLIGHT, api.TOO_MANY_REQUESTS, api.STREAM_FULL)


def _head_in(description: str) -> int:
    """Return the sequence in "wrong last sequence: 17", 0 if there is none."""
    _, _, number = description.rpartition(": ")
    return int(number) if number.isdigit() else 0


async def _stored_head(
    connection: Connection,
    stream: str,
    compare: Compare,
    error: api.ApiError,
    on_unknown: Callable[[str], None] | None,
) -> int:
    """Return the stored head with which a compare has failed, as far as it is known.

    With a filter, the broker compares with stored messages. For a whole stream, a cluster's leader also counts messages
    that it has proposed and that are not stored yet.
    """
    if compare.filter is not None:
        return _head_in(error.description)
    return (await _until_answered(lambda: api.stream_info(connection, stream), on_unknown)).state.last_seq


class _StaleHeads:
    """Replies that name an older head than the expected one: they come from a deposed leader, unless they continue."""

    def __init__(self) -> None:
        self._since: float | None = None

    def are_believed(self) -> bool:
        """Take one more such reply. Return whether to believe it: with a filter, the head may have expired."""
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
        return now - self._since > STALE_LEADER_TIMEOUT


async def _outcome(
    connection: Connection,
    stream: str,
    token: str,
    compare: Compare,
    head: int,
    on_unknown: Callable[[str], None] | None,
) -> Appended | Conflict:
    """Find out whether the first message after the expected head is ours; `head` is known to be stored."""
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
    """Read a message that is known to be stored. None if it no longer exists.

    A deposed leader may not have it yet, so "not found" is believed only if it is repeated.
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
