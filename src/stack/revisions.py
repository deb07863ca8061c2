"""Where the revisions of a bucket `instruments` begin that is made beside a market log which it did not see grow.

Quotes name revisions, and those of a symbol only grow. If the log was restored without the bucket, and the bucket began
with 1, no quote could follow on those in the log. So its stream begins beyond the newest revision that they name. A
bucket that is there, and ends before that, is older than the log, and nothing starts.

The auditor reads the log: the operator, who makes the streams, may not.
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
"""Seconds in which the last quote of every symbol must be read."""

AT_ONCE = 64
"""Symbols that are asked about at the same time."""

PATIENCE = 10
"""Looks, a second apart, at a replicated bucket: one of its servers that leads no more may name an end of the past."""

REPAIR_HINT = 'see "An older bucket instruments" in docs/operations.md'

_events: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)


class Unreadable(Exception):  # noqa: N818 # says what is so
    """The market log is damaged: nobody can tell which revisions it names."""


async def first_sequence(connection: Connection, settings: StackSettings) -> int:
    """The first sequence that the bucket's stream may have, of a log whose streams are all there. 1 if the bucket is
    there, too: what it holds stands.

    Raises:
        Unreadable: the log is damaged.
        Refused: UNAVAILABLE: the log could not be read, which may pass.
        ApiError, TimeoutError: the broker does not tell.
    """
    try:
        await api.stream_info(connection, STREAM)
    except api.ApiError as error:
        if error.err_code != api.STREAM_NOT_FOUND:
            raise
        return await newest_revision(settings) + 1
    return 1


async def newest_revision(settings: StackSettings) -> int:
    """The newest revision that a quote of the market log names; 0 if none names any.

    Raises:
        Unreadable, Refused: as `first_sequence`.
    """
    return await _of_all_shards(settings, _newest)


async def older_bucket(connection: Connection, settings: StackSettings) -> str:
    """Why the bucket is older than the market log, and where it says what to do; empty if it is not. What is damaged
    in the log is passed over: services tell of that.

    Raises:
        Refused: UNAVAILABLE: the log could not be read, which may pass.
        ApiError, TimeoutError: the broker does not tell.
    """
    named = await _of_all_shards(settings, _named)
    for look in range(PATIENCE if settings.market.replicas > 1 else 1):
        await asyncio.sleep(1.0 if look else 0.0)
        end = (await api.stream_info(connection, STREAM)).state.last_seq
        if named <= end:
            return ""
    fault = f"the bucket instruments ends with revision {end:,}, and a quote of the market log names {named:,}"
    return f"{fault}; {REPAIR_HINT}"


async def _of_all_shards(settings: StackSettings, ask: Callable[[Connection, int], Awaitable[int]]) -> int:
    """The newest of what is asked for of each shard, as the auditor.

    Raises:
        Unreadable, Refused: as `first_sequence`.
    """
    seed, asking = keys.seed_of(settings, "auditor"), tls.client_context(settings.stack)
    try:
        async with (
            asyncio.timeout(READ),
            Connection(settings.stack.url, "prepare", Health("prepare"), seed, asking) as connection,
        ):
            return max(await asyncio.gather(*(ask(connection, shard) for shard in range(settings.market.shards))))
    except api.NO_REPLY as error:
        why = f": {error}" if str(error) else ""
        raise Refused(Refusal.UNAVAILABLE, f"the market log could not be read within {READ:g} s{why}") from error


async def _named(connection: Connection, shard: int) -> int:
    """The newest revision that the last messages of a shard's quotes name, as far as they can be read."""
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


async def _newest(connection: Connection, shard: int) -> int:
    """That of a shard. Each of its symbols is asked for by name: a consumer passes over what is damaged."""
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
    """The revision that the last quote event on a subject names which can be used; 0 if there is none."""
    last = await api.get_message(connection, stream, {"last_by_subj": subject})
    if last is None:
        raise Unreadable(describe_withheld_last(stream, subject))
    message = Message(subject, last.seq, last.time, last.payload)
    found = message if is_quote_event(message) else None
    found = found or await last_usable(connection, stream, subject, last.seq, is_quote_event)
    return _events.decode(found.data).revision if found is not None else 0
