"""`stack repair` while the stack is up: remove unreadable keys from buckets.

No running service waits for such a key longer than a reservation lives. But they get in the way of people, and of
services that start: a message that none of our services wrote has no TTL, so it never expires.
"""

from typing import Any

import msgspec

from jet import api, journal
from jet.connection import Connection
from process.health import Health
from process.installation import COMMAND
from stack.connect import connect
from stack.settings import StackSettings
from wire import losses, subjects
from wire.fields import DECODE_ERRORS
from wire.reservations import ReservationRecord
from wire.switches import LossPaused, LossResumed, QuotingSwitch

TIMEOUT = 3.0
"""Seconds that the server may take for each answer."""

MARKS = ("Nats-Marker-Reason", "KV-Operation")
"""Headers of a message that marks a key as deleted."""

BUCKETS = (subjects.RESERVATIONS_BUCKET, subjects.SWITCHES_BUCKET)
"""The buckets that are checked."""


async def run(settings: StackSettings) -> int:
    """Remove the unreadable keys from the running stack's servers. Return the exit code.

    Raises:
        Unreachable: no server answers.
    """
    async with connect(settings, "repair", "operator", Health("repair")) as connection:
        try:
            cleared = [key for bucket in BUCKETS for key in await clear_bucket(connection, bucket)]
        except api.NO_REPLY as error:
            print(f"the keys cannot be checked: {error}")
            return 1
    for key in cleared:
        print(f"{key} was unreadable, and is removed")
    if not cleared:
        print(
            f"every key is readable; while the stack is down, `{COMMAND} repair` rebuilds what is derived from the "
            "market log"
        )
    return 0


async def clear_bucket(connection: Connection, bucket: str) -> list[str]:
    """Remove the subjects of a bucket that have no readable message. Return those subjects."""
    stream = subjects.bucket_stream(bucket)
    body: dict[str, Any] = {"subjects_filter": ">"}
    info = await api.stream_info(connection, stream, body, timeout=TIMEOUT)
    cleared = []
    for subject in sorted(info.state.subjects):
        last = await _unreadable_to(connection, stream, subject, _kind_of(bucket, subject))
        if last is not None:
            # Later messages, which a service may have written meanwhile, are kept.
            body = {"filter": subject, "seq": (last or info.state.last_seq) + 1}
            await api.request(connection, f"STREAM.PURGE.{stream}", body, dict, timeout=TIMEOUT)
            cleared.append(subject)
    return cleared


def _kind_of(bucket: str, subject: str) -> type[msgspec.Struct]:
    """Return the type of the values of a key."""
    if bucket == subjects.RESERVATIONS_BUCKET:
        return ReservationRecord
    try:
        _, paused = losses.scope_of(subject)
    except ValueError:
        return QuotingSwitch
    return LossPaused if paused else LossResumed


async def _unreadable_to(connection: Connection, stream: str, subject: str, kind: type[msgspec.Struct]) -> int | None:
    """Return the sequence of the last message on a subject if none is readable, 0 if the server returns none, or None
    if one is readable.
    """
    sequence = 0
    while True:
        query = {"seq": sequence + 1, "next_by_subj": subject}
        message = await api.get_message(connection, stream, query, timeout=TIMEOUT)
        if message is None:
            return sequence
        if _is_readable(message, kind):
            return None
        sequence = message.seq


def _is_readable(message: api.StoredMessage, kind: type[msgspec.Struct]) -> bool:
    headers = message.headers
    if not journal.is_copy(headers) and any(mark in headers for mark in MARKS):
        return True
    try:
        msgspec.json.decode(message.payload, type=kind)
    except DECODE_ERRORS:
        return False
    return journal.is_append(headers)
