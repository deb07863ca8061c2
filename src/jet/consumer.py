"""A pull consumer on the broker, as a tail uses it up: it is asked for messages, delivers them, and may fall silent."""

import asyncio
from collections import deque

from nats.aio.msg import Msg

from jet.api import ConsumerInfo
from jet.connection import Connection, Subscription

BATCH = 500
"""Messages asked for at once."""

HEARTBEAT = 0.5
"""Seconds between the broker's heartbeats while it has nothing to deliver."""

SILENCE = 1.5
"""Seconds without a message or a heartbeat after which the view counts as stale."""

NANOSECONDS = 1_000_000_000


class Consumer:
    """One incarnation: a consumer on the broker and the inbox it delivers to.

    Attributes:
        name: on the broker; `config` is what the broker says that it made.
        arrived: what was delivered and is not read yet; `wake` is set when there is something to look at.
        pending: messages that the broker has for it beyond those.
        delivered: messages that were read; `asked` is how many more may come, `due` how many of them have not arrived.
        silent: nothing was heard for `SILENCE`.
        doubt: why it is not believed to deliver what it is to deliver; empty if it is.
        lagged: checks in a row at which its copy was behind.
        hollow: it says that there is no more, and some is pending.
    """

    def __init__(self, connection: Connection, created: ConsumerInfo, *, replicated: bool) -> None:
        self.connection = connection
        self.stream = created.stream_name
        self.name = created.name
        self.config = created.config
        self.pending = created.num_pending
        self._place = f".{self.stream}.{self.name}."
        self.doubt = ""
        self.replicated = replicated
        self.lagged = 0
        self.hollow = False
        self.inbox = connection.new_inbox()
        self.arrived: deque[Msg] = deque()
        self.wake = asyncio.Event()
        self.delivered = 0
        self.asked = 0
        self.due = 0
        self.silent = False
        self.subscription: Subscription | None = None
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._watch = self._loop.call_later(SILENCE, self._listen)

    async def open(self) -> None:
        """Listen, and ask for the first messages."""
        self.subscription = await self.connection.subscribe(self.inbox, self._on_message)
        await self.ask()

    async def close(self) -> None:
        """Listen no more."""
        self._watch.cancel()
        if self.subscription is not None:
            await self.subscription.unsubscribe()

    async def ask(self) -> None:
        """Keep enough asked for that deliveries never pause."""
        if self.asked > BATCH // 2:
            return
        wanted = BATCH - self.asked
        body = (
            f'{{"batch":{wanted},"expires":{30 * NANOSECONDS},"idle_heartbeat":{int(HEARTBEAT * NANOSECONDS)}}}'
        ).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.name}"
        await self.connection.publish(subject, body, reply=self.inbox)
        if self.due <= 0:
            self._heard = self._loop.time()
        self.asked += wanted
        self.due += wanted

    def numbers(self, reply: str) -> tuple[int, int, int, int]:
        """What the reply subject of a delivery tells: the message's place in the stream, and in what this consumer has
        delivered; when it was stored, in nanoseconds; and how many messages are pending.

        Raises:
            ValueError: it is no delivery of this consumer.
        """
        before, place, suffix = reply.partition(self._place)
        numbers = suffix.split(".")
        if not place or not before.startswith("$JS.ACK") or not 5 <= len(numbers) <= 6:
            raise ValueError(reply)
        _, sequence, order, stamp, pending = (int(number) for number in numbers[:5])
        return sequence, order, stamp, pending

    def doubted(self, why: str) -> None:
        """It does not deliver what it is to deliver."""
        self.doubt = why
        self.wake.set()

    def ended(self, count: int) -> None:
        """So many messages that were asked for will not come."""
        self.asked -= count
        self.due -= count

    def _on_message(self, message: Msg) -> None:
        self.arrived.append(message)
        if message.reply:
            self.due -= 1
        self._heard = self._loop.time()
        self.wake.set()

    def _listen(self) -> None:
        """Note when nothing was heard for too long. One timer per consumer, which no message has to move.

        When all that was asked for is here, and waits for its reader, the broker has nothing to say.
        """
        left = self._heard + SILENCE - self._loop.time() if self.due > 0 else SILENCE
        if left > 0:
            self._watch = self._loop.call_later(left, self._listen)
        else:
            self.silent = True
            self.wake.set()
