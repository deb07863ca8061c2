"""Requests in flight, by the place where each waits for its reply.

A request stays in flight while its connection changes from one link to the next: the reply may come over another link
than the one it was sent on. A request that the broker forbids raises `Forbidden` at once, instead of waiting for a
reply that never comes.

`asyncio.wait_for` is not used here: in Python 3.11 it loses a cancellation that arrives together with the reply, and
the cancelled task would never end.
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
    """The broker does not let this user publish to the subject: no subscriber and no stream got the message."""


class Publisher(Protocol):
    """Sends requests: a `jet.connection.Connection`."""

    async def publish(
        self, subject: str, payload: bytes, *, reply: str, headers: dict[str, str] | None = None
    ) -> None: ...


@dataclass(slots=True)
class _Pending:
    """A request in flight.

    Attributes:
        reply: its reply, once it has arrived.
        subject: the subject of the request.
        is_reply: returns True for a reply to this request; None accepts any message.
        may_have_arrived: it may have reached a service, so a later "no responders" proves nothing.
        packed_with: the other requests of its pack, which also fail if there are no responders.
    """

    reply: "asyncio.Future[Msg]"
    subject: str
    is_reply: Callable[[Msg], bool] | None = None
    may_have_arrived: bool = False
    packed_with: "Sequence[_Pending]" = ()

    def take(self, message: Msg) -> None:
        no_responders = message.headers is not None and message.headers.get("Status") == "503"
        if no_responders:
            for each in self.packed_with:
                each.take(message)
        if self.reply.done():
            return
        if no_responders:
            if not self.may_have_arrived:
                self.reply.set_exception(nats_errors.NoRespondersError())
        elif self.is_reply is None or self.is_reply(message):
            self.reply.set_result(message)

    def fail(self, error: Exception) -> None:
        """End a request that was not sent."""
        if not self.reply.done():
            self.reply.set_exception(error)

    def forbid(self, error: Forbidden) -> None:
        if not self.reply.done() and not self.may_have_arrived:
            self.reply.set_exception(error)

    def time_out(self) -> None:
        if not self.reply.done():
            self.reply.set_exception(nats_errors.TimeoutError())

    def forget(self) -> None:
        """End a request whose caller no longer waits, and prevent asyncio's "exception was never retrieved"."""
        if not self.reply.cancel() and not self.reply.cancelled():
            self.reply.exception()


def _places() -> Iterator[str]:
    """Yield places of 88 random bits: nobody else can guess one and send a reply there. Many are drawn at once."""
    while True:
        drawn = secrets.token_hex(11 * 256)
        for start in range(0, len(drawn), 22):
            yield drawn[start : start + 22]


class Requests:
    """The requests that one connection has in flight.

    Attributes:
        inbox: replies arrive on subjects one token below it, and are passed to `on_reply`.
        pending: the requests in flight, by that token.
    """

    def __init__(self, publisher: Publisher, inbox: str) -> None:
        """`publisher` is a connection that is subscribed to everything below `inbox`."""
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
        resend_after: float | None,
        is_reply: Callable[[Msg], bool] | None,
        packed: bool,
    ) -> Msg:
        """Send a request, and return the first reply; see `jet.connection.Connection.request`."""
        loop = asyncio.get_running_loop()
        place = next(self._places)
        reply = f"{self.inbox}.{place}"
        pending = self.pending[place] = _Pending(loop.create_future(), subject, is_reply)
        timer = loop.call_later(timeout, pending.time_out)
        try:
            if packed:
                self._gather(subject, packs.part(reply, payload, headers))
            else:
                await self._publisher.publish(subject, payload, reply=reply, headers=headers)
            for pause in pauses(resend_after) if resend_after is not None else ():
                if (await asyncio.wait([pending.reply], timeout=pause))[0]:
                    if pending.reply.exception() is None:
                        self._retry_budget.earn()
                    break
                pending.may_have_arrived = True  # no reply said that there are no responders
                pending.packed_with = ()  # the next message does not carry them
                allowed = self._retry_budget.take()
                RESENDS.labels("sent" if allowed else "held back").inc()
                with contextlib.suppress(nats_errors.Error):
                    if allowed:
                        await self._publisher.publish(subject, payload, reply=reply, headers=headers)
            return await pending.reply
        finally:
            timer.cancel()
            pending.forget()
            del self.pending[place]

    def forbid(self, subject: str, reason: str) -> None:
        """Fail the requests to a subject to which the broker forbids us to publish. Case does not matter."""
        for pending in self.pending.values():
            if pending.subject.lower() == subject.lower():
                pending.forbid(Forbidden(reason))

    def on_reply(self, message: Msg) -> None:
        """Take a message with one reply or several. A reply that no request waits for is counted."""
        if message.headers and packs.HEADER in message.headers:
            self._on_pack(message)
            return
        pending = self.pending.get(message.subject.rpartition(".")[2])
        if pending is not None:
            pending.take(message)
        else:
            count_unexpected("answer")

    def _on_pack(self, message: Msg) -> None:
        try:
            parts = packs.decode(message.data)
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
        """Send a request at the end of this turn of the loop, together with the others that are made in it."""
        self._gathered.setdefault(subject, []).append(part)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_gathered())

    async def _send_gathered(self) -> None:
        gathered, self._gathered, self._sending = self._gathered, {}, None
        for subject, parts in gathered.items():
            for group in packs.groups(parts):
                await self._send(subject, group)

    async def _send(self, subject: str, parts: list[Part]) -> None:
        """Send those requests whose callers still wait. If the message cannot be sent, their callers get the error."""
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
                pending[0].packed_with = pending[1:]
                await self._publisher.publish(
                    subject, packs.encode(parts), reply=reply, headers={packs.HEADER: str(len(parts))}
                )
        except Exception as error:  # noqa: BLE001 # the callers raise it
            for each in pending:
                each.fail(error)
