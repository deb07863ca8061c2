"""Following a stream by asking for what comes next: for readers, who may make no consumer.

A reader keeps the sequence up to which it has read, and asks for a batch of what follows it. So what it yields is in
order, without gap or repeat, whatever becomes of an answer, and nothing on the broker belongs to it that somebody else
could change. That something may have been appended is heard from the messages as they pass, which are believed for
nothing else; and it asks from time to time anyway.

In a cluster any server that holds a copy answers, and that copy may be behind. So a reader is current only once it has
reached what the stream's leader names as the end.

A server passes over a message that is damaged in its store. Of a stream that keeps everything, a reader ends before one
that it is not given, and health says why, until a server gives it out.
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
from jet.missing_subjects import is_asked_for, is_withheld, not_given_out
from jet.stream_integrity import StreamEnd, is_gapless, keeps_everything, missing
from jet.tail import LAG, FromSequence, FromTime, Message, Start
from jet.unexpected_messages import count_unexpected

IDLE = 0.5
"""Seconds between two questions while nothing is heard."""

SOON = 0.02
"""Seconds from a message that passes, or from an answer with messages, to the next question."""

TRIES = 12
"""Questions in a row, `SOON` apart, after a message has passed: it is stored a moment later, or never."""

TIMEOUT = 1.0
"""Seconds to wait for all of an answer."""

AGAIN = 0.2
"""Seconds until the broker is asked again after it did not answer, or did not give out all that it holds."""

SUBJECTS = 500
"""Subjects whose last messages are asked for at once."""

_REPORTED = (
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Time-Stamp",
    "Nats-Num-Pending",
    "Nats-Last-Sequence",
)
"""What the broker adds to the headers of a stored message."""

log = structlog.get_logger()


class Answers:
    """Where answers arrive, of one question at a time."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._inbox = connection.new_inbox()
        self._awaited = ""
        self._arrived: deque[Msg] = deque()
        self._wake = asyncio.Event()
        self._subscription: Subscription | None = None

    async def ask(self, query: dict[str, Any]) -> tuple[list[Message | None], int]:
        """The messages that a question is answered with, and how many more there are. None stands for one that cannot
        be read in this form: the broker adds what it tells of a message to the headers, which may be none.

        Raises:
            nats.errors.Error, TimeoutError: the answer did not come, or not whole.
        """
        if self._subscription is None:
            self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._on_message)
        self._awaited = f"{self._inbox}.{secrets.token_hex(11)}"
        self._arrived.clear()
        found: list[Message | None] = []
        async with asyncio.timeout(TIMEOUT):
            await self._connection.publish(
                f"$JS.API.DIRECT.GET.{self._stream}", msgspec.json.encode(query), reply=self._awaited
            )
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._arrived:
                    answer = self._arrived.popleft()
                    headers = answer.headers or {}
                    # A stored message may have any headers, and these with a status line.
                    match None if "Nats-Subject" in headers else headers.get("Status"):
                        case None:
                            found.append(_message(answer, headers))
                        case "204":
                            return found, _number(headers, "Nats-Num-Pending")
                        case "404":
                            return found, 0
                        case status:
                            raise api.InvalidReply(f"{self._stream} answers {status} {headers.get('Description', '')}")

    async def close(self) -> None:
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    def _on_message(self, message: Msg) -> None:
        if message.subject == self._awaited:
            self._arrived.append(message)
            self._wake.set()
        else:
            count_unexpected("answer")


def _message(answer: Msg, headers: dict[str, str]) -> Message | None:
    try:
        time = datetime.fromisoformat(headers["Nats-Time-Stamp"]).astimezone(UTC)
        subject, sequence = headers["Nats-Subject"], int(headers["Nats-Sequence"])
    except (KeyError, ValueError, OverflowError):
        api.INVALID_REPLY.inc()
        return None
    own = {name: value for name, value in headers.items() if name not in _REPORTED}
    return Message(subject, sequence, time, answer.data, own or None)


def _number(headers: dict[str, str], name: str) -> int:
    try:
        return int(headers.get(name, 0))
    except ValueError as error:
        raise api.InvalidReply(f"an answer whose {name} is no number") from error


class _Withheld(Exception):  # noqa: N818 # names what happened
    """A server does not give out what it holds; the message says what."""


class Reader:
    """One follower of one stream; used as `jet.tail.Tail` is, with one filter or all those of the stream.

    Attributes:
        current: the end of the stream was reached, and the broker heard of lately.
        sequence: stream sequence of the last message yielded, 0 before any.
        reached: stream sequence up to which everything was yielded that was still there.
        damage: what the broker does not give out, and where it says what to do; empty if nothing.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        filters: Sequence[str],
        start: Start,
        *,
        name: str,
        past_damage: bool = False,
    ) -> None:
        """Of one follower; `past_damage`: begin without the last messages that the broker cannot read, where others may
        have been deleted."""
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
        self._past_damage = past_damage
        self._replicated = True
        self._takes_all = True
        self._keeps = False
        self._gapless = False
        self.damage = ""
        self._stream_end = StreamEnd(stream)
        self._looked = False
        self._end = 0
        self._passing = asyncio.Event()
        self._tries = 0

    async def batches(self) -> AsyncIterator[list[Message]]:
        """The messages from the start on, endlessly, in batches of whatever there is.

        An empty batch comes from time to time, and whenever `current` changes.

        Raises:
            TailBroken: the stream lost what was yielded already.
        """
        answers = Answers(self._connection, self._stream)
        passing = [await self._connection.subscribe(each, lambda _: self._passing.set()) for each in self._filters]
        try:
            while True:
                try:
                    found, more = await self._next(answers)
                    self._report_damage("")
                except _Withheld as why:
                    self._report_damage(str(why))
                    self.current = False
                    yield []
                    await asyncio.sleep(AGAIN)
                    continue
                except (nats_errors.Error, TimeoutError, api.ApiError) as error:
                    log.debug("reader waits for the broker", stream=self._stream, tail=self._name, error=repr(error))
                    if self.current:
                        self.current = False
                        log.warning("reader gets no answer", stream=self._stream, tail=self._name, after=self.reached)
                        yield []
                    await asyncio.sleep(AGAIN)
                    continue
                LAG.labels(self._stream, self._name).set(more)
                yield found
                if not more:
                    await self._pause(something=bool(found))
        finally:
            self._report_damage("")  # as far as this one knows
            await answers.close()
            for subscription in passing:
                await subscription.unsubscribe()
            with contextlib.suppress(KeyError):
                LAG.remove(self._stream, self._name)

    async def _next(self, answers: Answers) -> tuple[list[Message], int]:
        """What comes next, and how much there is after that."""
        if not self._begun:
            found = await self._begin(answers)
            self._begun = True
            return found, max(0, self._end - self.reached)
        if not self._looked:
            await self._look()
        end = self._end
        of = ">" if self._takes_all else self._filters[0]
        query = {"seq": self.reached + 1, "next_by_subj": of}
        answered, more = await answers.ask({**query, "batch": BATCH})
        found = [
            each for each in itertools.takewhile(lambda message: message is not None, answered) if each is not None
        ]
        if len(found) < len(answered):
            found, more = found or [await self._one(query)], 1
        before = self._before_a_gap(found)
        if self._gapless and not before and (found or more):
            raise _Withheld(missing(self._stream, self.reached + 1, found[0].sequence if found else self.reached + 2))
        if before:
            self.sequence = self.reached = before[-1].sequence
        if more or len(before) < len(found):
            return before, max(more, 1)
        if self._gapless and self.reached < end and not self._replicated:
            raise _Withheld(missing(self._stream, self.reached + 1, end + 1))
        if not (self._takes_all and self._replicated):  # else a copy that is behind has no more, either
            self.reached = max(self.reached, end)
        if not found:
            await self._look()
        self.current = self.reached >= end
        return found, more

    def _before_a_gap(self, found: Sequence[Message]) -> list[Message]:
        """The messages that follow what was read, as far as none is missing between them."""
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
        """Tell what is not given out, and once that it is again."""
        if why or self.damage:
            self._connection.report_health(self._stream, why)  # again, as another follower may have found that it is
        if why != self.damage:
            self.damage = why
            if why:
                log.error("stream is damaged", stream=self._stream, tail=self._name, reason=why)

    async def _begin(self, answers: Answers) -> list[Message]:
        """The last message of each subject, up to where the stream ends."""
        info = await self._look(by_subject=True)
        end = self._end
        held = end >= info.config.get("first_seq", 1)  # else nothing was ever stored
        newest = await api.get_message(self._connection, self._stream, {"seq": end}, timeout=TIMEOUT) if held else None
        if held and newest is None and self._keeps:
            raise _Withheld(missing(self._stream, end, end + 1))
        if newest is not None and not is_asked_for(newest.subject):
            newest = None
        found: dict[str, Message] = {}
        each = sorted(filter(is_asked_for, info.state.subjects))
        for first in range(0, len(each), SUBJECTS):
            wanted = each[first : first + SUBJECTS] + ([newest.subject] if newest else [])
            answered, _ = await answers.ask({"multi_last": wanted, "up_to_seq": end, "batch": len(wanted)})
            messages = [message for message in answered if message is not None]
            if len(messages) < len(answered):
                unread = {*wanted} - {message.subject for message in messages}
                messages += [await self._one({"last_by_subj": subject}) for subject in sorted(unread)]
                if any(message.sequence > end for message in messages):
                    raise TimeoutError(f"{self._stream} has gone on meanwhile")
            found |= {message.subject: message for message in messages}
            lacking = [subject for subject in wanted if subject not in found]
            if not self._keeps:
                lacking = [] if self._past_damage else await self._withheld(lacking)
            if lacking and not self._replicated:
                raise _Withheld(not_given_out(self._stream, lacking[0]))
            is_behind = newest and all(message.sequence != end for message in messages)
            if is_behind or lacking:
                raise TimeoutError(f"a copy of {self._stream} is behind {end}")
        self.reached = end
        bootstrap = sorted(found.values(), key=lambda message: message.sequence)
        self.sequence = bootstrap[-1].sequence if bootstrap else 0
        self.current = True
        return bootstrap

    async def _withheld(self, lacking: Sequence[str]) -> list[str]:
        """The first of these subjects whose last message the leader does not give out, though it holds something."""
        for subject in lacking:
            if await is_withheld(self._connection, self._stream, subject, timeout=TIMEOUT):
                return [subject]
        return []

    async def _one(self, query: dict[str, Any]) -> Message:
        """One message, as the leader tells it.

        Raises:
            InvalidReply: there is none.
        """
        message = await api.get_message(self._connection, self._stream, query, timeout=TIMEOUT)
        if message is None:
            raise api.InvalidReply(f"{self._stream} holds no message of {query}")
        time = message.time.astimezone(UTC)
        return Message(message.subject, message.seq, time, message.payload, message.headers or None)

    async def _look(self, *, by_subject: bool = False) -> api.StreamInfo:
        """Ask the leader where the stream ends, and whether it still holds what was yielded.

        Raises:
            TailBroken: it does not.
            TimeoutError: it does not seem so, which may pass.
        """
        if by_subject:
            info = await api.stream_subjects(self._connection, self._stream, ">", timeout=TIMEOUT)
        else:
            info = await api.stream_info(self._connection, self._stream, timeout=TIMEOUT)
        self._replicated = info.replicated
        self._keeps, self._gapless = keeps_everything(info.config), is_gapless(info.config, self._filters)
        self._takes_all = set(self._filters) == set(info.config.get("subjects", ()))
        self._stream_end.check(info, self.reached, asyncio.get_running_loop().time())
        self._end, self._looked = info.state.last_seq, True
        return info

    async def _pause(self, *, something: bool) -> None:
        """Wait until there may be more."""
        if something or self._passing.is_set():
            self._passing.clear()
            self._tries = TRIES
        if self._tries:
            self._tries -= 1
            await asyncio.sleep(SOON)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE):
                await self._passing.wait()
