"""Compare-and-append: the one way to write to a log.

An append names the sequence it believes is the last one, of the stream or of a subject filter, and the broker stores it
only if that is so. What makes an outcome certain:

- The identical message is sent again until the broker answers: a publish that timed out may still be stored, much
  later.
- "The head moved" is final for this message: no copy of it can be stored any more. Whether an earlier copy was is seen
  by reading the first message after the expected head.
- A message is ours if it carries our token. Its id will not do: ids derive from facts, so another writer may have
  appended its own decision under the same id, and the broker would call ours a duplicate of it.

In a cluster the broker tracks compares in flight by the literal filter string, so all writers of one symbol's log must
send the identical filter: `subjects.market_head`.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from nats import errors as nats_errors

from jet import api
from jet.connection import Connection
from wire.errors import Refusal, Refused

ACK_TIMEOUT = 1.0
"""Seconds to wait for an ack before the identical message is sent again."""

_TOKEN = "Quotestream-Append"  # noqa: S105 # a header's name

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Compare:
    """Append only if `sequence` is the last one: on `filter`, or of the whole stream if that is None."""

    sequence: int
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """Our message is in the log, at `sequence`."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """Our message is not in the log and never will be: the head had moved. `head` is the newest sequence known."""

    head: int


class _Ack(msgspec.Struct):
    seq: int
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
        ApiError: the broker will never take this message.
    """
    token = secrets.token_hex(8)
    sent = {**headers, **_headers(stream, msg_id, compare, ttl), _TOKEN: token}
    maybe_stored = False
    pause = 0.02
    while True:
        try:
            ack = await _publish(connection, subject, payload, sent)
        except api.NOT_SENT as error:
            reason = f"not connected: {error!r}"
        except nats_errors.MaxPayloadError as error:
            raise api.ApiError(400, 0, f"the message is too large: {len(payload)} bytes") from error
        except (nats_errors.Error, TimeoutError) as error:
            maybe_stored = True
            reason = f"no answer: {error!r}"
        except api.ApiError as error:
            if error.err_code == api.WRONG_LAST_SEQUENCE:
                if not maybe_stored:
                    return Conflict(_head_in(error.description))
                return await _outcome(connection, stream, token, compare, on_unknown)
            if not _may_pass(error):
                raise
            reason = str(error)
        else:
            if not ack.duplicate or await _is_ours(connection, stream, ack.seq, token, on_unknown):
                return Appended(ack.seq)
            return Conflict(ack.seq)
        if on_unknown is not None:
            on_unknown(reason)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.5)


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
        return (await _publish(connection, subject, payload, headers)).seq
    except (api.ApiError, nats_errors.Error, TimeoutError) as error:
        raise Refused(Refusal.UNAVAILABLE, f"could not write to {stream}: {error!r}") from error


async def last_sequence(connection: Connection, stream: str, subject_filter: str, *, timeout: float = 1.0) -> int:
    """The sequence of the last message on a filter, 0 if there is none, as the stream's leader tells.

    Raises:
        Refused: UNAVAILABLE, if the broker did not answer.
    """
    found = await api.read_message(connection, stream, {"last_by_subj": subject_filter}, timeout=timeout)
    return found.seq if found else 0


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


async def _publish(connection: Connection, subject: str, payload: bytes, headers: dict[str, str]) -> _Ack:
    message = await connection.client.request(subject, payload, timeout=ACK_TIMEOUT, headers=headers)
    api.raise_error(message.data)
    return msgspec.json.decode(message.data, type=_Ack)


def _may_pass(error: api.ApiError) -> bool:
    """Whether the same message may be taken later: a compare in flight, a full store, a broker in trouble."""
    return error.err_code in (api.COMPARE_IN_FLIGHT, api.STREAM_FULL) or error.code >= 500


def _head_in(description: str) -> int:
    """The sequence in "wrong last sequence: 17", 0 if it is not told."""
    _, _, number = description.rpartition(": ")
    return int(number) if number.isdigit() else 0


async def _outcome(
    connection: Connection,
    stream: str,
    token: str,
    compare: Compare,
    on_unknown: Callable[[str], None] | None,
) -> Appended | Conflict:
    """Whether the first message after the expected head is ours."""
    query = {"seq": compare.sequence + 1, "next_by_subj": compare.filter or ">"}
    found = await _read(connection, stream, query, on_unknown)
    if found is None:
        return Conflict(0)
    return Appended(found.seq) if found.headers.get(_TOKEN) == token else Conflict(found.seq)


async def _is_ours(
    connection: Connection, stream: str, sequence: int, token: str, on_unknown: Callable[[str], None] | None
) -> bool:
    found = await _read(connection, stream, {"seq": sequence}, on_unknown)
    return found is not None and found.headers.get(_TOKEN) == token


async def _read(
    connection: Connection, stream: str, query: dict[str, Any], on_unknown: Callable[[str], None] | None
) -> api.StoredMessage | None:
    """Read until the broker answers."""
    while True:
        try:
            return await api.get_message(connection, stream, query)
        except (api.ApiError, nats_errors.Error, TimeoutError) as error:
            if on_unknown is not None:
                on_unknown(f"no answer: {error!r}")
            await asyncio.sleep(0.1)
