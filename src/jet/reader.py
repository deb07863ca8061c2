"""Follows a stream by polling for the next messages: for readers, who may not create a consumer.

A reader remembers the sequence up to which it has read, and requests a batch of what follows. So it yields messages in
order, without gaps or repeats, whatever happens to a reply; and the broker keeps nothing for it that somebody else
could change. The reader also subscribes to the subjects: a message there only tells it to poll soon, and nothing else
in it is believed. It polls from time to time anyway.

In a cluster any server that holds a replica may reply, and that replica may lag. So a reader is current only once it
has reached the end that the stream's leader reports.

A server skips a message that is damaged in its store. If a stream keeps everything, a reader stops before a message
that it does not get, and health states why, until a server delivers it.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from nats import errors as nats_errors
from nats.aio.msg import Msg

from jet import api
from jet.connection import Connection, Subscription
from jet.consumer import BATCH
from jet.missing_subjects import describe_withheld_last, is_ours, is_withheld
from jet.stream_integrity import StreamEnd, describe_gap, is_gapless, keeps_everything
from jet.tail import LAG, FromSequence, FromTime, Message, Start
from jet.unexpected_messages import count_unexpected

IDLE_INTERVAL = 0.5
"""Seconds between two requests while no message passes."""

BUSY_INTERVAL = 0.02
"""Seconds from a message that passes, or from a reply with messages, to the next request."""

BUSY_REQUESTS = 12
"""Requests in a row, `BUSY_INTERVAL` apart, after a message has passed: it is stored a moment later, or never."""

TIMEOUT = 1.0
"""Seconds to wait for a complete reply."""

RETRY_PAUSE = 0.2
"""Seconds until the next request after the broker did not reply, or did not deliver everything it holds."""

MAX_SUBJECTS = 500
"""The most subjects whose last messages are requested at once."""

_BROKER_HEADERS = (
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Time-Stamp",
    "Nats-Num-Pending",
    "Nats-Last-Sequence",
)
"""The headers that the broker adds to a stored message."""

log = structlog.get_logger()


class DirectGet:
    """Requests stored messages with the direct-get API, one request at a time."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._inbox = connection.new_inbox()
        self._reply_subject = ""
        self._arrived: deque[Msg] = deque()
        self._wake = asyncio.Event()
        self._subscription: Subscription | None = None

    async def fetch(self, query: dict[str, Any]) -> tuple[list[Message | None], int]:
        """Fetch messages. Return them, and how many more there are.

        None stands for a message that cannot be read in this form: the broker adds the message's sequence and time to
        its headers, which may be invalid.

        Raises:
            nats.errors.Error, TimeoutError: no reply, or not a complete one.
        """
        if self._subscription is None:
            self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._on_message)
        self._reply_subject = f"{self._inbox}.{secrets.token_hex(11)}"
        self._arrived.clear()
        found: list[Message | None] = []
        async with asyncio.timeout(TIMEOUT):
            await self._connection.publish(
                f"$JS.API.DIRECT.GET.{self._stream}", msgspec.json.encode(query), reply=self._reply_subject
            )
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._arrived:
                    reply = self._arrived.popleft()
                    headers = reply.headers or {}
                    # A stored message may have any headers, even ones with a status line.
                    match None if "Nats-Subject" in headers else headers.get("Status"):
                        case None:
                            found.append(_message(reply, headers))
                        case "204":
                            return found, _number(headers, "Nats-Num-Pending")
                        case "404":
                            return found, 0
                        case status:
                            raise api.InvalidReply(f"{self._stream} replied {status} {headers.get('Description', '')}")

    async def close(self) -> None:
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    def _on_message(self, message: Msg) -> None:
        if message.subject == self._reply_subject:
            self._arrived.append(message)
            self._wake.set()
        else:
            count_unexpected("answer")


def _message(reply: Msg, headers: dict[str, str]) -> Message | None:
    try:
        time = datetime.fromisoformat(headers["Nats-Time-Stamp"]).astimezone(UTC)
        subject, sequence = headers["Nats-Subject"], int(headers["Nats-Sequence"])
    except (KeyError, ValueError, OverflowError):
        api.INVALID_REPLY.inc()
        return None
    stored = {name: value for name, value in headers.items() if name not in _BROKER_HEADERS}
    return Message(subject, sequence, time, reply.data, stored or None)


def _number(headers: dict[str, str], name: str) -> int:
    try:
        return int(headers.get(name, 0))
    except ValueError as error:
        raise api.InvalidReply(f"{name} is not a number") from error


class _Withheld(Exception):  # noqa: N818 # names what happened
    """A server does not deliver a message that it holds; the text describes which."""


class Reader:
    """One follower of one stream; used like `jet.tail.Tail`, with one filter or with all subjects of the stream.

    Attributes:
        current: the end of the stream was reached, and the broker has been heard from recently.
        sequence: the stream sequence of the last message yielded; 0 before any.
        reached: the stream sequence up to which every message that still existed was yielded.
        damage: what the broker does not deliver, and where to read how to repair it; empty if nothing.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        filters: Sequence[str],
        start: Start,
        *,
        name: str,
        skip_damaged: bool = False,
    ) -> None:
        """Follow nothing until `batches` is iterated. The arguments are those of `Tail`.

        `skip_damaged`: in a stream that does not keep everything, begin without last messages that the broker cannot
        read.
        """
        if isinstance(start, FromTime):
            raise TypeError("a reader starts at a sequence, or with the last of each subject")
        self.current = False
        self.sequence = 0
        self.reached = start.sequence - 1 if isinstance(start, FromSequence) else 0
        self._connection = connection
        self._stream = stream
        self._filters = filters
        self._begun = isinstance(start, FromSequence)
        self._name = name
        self._skip_damaged = skip_damaged
        self._replicated = True
        self._takes_all = True
        self._keeps = False
        self._gapless = False
        self.damage = ""
        self._stream_end = StreamEnd(stream)
        self._checked = False
        self._end = 0
        self._activity = asyncio.Event()
        self._busy_requests = 0

    async def batches(self) -> AsyncIterator[list[Message]]:
        """Yield the messages from the start on, without end, in batches.

        An empty batch comes from time to time, and whenever `current` changes.

        Raises:
            TailBroken: the stream lost messages that were already yielded.
        """
        direct_get = DirectGet(self._connection, self._stream)
        subscriptions = [
            await self._connection.subscribe(each, lambda _: self._activity.set()) for each in self._filters
        ]
        try:
            while True:
                try:
                    found, more = await self._next(direct_get)
                    self._report_damage("")
                except _Withheld as why:
                    self._report_damage(str(why))
                    self.current = False
                    yield []
                    await asyncio.sleep(RETRY_PAUSE)
                    continue
                except (nats_errors.Error, TimeoutError, api.ApiError) as error:
                    log.debug("reader waits for the broker", stream=self._stream, tail=self._name, error=repr(error))
                    if self.current:
                        self.current = False
                        log.warning("reader gets no reply", stream=self._stream, tail=self._name, after=self.reached)
                        yield []
                    await asyncio.sleep(RETRY_PAUSE)
                    continue
                LAG.labels(self._stream, self._name).set(more)
                yield found
                if not more:
                    await self._pause(had_messages=bool(found))
        finally:
            self._report_damage("")  # this follower no longer knows of any
            await direct_get.close()
            for subscription in subscriptions:
                await subscription.unsubscribe()
            with contextlib.suppress(KeyError):
                LAG.remove(self._stream, self._name)

    async def _next(self, direct_get: DirectGet) -> tuple[list[Message], int]:
        """Return the next messages, and how many more there are."""
        if not self._begun:
            found = await self._begin(direct_get)
            self._begun = True
            return found, max(0, self._end - self.reached)
        if not self._checked:
            await self._check_stream()
        end = self._end
        of = ">" if self._takes_all else self._filters[0]
        query = {"seq": self.reached + 1, "next_by_subj": of}
        received, more = await direct_get.fetch({**query, "batch": BATCH})
        found = [
            each for each in itertools.takewhile(lambda message: message is not None, received) if each is not None
        ]
        if len(found) < len(received):
            found, more = found or [await self._one(query)], 1
        before = self._before_a_gap(found)
        if self._gapless and not before and (found or more):
            raise _Withheld(
                describe_gap(self._stream, self.reached + 1, found[0].sequence if found else self.reached + 2)
            )
        if before:
            self.sequence = self.reached = before[-1].sequence
        if more or len(before) < len(found):
            return before, max(more, 1)
        if self._gapless and self.reached < end and not self._replicated:
            raise _Withheld(describe_gap(self._stream, self.reached + 1, end + 1))
        if not (self._takes_all and self._replicated):  # else a lagging replica would also have no more
            self.reached = max(self.reached, end)
        if not found:
            await self._check_stream()
        self.current = self.reached >= end
        return found, more

    def _before_a_gap(self, found: Sequence[Message]) -> list[Message]:
        """Return the messages up to the first gap."""
        before: list[Message] = []
        reached = self.reached
        for message in found:
            if message.sequence <= reached:
                raise api.InvalidReply(f"{message.sequence} of {self._stream} after {reached}")
            if self._gapless and message.sequence != reached + 1:
                break
            before.append(message)
            reached = message.sequence
        return before

    def _report_damage(self, why: str) -> None:
        """Report what the broker does not deliver; with an empty reason, that it delivers everything again."""
        if why or self.damage:
            # Repeatedly, because another follower may have reported the opposite.
            self._connection.report_health(self._stream, why)
        if why != self.damage:
            self.damage = why
            if why:
                log.error("stream is damaged", stream=self._stream, tail=self._name, reason=why)

    async def _begin(self, direct_get: DirectGet) -> list[Message]:
        """Return the last message of each subject, up to the end of the stream."""
        info = await self._check_stream(by_subject=True)
        end = self._end
        held = end >= info.config.get("first_seq", 1)  # else no message was ever stored
        newest = await api.get_message(self._connection, self._stream, {"seq": end}, timeout=TIMEOUT) if held else None
        if held and newest is None and self._keeps:
            raise _Withheld(describe_gap(self._stream, end, end + 1))
        if newest is not None and not is_ours(newest.subject):
            newest = None
        found: dict[str, Message] = {}
        each = sorted(filter(is_ours, info.state.subjects))
        for first in range(0, len(each), MAX_SUBJECTS):
            wanted = each[first : first + MAX_SUBJECTS] + ([newest.subject] if newest else [])
            received, _ = await direct_get.fetch({"multi_last": wanted, "up_to_seq": end, "batch": len(wanted)})
            messages = [message for message in received if message is not None]
            if len(messages) < len(received):
                unread = {*wanted} - {message.subject for message in messages}
                messages += [await self._one({"last_by_subj": subject}) for subject in sorted(unread)]
                if any(message.sequence > end for message in messages):
                    raise TimeoutError(f"{self._stream} has grown meanwhile")
            found |= {message.subject: message for message in messages}
            lacking = [subject for subject in wanted if subject not in found]
            if not self._keeps:
                lacking = [] if self._skip_damaged else await self._withheld(lacking)
            if lacking and not self._replicated:
                raise _Withheld(describe_withheld_last(self._stream, lacking[0]))
            is_lagging = newest and all(message.sequence != end for message in messages)
            if is_lagging or lacking:
                raise TimeoutError(f"a replica of {self._stream} lags the end, {end}")
        self.reached = end
        bootstrap = sorted(found.values(), key=lambda message: message.sequence)
        self.sequence = bootstrap[-1].sequence if bootstrap else 0
        self.current = True
        return bootstrap

    async def _withheld(self, lacking: Sequence[str]) -> list[str]:
        """Return the first of these subjects that has messages, but whose last one the leader does not return."""
        for subject in lacking:
            if await is_withheld(self._connection, self._stream, subject, timeout=TIMEOUT):
                return [subject]
        return []

    async def _one(self, query: dict[str, Any]) -> Message:
        """Fetch one message from the leader.

        Raises:
            InvalidReply: there is none.
        """
        message = await api.get_message(self._connection, self._stream, query, timeout=TIMEOUT)
        if message is None:
            raise api.InvalidReply(f"{self._stream} holds no message for {query}")
        time = message.time.astimezone(UTC)
        return Message(message.subject, message.seq, time, message.payload, message.headers or None)

    async def _check_stream(self, *, by_subject: bool = False) -> api.StreamInfo:
        """Ask the leader for the end of the stream, and check that it still holds everything that was yielded.

        Raises:
            TailBroken: it does not.
            TimeoutError: it seems not to, but the leader may be stale: check again.
        """
        if by_subject:
            info = await api.stream_subjects(self._connection, self._stream, ">", timeout=TIMEOUT)
        else:
            info = await api.stream_info(self._connection, self._stream, timeout=TIMEOUT)
        self._replicated = info.replicated
        self._keeps, self._gapless = keeps_everything(info.config), is_gapless(info.config, self._filters)
        self._takes_all = set(self._filters) == set(info.config.get("subjects", ()))
        self._stream_end.check(info, self.reached, asyncio.get_running_loop().time())
        self._end, self._checked = info.state.last_seq, True
        return info

    async def _pause(self, *, had_messages: bool) -> None:
        """Wait until there may be more messages."""
        if had_messages or self._activity.is_set():
            self._activity.clear()
            self._busy_requests = BUSY_REQUESTS
        if self._busy_requests:
            self._busy_requests -= 1
            await asyncio.sleep(BUSY_INTERVAL)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_INTERVAL):
                await self._activity.wait()
