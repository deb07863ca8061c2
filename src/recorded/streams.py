"""Reads streams of the broker, each up to a given sequence. This changes nothing on the broker."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from jet import api, journal
from jet.connection import Connection
from jet.link import redacted
from jet.stream_integrity import TailBroken
from jet.tail import FromSequence, Message, Tail
from process.health import Health
from recorded.reservations import Reservations
from recorded.revisions import Revisions
from wire import subjects
from wire.reservations import ReservationRecord

CONNECT_TIMEOUT = 3.0
"""Seconds after which an attempt to connect fails."""

SILENCE = 30.0
"""Seconds without any message after which reading a stream fails."""


class CannotRead(Exception):  # noqa: N818 # states what is wrong
    """The recorded data is missing or cannot be read; the message states why, and what to do."""


class Info(msgspec.Struct):
    """A stream's configuration and state, and the broker's time at its reply."""

    config: dict[str, Any]
    state: api.StreamState
    ts: datetime


class _Names(msgspec.Struct):
    streams: list[str] | None = None


@asynccontextmanager
async def connect(url: str, seed: Path | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Connection]:
    """Connect to a server, and disconnect at the end. `seed` and `tls` as for `Connection`.

    Raises:
        CannotRead: the server does not answer within `CONNECT_TIMEOUT`.
    """
    async with AsyncExitStack() as exits:
        health = Health("audit")
        connection = Connection(url, "audit", health, seed, tls)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await exits.enter_async_context(connection)
        except TimeoutError as error:
            reason = "; ".join(waiting.reason for waiting in health.report().waiting_for)
            raise CannotRead(
                f"no NATS server answers at {redacted(url)}: is the stack up? "
                f"A stopped stack can be audited with --store ({reason})"
            ) from error
        yield connection


async def info(connection: Connection, stream: str, options: dict[str, bool] | None = None) -> Info:
    """Request a stream's configuration and state.

    Raises:
        CannotRead: there is no such stream, or the broker does not answer.
    """
    try:
        return await api.request(connection, f"STREAM.INFO.{stream}", options, Info, timeout=5.0)
    except api.ApiError as error:
        if error.err_code == api.STREAM_NOT_FOUND:
            raise CannotRead(f"there is no stream {stream} on {connection.url}") from error
        raise CannotRead(f"the broker does not answer about {stream}: {error}") from error
    except TimeoutError as error:
        raise CannotRead(f"the broker does not answer about {stream}") from error


async def last_sequence(connection: Connection, stream: str) -> int:
    """Return the last sequence of a stream.

    Raises:
        CannotRead: there is no such stream, or the broker does not answer.
    """
    return (await info(connection, stream)).state.last_seq


async def last_sequences(connection: Connection) -> dict[str, int]:
    """Return the last sequence of every stream on the server, including streams that are not Quotestream's."""
    names = (await api.request(connection, "STREAM.NAMES", None, _Names, timeout=5.0)).streams or []
    return {name: await last_sequence(connection, name) for name in names}


async def messages(connection: Connection, stream: str, last: int) -> AsyncGenerator[Message, None]:
    """Yield every message of a stream up to the sequence `last`, in order.

    Raises:
        CannotRead: the broker stops sending, or the stream is damaged.
    """
    async with aclosing(batches(connection, stream, [">"], last)) as received:
        async for batch in received:
            for message in batch:
                yield message


async def batches(
    connection: Connection, stream: str, filters: Sequence[str], last: int
) -> AsyncGenerator[list[Message], None]:
    """Yield the messages of a stream on some subjects, up to the sequence `last`, in order.

    Raises:
        CannotRead: the broker stops sending, or the stream is damaged.
    """
    if last == 0:
        return
    tail = Tail(connection, stream, filters, FromSequence(1), name="audit", skip_damaged=True)
    loop = asyncio.get_running_loop()
    async with aclosing(tail.batches()) as received:  # type: ignore[type-var] # a generator, declared as an iterator
        deadline = loop.time() + SILENCE
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    batch = await anext(received)
            except TimeoutError as error:
                raise CannotRead(f"the broker sends no more of {stream} after {tail.sequence}") from error
            except TailBroken as error:
                raise CannotRead(str(error)) from error
            if batch:
                deadline = loop.time() + SILENCE
                yield [message for message in batch if message.sequence <= last]
            if tail.current or tail.sequence >= last:
                return


async def reservations(connection: Connection) -> Reservations:
    """Return the newest record of each reservation in exposure's log. Invalid messages are skipped."""
    stream = subjects.EXPOSURE_STREAM
    found = await info(connection, stream)
    decoder = msgspec.json.Decoder(list[ReservationRecord])
    records: dict[str, ReservationRecord] = {}
    async for batch in batches(connection, stream, [subjects.DECISIONS], found.state.last_seq):
        for message in batch:
            try:
                records |= {record.reservation_id: record for record in decoder.decode(message.data)}
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return Reservations(records, found.ts)


async def revisions(connection: Connection) -> Revisions:
    """Return every definition in the bucket `instruments`; none if there is no such bucket."""
    found, stream = Revisions(), subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET)
    if stream not in await last_sequences(connection):
        return found
    prefix = subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, "")
    async for message in messages(connection, stream, await last_sequence(connection, stream)):
        if journal.is_append(message.headers):
            found.add(message.sequence, message.time, message.subject.removeprefix(prefix), message.data)
    return found
