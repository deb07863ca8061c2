"""Requests under way, by where each awaits its answer.

A request stays under way while its connection goes from one link to the next: its answer may come over another link
than it was sent on. What the broker does not let us ask raises `Forbidden` at once, instead of waiting for an answer
that never comes.

There is no `wait_for` here: in Python 3.11 it would lose a cancellation that arrives together with a request's answer,
and the cancelled task would never end.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from nats import errors as nats_errors
from nats.aio.msg import Msg
from prometheus_client import Counter

from jet import packs
from jet.packs import Part
from jet.retry_budget import RetryBudget, pauses
from jet.unexpected_messages import count_unexpected

RESENDS = Counter("quotestream_request_resends", "Requests to services that got no answer in time.", ["outcome"])


class Forbidden(nats_errors.Error):
    """The broker does not let this user publish there: nobody and no stream got the message."""


class Publisher(Protocol):
    """What sends requests: a `jet.connection.Connection`."""

    async def publish(
        self, subject: str, payload: bytes, *, reply: str, headers: dict[str, str] | None = None
    ) -> None: ...


@dataclass(slots=True)
class _Pending:
    """A request under way. `reached`: it may have reached somebody, so that nobody listening now says nothing.
    `along`: those that went in the same message, and hear of it if nobody listens."""

    answer: "asyncio.Future[Msg]"
    subject: str
    is_answer: Callable[[Msg], bool] | None = None
    reached: bool = False
    along: "Sequence[_Pending]" = ()

    def take(self, message: Msg) -> None:
        nobody = message.headers is not None and message.headers.get("Status") == "503"
        if nobody:
            for each in self.along:
                each.take(message)
        if self.answer.done():
            return
        if nobody:
            if not self.reached:
                self.answer.set_exception(nats_errors.NoRespondersError())
        elif self.is_answer is None or self.is_answer(message):
            self.answer.set_result(message)

    def fail(self, error: Exception) -> None:
        """It was not sent."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def forbid(self, error: Forbidden) -> None:
        if not self.answer.done() and not self.reached:
            self.answer.set_exception(error)

    def give_up(self) -> None:
        if not self.answer.done():
            self.answer.set_exception(nats_errors.TimeoutError())

    def forget(self) -> None:
        """Nobody waits any more, as when the asking task was cancelled: no exception is left to be complained about."""
        if not self.answer.cancel() and not self.answer.cancelled():
            self.answer.exception()


def _places() -> Iterator[str]:
    """Where answers are awaited, in 88 random bits each: nobody else can tell it, and give one. Drawn many at once."""
    while True:
        drawn = secrets.token_hex(11 * 256)
        for start in range(0, len(drawn), 22):
            yield drawn[start : start + 22]


class Requests:
    """What one connection has asked and awaits.

    Attributes:
        inbox: answers arrive on subjects one token below it, and go to `answered`.
        pending: the requests under way, by that token.
    """

    def __init__(self, publisher: Publisher, inbox: str) -> None:
        """Of one connection, which listens to all of `inbox`."""
        self._publisher = publisher
        self.inbox = inbox
        self._places = _places()
        self.pending: dict[str, _Pending] = {}
        self._gathered: dict[str, list[Part]] = {}
        self._sending: asyncio.Task[None] | None = None
        self._retry_budget = RetryBudget()

    async def make(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout: float,
        headers: dict[str, str] | None,
        again: float | None,
        is_answer: Callable[[Msg], bool] | None,
        packed: bool,
    ) -> Msg:
        """Ask, and wait for the first answer; see `jet.connection.Connection.request`."""
        loop = asyncio.get_running_loop()
        place = next(self._places)
        reply = f"{self.inbox}.{place}"
        pending = self.pending[place] = _Pending(loop.create_future(), subject, is_answer)
        timer = loop.call_later(timeout, pending.give_up)
        try:
            if packed:
                self._gather(subject, packs.part(reply, payload, headers))
            else:
                await self._publisher.publish(subject, payload, reply=reply, headers=headers)
            for pause in pauses(again) if again is not None else ():
                if (await asyncio.wait([pending.answer], timeout=pause))[0]:
                    if pending.answer.exception() is None:
                        self._retry_budget.answered()
                    break
                pending.reached = True  # nobody has said that nobody listens
                pending.along = ()  # what is said of the next message is not said of them
                allowed = self._retry_budget.take()
                RESENDS.labels("sent" if allowed else "held back").inc()
                with contextlib.suppress(nats_errors.Error):
                    if allowed:
                        await self._publisher.publish(subject, payload, reply=reply, headers=headers)
            return await pending.answer
        finally:
            timer.cancel()
            pending.forget()
            del self.pending[place]

    def forbid(self, subject: str, reason: str) -> None:
        """The broker has refused to let us publish to this subject, in whatever case it spells it."""
        for pending in self.pending.values():
            if pending.subject.lower() == subject.lower():
                pending.forbid(Forbidden(reason))

    def answered(self, message: Msg) -> None:
        """An answer has arrived, or several in one message. What nobody awaits is counted."""
        if message.headers and packs.HEADER in message.headers:
            self._answered_together(message)
            return
        pending = self.pending.get(message.subject.rpartition(".")[2])
        if pending is not None:
            pending.take(message)
        else:
            count_unexpected("answer")

    def _answered_together(self, message: Msg) -> None:
        try:
            parts = packs.unpacked(message.data)
        except ValueError:
            count_unexpected("answer")
            return
        for part in parts:
            pending = self.pending.get(part.place)
            if pending is not None:
                pending.take(replace(message, data=bytes(part.data), headers=part.headers))
            else:
                count_unexpected("answer")

    def _gather(self, subject: str, part: Part) -> None:
        """Have a request sent, with those that are made in the same turn of the loop."""
        self._gathered.setdefault(subject, []).append(part)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_gathered())

    async def _send_gathered(self) -> None:
        gathered, self._gathered, self._sending = self._gathered, {}, None
        for subject, parts in gathered.items():
            for group in packs.groups(parts):
                await self._send(subject, group)

    async def _send(self, subject: str, parts: list[Part]) -> None:
        """Send those requests that are still awaited. Each whose message cannot be sent has the reason raised."""
        parts = [part for part in parts if part.place in self.pending]
        if not parts:
            return
        pending = [self.pending[part.place] for part in parts]
        reply = f"{self.inbox}.{parts[0].place}"
        try:
            if len(parts) == 1:
                await self._publisher.publish(
                    subject, bytes(parts[0].data), reply=reply, headers=parts[0].headers or None
                )
            else:
                pending[0].along = pending[1:]
                await self._publisher.publish(
                    subject, packs.packed(parts), reply=reply, headers={packs.HEADER: str(len(parts))}
                )
        except Exception as error:  # noqa: BLE001 # whoever asks has it raised
            for each in pending:
                each.fail(error)
