"""What `jet.connection` holds instead of nats-py's client: the same calls, to the simulated broker.

It does as nats-py 2.16 does with the options that `jet.connection` sets: it connects again and again, 0.2 s apart;
a server that says nothing is given up after two unanswered pings, a second apart; publishing while disconnected raises.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from nats import errors as nats_errors
from nats.aio.msg import Msg

from simulation.broker import MAX_PAYLOAD, Broker, Headers, Session
from simulation.loop import Handle
from simulation.world import Process

CONNECT_TIMEOUT = 2.0
RECONNECT_WAIT = 0.2


class Nuid:
    """Names that are the process's own, from the seed."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def next(self) -> bytes:
        """Another one."""
        return b"%022x" % self._process.random.getrandbits(88)


class SimSubscription:
    """A subscription of the client's."""

    def __init__(self, client: "SimClient", sid: int, subject: str, queue: str, callback: Any) -> None:
        self._id = sid
        self._client = client
        self.subject = subject
        self.queue = queue
        self.callback = callback

    async def unsubscribe(self, limit: int = 0) -> None:
        """Have nothing more of it delivered."""
        del limit
        self._client.forget(self._id)

    async def drain(self) -> None:
        """As `unsubscribe`."""
        self._client.forget(self._id)


class SimClient:
    """The client of one process.

    Attributes:
        at_once: by subscription, what takes its messages as they are read; `jet.connection` fills it.
        published: messages so far.
        fuse: at how many more messages `on_fuse` is called, 0 for never; `sends_last`: the last of them is sent before.
    """

    def __init__(self, process: Process, broker: Broker, user: str | None, reaches: Callable[[], bool]) -> None:
        self.at_once: dict[int, Callable[[Msg], None]] = {}
        self.session: Session | None = None
        self.is_closed = False
        self._nuid = Nuid(process)
        self._server_info: dict[str, Any] = {}
        self._process = process
        self._broker = broker
        self._user = user
        self._reaches = reaches
        self._sid = 0
        self._subscriptions: dict[int, SimSubscription] = {}
        self._arrived: deque[tuple[int, str, str, bytes, Headers]] = deque()
        self._reading = False
        self._prefix = "_INBOX"
        self._pongs: deque[asyncio.Future[None]] = deque()
        self._callbacks: dict[str, Callable[..., Awaitable[None]]] = {}
        self._reconnecting: asyncio.Task[None] | None = None
        self.published = 0
        self.fuse = 0
        self.sends_last = False
        self.on_fuse: Callable[[], None] = process.end
        process.on_end.append(self._died)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as the client knows."""
        return self.session is not None

    # --- connecting ---------------------------------------------------------------------------------------------------

    async def connect(self, servers: list[str], **options: Any) -> None:
        """Connect, however long it takes."""
        del servers
        self._prefix = options.get("inbox_prefix", "_INBOX")
        names = ("error_cb", "disconnected_cb", "reconnected_cb", "closed_cb")
        self._callbacks = {name: options[name] for name in names if name in options}
        await self._establish()

    async def _establish(self) -> None:
        while not self.is_closed:
            try:
                await self._attempt()
            except (nats_errors.Error, OSError) as error:
                await self._tell("error_cb", error)
                await asyncio.sleep(RECONNECT_WAIT)
            else:
                return

    async def _attempt(self) -> None:
        broker, world = self._broker, self._process.world
        if not self._reaches() or broker.paused:
            await asyncio.sleep(CONNECT_TIMEOUT)
            raise nats_errors.TimeoutError
        await asyncio.sleep(3 * broker.latency.draw(world.network))
        if not broker.up:
            raise ConnectionRefusedError(111, "Connect call failed")
        if not self._reaches() or broker.paused:
            await asyncio.sleep(CONNECT_TIMEOUT)
            raise nats_errors.TimeoutError
        self.session = session = broker.accept(self, self._process, self._user)
        for subscription in self._subscriptions.values():
            self._subscribe(session, subscription)

    async def _tell(self, name: str, *what: Any) -> None:
        callback = self._callbacks.get(name)
        if callback is not None:
            await callback(*what)

    def broke(self, session: Session) -> None:
        """The connection ended, by the broker or the network."""
        self._process.soon(Handle(self._lost, (session,), None))

    def stale(self, session: Session) -> None:
        """Nothing was heard for too long: the client gives the connection up, and the broker may not know."""
        if self.session is session and self._process.alive:
            session.down.cut()
            self._process.soon(Handle(self._lost, (session,), None))

    def _lost(self, session: Session) -> None:
        if self.session is not session or self.is_closed:
            return
        self.session = None
        self._arrived.clear()
        self._reconnecting = self._process.loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        for pong in self._pongs:
            if not pong.done():
                pong.set_exception(nats_errors.ConnectionClosedError())
        self._pongs.clear()
        await self._tell("disconnected_cb")
        await self._establish()
        if not self.is_closed:
            await self._tell("reconnected_cb")

    async def close(self) -> None:
        """End the connection for good."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        self._leave()
        await self._tell("closed_cb")

    def _leave(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.up.send(self._broker.leave)

    def _died(self) -> None:
        """The process was killed: its machine closes the connection, after what was sent."""
        self.is_closed = True
        self._leave()

    # --- using ------------------------------------------------------------------------------------------------------

    def new_inbox(self) -> str:
        """A subject of one's own."""
        return f"{self._prefix}.{self._nuid.next().decode()}"

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
        last = self._burns_out() if self.fuse else False
        if not last or self.sends_last:
            session.up.send(self._broker.publish, subject, reply, payload, headers)
        if last:
            self.on_fuse()

    def _burns_out(self) -> bool:
        """Whether this is the message that the process dies at: before it is sent, or right after."""
        self.fuse -= 1
        return not self.fuse

    async def subscribe(
        self, subject: str, queue: str = "", cb: Callable[[Msg], Awaitable[None]] | None = None
    ) -> SimSubscription:
        """Have what comes on a subject delivered."""
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
        """Have nothing more delivered of a subscription."""
        if self.is_closed:
            raise nats_errors.ConnectionClosedError
        self.at_once.pop(sid, None)
        if self._subscriptions.pop(sid, None) is not None and self.session is not None:
            self.session.up.send(self._broker.unsubscribe, sid)

    async def flush(self, timeout: float = 10) -> None:
        """Wait until the broker has heard everything so far."""
        session = self.session
        if session is None:
            raise nats_errors.ConnectionClosedError
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        session.up.send(self._broker.ping)
        async with asyncio.timeout(timeout):
            await pong

    # --- being told -------------------------------------------------------------------------------------------------

    def arrived(self, session: Session, sid: int, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        """A message reached the process; it reads all that has, in one go."""
        if self.session is not session:
            return
        self._arrived.append((sid, subject, reply, data, headers))
        if not self._reading:
            self._reading = True
            self._process.soon(Handle(self._read, (), None))

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
            message = Msg(self, subject, reply, data, headers)  # type: ignore[arg-type] # it answers through us
            deliver = self.at_once.get(sid)
            if deliver is not None:
                deliver(message)
            elif subscription.callback is not None:
                self._process.loop.create_task(subscription.callback(message))

    def refused(self, session: Session, why: str) -> None:
        """The broker does not let us do something."""
        if self.session is session:
            self._process.soon(Handle(self._refused, (f"nats: {why}".lower(),), None))

    def _refused(self, why: str) -> None:
        self._process.loop.create_task(self._tell("error_cb", nats_errors.Error(why)))
