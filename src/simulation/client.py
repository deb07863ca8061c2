"""A replacement for nats-py's client in `jet.connection`: the same calls, to the simulated broker.

It opens links as `jet.link` does: an attempt times out if the server does not reply, a link is lost if no PONG comes,
and publishing without a link raises.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from nats import errors as nats_errors
from nats.aio.msg import Msg

from jet.link import STEP_TIMEOUT, NoLink, Options
from simulation.broker import MAX_PAYLOAD, Broker
from simulation.loop import Handle
from simulation.sessions import Headers, Session
from simulation.world import Process


class SimSubscription:
    """A subscription of the client."""

    def __init__(self, client: "SimClient", sid: int, subject: str, queue: str, callback: Any) -> None:
        self._id = sid
        self._client = client
        self.subject = subject
        self.queue = queue
        self.callback = callback

    async def unsubscribe(self, limit: int = 0) -> None:
        """End the subscription."""
        del limit
        self._client.forget(self._id)

    async def drain(self) -> None:
        """End the subscription, as `unsubscribe` does."""
        self._client.forget(self._id)


class SimLink:
    """A connection to the broker, until it ends."""

    def __init__(self, client: "SimClient") -> None:
        self.client = client
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def subscribe(self, subject: str, queue: str, deliver: Callable[[Msg], None]) -> SimSubscription:
        """Subscribe, and pass each message to `deliver` as soon as it is read."""
        subscription = await self.client.subscribe(subject, queue)
        self.client.at_once[subscription._id] = deliver  # noqa: SLF001 # as nats-py calls it
        return subscription

    async def until_lost(self, on_silence: Callable[[float], None]) -> str:
        """Wait until the link is lost, and return why."""
        del on_silence
        return await self.ended

    async def close(self, *, is_lost: bool) -> None:
        """Close the connection."""
        del is_lost
        self.client.leave()


class SimClient:
    """The client of one process, over all its links.

    Attributes:
        at_once: by subscription, the function that takes its messages as they are read; `jet.connection` fills it.
        published: how many messages were published.
        fuse: `on_fuse` is called at this many messages from now, counting those that match `fuse_on`; 0 for never.
        fuse_on: the prefix of the subjects that count.
        sends_last: the last of those messages is sent before `on_fuse` is called.
        on_fuse: by default, ends the process.
    """

    def __init__(self, process: Process, broker: Broker, user: str | None, reaches: Callable[[], bool]) -> None:
        self.at_once: dict[int, Callable[[Msg], None]] = {}
        self.session: Session | None = None
        self.is_closed = False
        self._process = process
        self._broker = broker
        self._user = user
        self._reaches = reaches
        self._sid = 0
        self._subscriptions: dict[int, SimSubscription] = {}
        self._arrived: deque[tuple[int, str, str, bytes, Headers]] = deque()
        self._reading = False
        self._read_all = Handle(self._read, (), None)
        self._pongs: deque[asyncio.Future[None]] = deque()
        self._on_error: Callable[[Exception], Awaitable[None]] | None = None
        self._link: SimLink | None = None
        self.published = 0
        self.fuse = 0
        self.fuse_on = ""
        self.sends_last = False
        self.on_fuse: Callable[[], None] = process.end
        process.on_end.append(self._died)

    @property
    def is_connected(self) -> bool:
        """True if there is a connection, as far as the client knows."""
        return self.session is not None

    # --- connecting ---------------------------------------------------------------------------------------------------

    async def open_link(self, server: str, inbox: str, options: Options) -> SimLink:
        """Try once to connect.

        Raises:
            NoLink: no server replied.
        """
        broker, world = self._broker, self._process.world
        del inbox
        self._on_error = options.on_error
        for is_near in (False, True):
            if not self._reaches() or broker.paused:
                await asyncio.sleep(STEP_TIMEOUT)
                raise NoLink(f"not connected to {server}: it says nothing")
            if not is_near:
                await asyncio.sleep(3 * broker.latency.draw(world.network))
                if not broker.up:
                    raise NoLink(f"not connected to {server}: nobody is there")
        self._subscriptions.clear()
        self.at_once.clear()
        self._arrived.clear()
        self.session = broker.accept(self, self._process, self._user)
        self._link = SimLink(self)
        return self._link

    def broke(self, session: Session) -> None:
        """Handle the end of the connection by the broker or the network."""
        self._process.soon(Handle(self._lost, (session,), None))

    def stale(self, session: Session) -> None:
        """Give up a connection that was silent for too long. The broker may not notice."""
        if self.session is session and self._process.alive:
            session.down.cut()
            session.up.send(self._broker.leave)  # arrives once the network works again
            self._process.soon(Handle(self._lost, (session,), None))

    def _lost(self, session: Session) -> None:
        if self.session is not session or self.is_closed:
            return
        self.session = None
        self._arrived.clear()
        for pong in self._pongs:
            if not pong.done():
                pong.set_exception(nats_errors.ConnectionClosedError())
        self._pongs.clear()
        if self._link is not None and not self._link.ended.done():
            self._link.ended.set_result("the connection is lost")

    def leave(self) -> None:
        """End the connection, if there is one."""
        session, self.session = self.session, None
        if session is not None:
            session.up.send(self._broker.leave)

    def _died(self) -> None:
        """Close the connection of a killed process, after what it has sent."""
        self.is_closed = True
        self.leave()

    # --- using ------------------------------------------------------------------------------------------------------

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "", headers: Headers = None) -> None:
        """Send a message."""
        if self.is_closed:
            raise nats_errors.ConnectionClosedError
        session = self.session
        if session is None:
            raise nats_errors.OutboundBufferLimitError
        if len(payload) > MAX_PAYLOAD:
            raise nats_errors.MaxPayloadError
        self.published += 1
        last = self._burns_out() if self.fuse and subject.startswith(self.fuse_on) else False
        if last and not self.sends_last:
            await self._burn()
        session.up.send(self._broker.publish, subject, reply, payload, headers)
        if last and self.sends_last:
            await self._burn()

    async def _burn(self) -> None:
        self.on_fuse()
        await asyncio.sleep(0)  # a process that has ended stops here, and a paused one until it is resumed

    def _burns_out(self) -> bool:
        """Count a message. True if it is the one at which `on_fuse` is due."""
        self.fuse -= 1
        return not self.fuse

    async def subscribe(
        self, subject: str, queue: str = "", cb: Callable[[Msg], Awaitable[None]] | None = None
    ) -> SimSubscription:
        """Subscribe to a subject."""
        if self.is_closed:
            raise nats_errors.ConnectionClosedError
        self._sid += 1
        subscription = self._subscriptions[self._sid] = SimSubscription(self, self._sid, subject, queue, cb)
        if self.session is not None:
            self._subscribe(self.session, subscription)
        return subscription

    def _subscribe(self, session: Session, subscription: SimSubscription) -> None:
        session.up.send(self._broker.subscribe, subscription._id, subscription.subject, subscription.queue)  # noqa: SLF001 # as nats-py calls it

    def forget(self, sid: int) -> None:
        """End a subscription."""
        if self.is_closed:
            raise nats_errors.ConnectionClosedError
        self.at_once.pop(sid, None)
        if self._subscriptions.pop(sid, None) is not None and self.session is not None:
            self.session.up.send(self._broker.unsubscribe, sid)

    async def flush(self, timeout: float = 10) -> None:
        """Wait until the broker has received everything that was sent."""
        session = self.session
        if session is None:
            raise nats_errors.ConnectionClosedError
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        session.up.send(self._broker.ping)
        async with asyncio.timeout(timeout):
            await pong

    # --- receiving --------------------------------------------------------------------------------------------------

    def arrived(self, session: Session, sid: int, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        """Take a message that reached the process, which reads all that have arrived in one go."""
        if self.session is not session:
            return
        self._arrived.append((sid, subject, reply, data, headers))
        if not self._reading:
            self._reading = True
            self._process.soon(self._read_all)

    def _read(self) -> None:
        self._reading = False
        arrived = self._arrived
        while arrived:
            sid, subject, reply, data, headers = arrived.popleft()
            if not sid:
                if self._pongs and not (pong := self._pongs.popleft()).done():
                    pong.set_result(None)
                continue
            subscription = self._subscriptions.get(sid)
            if subscription is None:
                continue
            message = Msg(self, subject, reply, data, headers)  # type: ignore[arg-type] # it replies through us
            deliver = self.at_once.get(sid)
            if deliver is not None:
                deliver(message)
            elif subscription.callback is not None:
                self._process.loop.create_task(subscription.callback(message))

    def refused(self, session: Session, why: str) -> None:
        """Report that the broker refused an operation for lack of permission."""
        if self.session is session:
            self._process.soon(Handle(self._refused, (f"nats: {why}".lower(),), None))

    def _refused(self, why: str) -> None:
        if self._on_error is not None:
            self._process.loop.create_task(self._call_on_error(self._on_error, nats_errors.Error(why)))

    @staticmethod
    async def _call_on_error(on_error: Callable[[Exception], Awaitable[None]], error: Exception) -> None:
        await on_error(error)
