"""Where the revisions of a bucket `instruments` begin that is made beside a market log which it did not see grow.

Quotes name revisions, and those of a symbol only grow. If the log was restored without the bucket, and the bucket began
with 1, no quote could follow on those in the log. So its stream begins beyond the newest revision that they name.

The auditor reads the log: the operator, who makes the streams, may not.
"""

import asyncio

import msgspec

from jet import api
from jet.bootstrap import is_quote_event, last_usable
from jet.connection import Connection
from jet.stream_integrity import REMEDY
from jet.tail import Message
from process import tls
from process.health import Health
from stack import keys
from stack.applied import gap
from stack.settings import StackSettings
from wire import subjects
from wire.errors import Refusal, Refused
from wire.messages import QuoteEvent

STREAM = subjects.bucket_stream(subjects.INSTRUMENTS_BUCKET)

READ = 30.0
"""Seconds in which the last quote of every symbol must be read."""

AT_ONCE = 64
"""Symbols that are asked about at the same time."""

_events: msgspec.json.Decoder[QuoteEvent] = msgspec.json.Decoder(QuoteEvent)


class Unreadable(Exception):  # noqa: N818 # says what is so
    """The market log is damaged: nobody can tell which revisions it names."""


async def first(connection: Connection, settings: StackSettings) -> int:
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
        return await newest(settings) + 1
    return 1


async def newest(settings: StackSettings) -> int:
    """The newest revision that a quote of the market log names; 0 if none names any.

    Raises:
        Unreadable, Refused: as `first`.
    """
    seed, asking = keys.seed_of(settings, "auditor"), tls.asking(settings.stack)
    try:
        async with (
            asyncio.timeout(READ),
            Connection(settings.stack.url, "prepare", Health("prepare"), seed, asking) as connection,
        ):
            return max([await _newest(connection, shard) for shard in range(settings.market.shards)])
    except api.NO_REPLY as error:
        why = f": {error}" if str(error) else ""
        raise Refused(Refusal.UNAVAILABLE, f"the market log could not be read within {READ:g} s{why}") from error


async def _newest(connection: Connection, shard: int) -> int:
    """That of a shard. Each of its symbols is asked for by name: a consumer passes over what is damaged."""
    stream = subjects.market_stream(shard)
    slots = asyncio.Semaphore(AT_ONCE)

    async def revision(subject: str) -> int:
        async with slots:
            return await _revision(connection, stream, subject)

    quoted = await _quoted(connection, stream, subjects.quotes(shard, "*"))
    return max([0, *await asyncio.gather(*map(revision, quoted))])


async def _quoted(connection: Connection, stream: str, pattern: str) -> list[str]:
    """Every subject of a symbol's quotes that a shard holds. The broker stores on others that nobody can ask it for."""
    info = await api.stream_info(connection, stream, {"subjects_filter": pattern})
    if problem := gap(stream, info.state):  # all quotes of a symbol may have been there
        raise Unreadable(problem)
    found: set[str] = set()
    while new := info.state.subjects.keys() - found:  # of those that are no text some look the same
        found |= new
        if len(found) >= info.total:
            break
        info = await api.stream_info(connection, stream, {"subjects_filter": pattern, "offset": len(found)})
    return [subject for subject in found if subjects.is_name(subjects.last_token(subject))]


async def _revision(connection: Connection, stream: str, subject: str) -> int:
    """The revision that the last quote event on a subject names which can be used; 0 if there is none."""
    last = await api.get_message(connection, stream, {"last_by_subj": subject})
    if last is None:
        raise Unreadable(f"the last message of {subject} is not given out: the store of {stream} is damaged; {REMEDY}")
    message = Message(subject, last.seq, last.time, last.payload)
    found = message if is_quote_event(message) else None
    found = found or await last_usable(connection, stream, subject, last.seq, is_quote_event)
    return _events.decode(found.data).revision if found is not None else 0
