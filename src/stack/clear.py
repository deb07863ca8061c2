"""`stack repair` of a stack that is up: keys of buckets that cannot be read are taken away.

Nothing waits for them longer than a reservation lives. They are in the way of people and of who starts all the same:
what nobody of ours wrote there has no time after which it goes by itself.
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
"""Headers of a message that says that a key is gone."""

BUCKETS = (subjects.RESERVATIONS_BUCKET, subjects.SWITCHES_BUCKET)
"""The buckets that are looked at."""


async def run(settings: StackSettings) -> int:
    """Take them away from the running stack's servers. Returns the exit code.

    Raises:
        Unreachable: no server answers.
    """
    async with connect(settings, "repair", "operator", Health("repair")) as connection:
        try:
            cleared = [key for bucket in BUCKETS for key in await clear_bucket(connection, bucket)]
        except api.NO_REPLY as error:
            print(f"the keys cannot be looked at: {error}")
            return 1
    for key in cleared:
        print(f"{key} could not be read, and is taken away")
    if not cleared:
        print(f"every key can be read; with the stack down, `{COMMAND} repair` mends what is made from the market log")
    return 0


async def clear_bucket(connection: Connection, bucket: str) -> list[str]:
    """Take away the messages of the subjects of a bucket of which none can be read. Returns those subjects."""
    stream = subjects.bucket_stream(bucket)
    ask: dict[str, Any] = {"subjects_filter": ">"}
    info = await api.stream_info(connection, stream, ask, timeout=TIMEOUT)
    cleared = []
    for subject in sorted(info.state.subjects):
        last = await _unreadable_to(connection, stream, subject, _kind_of(bucket, subject))
        if last is not None:
            # What comes after it, as from a service meanwhile, stays.
            ask = {"filter": subject, "seq": (last or info.state.last_seq) + 1}
            await api.request(connection, f"STREAM.PURGE.{stream}", ask, dict, timeout=TIMEOUT)
            cleared.append(subject)
    return cleared


def _kind_of(bucket: str, subject: str) -> type[msgspec.Struct]:
    """What a key of a bucket holds."""
    if bucket == subjects.RESERVATIONS_BUCKET:
        return ReservationRecord
    try:
        _, paused = losses.scope_of(subject)
    except ValueError:
        return QuotingSwitch
    return LossPaused if paused else LossResumed


async def _unreadable_to(connection: Connection, stream: str, subject: str, kind: type[msgspec.Struct]) -> int | None:
    """The sequence of the last message on a subject if none can be read, 0 if the server gives none out; else None."""
    sequence = 0
    while True:
        query = {"seq": sequence + 1, "next_by_subj": subject}
        message = await api.get_message(connection, stream, query, timeout=TIMEOUT)
        if message is None:
            return sequence
        if _makes_sense(message, kind):
            return None
        sequence = message.seq


def _makes_sense(message: api.StoredMessage, kind: type[msgspec.Struct]) -> bool:
    headers = message.headers
    if not journal.is_copy(headers) and any(mark in headers for mark in MARKS):
        return True
    try:
        msgspec.json.decode(message.payload, type=kind)
    except DECODE_ERRORS:
        return False
    return journal.is_append(headers)
