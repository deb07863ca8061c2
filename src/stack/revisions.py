"""Choose the first revision of a bucket `instruments` that is created beside an existing market log.

Quotes name revisions, and those of a symbol only grow. If the log was restored without the bucket, and the bucket
started at 1, no new quote could supersede those in the log. So its stream starts after the newest revision that they
name. An existing bucket that ends before that revision is older than the log, and then nothing starts.

The log is read as the user `auditor`: the user `operator`, who creates the streams, may not read it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import msgspec

from jet import api
from jet.bootstrap import is_quote_event, last_usable
from jet.connection import Connection
from jet.missing_subjects import describe_withheld_last, is_ours
from jet.tail import LastPerSubject, Message, Tail
from process import tls
from process.health import Health
from stack import keys
from stack.log_check import describe_gap
from stack.settings import StackSettings
from wire import subjects
from wire.errors import Refusal, Refused
from wire.fields import DECODE_ERRORS
from wire.quotes import QuoteEvent

STREAM = subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET)

READ = 30.0
"""Seconds within which the last quote of every symbol must be read."""

AT_ONCE = 64
"""Requests in flight at a time, one per symbol."""

ATTEMPTS = 10
"""Checks of a replicated bucket, one second apart: a server that is no longer its leader may report a stale end."""

REPAIR_HINT = 'see "An older bucket instruments" in docs/operations.md'

_events: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)


class Unreadable(Exception):  # noqa: N818 # a state, not an error
    """The market log is damaged: it is unknown which revisions it names."""


async def first_sequence(connection: Connection, settings: StackSettings) -> int:
    """Return the sequence at which the bucket's stream must start; 1 if the bucket exists. The streams of the log must
    exist.

    Raises:
        Unreadable: the log is damaged.
        Refused: UNAVAILABLE: the log could not be read, which may be temporary.
        ApiError, TimeoutError: the broker refuses the request, or does not answer.
    """
    try:
        await api.stream_info(connection, STREAM)
    except api.ApiError as error:
        if error.err_code != api.STREAM_NOT_FOUND:
            raise
        return await newest_revision(settings) + 1
    return 1


async def newest_revision(settings: StackSettings) -> int:
    """Return the newest revision that a quote of the market log names; 0 if there is none.

    Raises:
        Unreadable, Refused: as for `first_sequence`.
    """
    return await _of_all_shards(settings, _newest_of_shard)


async def older_bucket(connection: Connection, settings: StackSettings) -> str:
    """Describe by how much the bucket is older than the market log, and what to do; empty if it is not older.

    Damaged messages of the log are skipped: services report those.

    Raises:
        Refused: UNAVAILABLE: the log could not be read, which may be temporary.
        ApiError, TimeoutError: the broker refuses the request, or does not answer.
    """
    named = await _of_all_shards(settings, _newest_readable_of_shard)
    for attempt in range(ATTEMPTS if settings.market.replicas > 1 else 1):
        await asyncio.sleep(1.0 if attempt else 0.0)
        end = (await api.stream_info(connection, STREAM)).state.last_seq
        if named <= end:
            return ""
    fault = f"the bucket instruments ends with revision {end:,}, and a quote of the market log names {named:,}"
    return f"{fault}; {REPAIR_HINT}"


async def _of_all_shards(settings: StackSettings, of_shard: Callable[[Connection, int], Awaitable[int]]) -> int:
    """Return the maximum of a function of each shard, called with a connection of the auditor.

    Raises:
        Unreadable, Refused: as for `first_sequence`.
    """
    seed, context = keys.seed_of(settings, "auditor"), tls.client_context(settings.stack)
    try:
        async with (
            asyncio.timeout(READ),
            Connection(settings.stack.url, "prepare", Health("prepare"), seed, context) as connection,
        ):
            return max(await asyncio.gather(*(of_shard(connection, shard) for shard in range(settings.market.shards))))
    except api.NO_REPLY as error:
        why = f": {error}" if str(error) else ""
        raise Refused(Refusal.UNAVAILABLE, f"the market log could not be read within {READ:g} s{why}") from error


async def _newest_readable_of_shard(connection: Connection, shard: int) -> int:
    """Return the newest revision in the last quote event of each symbol, without the unreadable ones.

    One consumer reads them all, which takes a moment even with many symbols, but it skips damaged messages silently.
    """
    stream, filters = subjects.market_stream(shard), [subjects.quotes(shard, "*")]
    found = 0
    tail = Tail(connection, stream, filters, LastPerSubject(), name="prepare", skip_damaged=True)
    async with aclosing(tail.batches()) as batches:  # type: ignore[type-var] # it is a generator, though it does not say so
        async for batch in batches:
            for message in batch:
                with contextlib.suppress(*DECODE_ERRORS):
                    event = _events.decode(message.data)
                    if event.symbol == subjects.last_token(message.subject):
                        found = max(found, event.revision)
            if tail.current:
                break
    return found


async def _newest_of_shard(connection: Connection, shard: int) -> int:
    """Return the newest revision in the last usable quote event of each symbol, and fail if a message is damaged.

    Each symbol is requested by name, because a consumer skips damaged messages silently.
    """
    stream = subjects.market_stream(shard)
    slots = asyncio.Semaphore(AT_ONCE)

    async def revision(subject: str) -> int:
        async with slots:
            return await _revision(connection, stream, subject)

    info = await api.stream_subjects(connection, stream, subjects.quotes(shard, "*"))
    if problem := describe_gap(stream, info.state):  # all quotes of a symbol may have been there
        raise Unreadable(problem)
    return max([0, *await asyncio.gather(*map(revision, filter(is_ours, info.state.subjects)))])


async def _revision(connection: Connection, stream: str, subject: str) -> int:
    """Return the revision that the last usable quote event on a subject names; 0 if there is none."""
    last = await api.get_message(connection, stream, {"last_by_subj": subject})
    if last is None:
        raise Unreadable(describe_withheld_last(stream, subject))
    message = Message(subject, last.seq, last.time, last.payload)
    found = message if is_quote_event(message) else None
    found = found or await last_usable(connection, stream, subject, last.seq, is_quote_event)
    return _events.decode(found.data).revision if found is not None else 0
