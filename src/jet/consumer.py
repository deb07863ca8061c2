"""A tail's pull consumer on the broker, and the inbox that it delivers to."""

import asyncio
from collections import deque

from nats.aio.msg import Msg

from jet.api import ConsumerInfo
from jet.connection import Connection, Subscription

BATCH = 500
"""The most messages that are requested and not yet read."""

HEARTBEAT = 0.5
"""Seconds between the broker's heartbeats while it has nothing to deliver."""

SILENCE = 1.5
"""Seconds without a message or a heartbeat after which a follower counts as stale."""

NANOSECONDS = 1_000_000_000


class Consumer:
    """One consumer on the broker, and the inbox that it delivers to. A tail replaces a consumer that fails.

    Attributes:
        name: the name on the broker.
        config: the configuration that the broker reported when it created the consumer.
        replicated: the stream has several replicas.
        arrived: messages that have arrived and are not read yet.
        wake: set when there is something to read, or when the consumer has failed.
        pending: messages that the broker has for the consumer beyond those.
        delivered: messages that were read.
        requested: messages that were requested and are not read yet.
        due: messages that were requested and have not arrived.
        silent: nothing has arrived for `SILENCE`.
        fault: why the consumer no longer delivers what it should; empty if it does.
        lagged: how many checks in a row its replica lagged.
        is_withholding: it reports that nothing is left to deliver, although messages are pending.
    """

    def __init__(self, connection: Connection, created: ConsumerInfo, *, replicated: bool) -> None:
        self.connection = connection
        self.stream = created.stream_name
        self.name = created.name
        self.config = created.config
        self.pending = created.num_pending
        self._ack_infix = f".{self.stream}.{self.name}."
        self.fault = ""
        self.replicated = replicated
        self.lagged = 0
        self.is_withholding = False
        self.inbox = connection.new_inbox()
        self.arrived: deque[Msg] = deque()
        self.wake = asyncio.Event()
        self.delivered = 0
        self.requested = 0
        self.due = 0
        self.silent = False
        self.subscription: Subscription | None = None
        self._loop = asyncio.get_running_loop()
        self._last_heard = self._loop.time()
        self._timer = self._loop.call_later(SILENCE, self._check_silence)

    async def open(self) -> None:
        """Subscribe to the inbox, and request the first messages."""
        self.subscription = await self.connection.subscribe(self.inbox, self._on_message)
        await self.request_more()

    async def close(self) -> None:
        """Unsubscribe."""
        self._timer.cancel()
        if self.subscription is not None:
            await self.subscription.unsubscribe()

    async def request_more(self) -> None:
        """Request more messages early enough that deliveries never pause."""
        if self.requested > BATCH // 2:
            return
        wanted = BATCH - self.requested
        body = (
            f'{{"batch":{wanted},"expires":{30 * NANOSECONDS},"idle_heartbeat":{int(HEARTBEAT * NANOSECONDS)}}}'
        ).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.name}"
        await self.connection.publish(subject, body, reply=self.inbox)
        if self.due <= 0:
            self._last_heard = self._loop.time()
        self.requested += wanted
        self.due += wanted

    def parse_reply_subject(self, reply: str) -> tuple[int, int, int, int]:
        """Parse the reply subject of a delivery.

        Returns:
            the sequence in the stream, the sequence among this consumer's deliveries, the time when the message was
            stored in nanoseconds since the epoch, and how many messages are pending.

        Raises:
            ValueError: it is not a delivery of this consumer.
        """
        before, infix, suffix = reply.partition(self._ack_infix)
        numbers = suffix.split(".")
        if not infix or not before.startswith("$JS.ACK") or not 5 <= len(numbers) <= 6:
            raise ValueError(reply)
        _, sequence, order, stamp, pending = (int(number) for number in numbers[:5])
        return sequence, order, stamp, pending

    def fail(self, why: str) -> None:
        """Note that it no longer delivers what it should."""
        self.fault = why
        self.wake.set()

    def expire(self, count: int) -> None:
        """Note that `count` of the requested messages will not come."""
        self.requested -= count
        self.due -= count

    def _on_message(self, message: Msg) -> None:
        self.arrived.append(message)
        if message.reply:
            self.due -= 1
        self._last_heard = self._loop.time()
        self.wake.set()

    def _check_silence(self) -> None:
        """Set `silent` when nothing has arrived for too long. Arriving messages do not have to move the timer.

        While every requested message has arrived and waits to be read, the broker has nothing to send.
        """
        left = self._last_heard + SILENCE - self._loop.time() if self.due > 0 else SILENCE
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_silence)
        else:
            self.silent = True
            self.wake.set()
