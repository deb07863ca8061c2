"""A simulated NATS server with JetStream: exactly the part of it that we use.

Messages of a connection are handled in order. Each goes to every subscriber of its subject, or to one of each queue
group. A message for a stream also waits in the stream's queue until it is stored and synced. The JetStream API replies
independently of that queue: perhaps before a message that was sent earlier is stored.

Nothing here is asynchronous: everything happens at instants of the world.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from jet.grants import Grant
from simulation.api import API, Api
from simulation.cluster import Cluster
from simulation.consumer import Consumer
from simulation.network import Latency
from simulation.sessions import Headers, Routing, Session, Subscription
from simulation.stream import Ack, Problem, Stored, Stream, matches
from simulation.timestamps import nanoseconds
from simulation.world import Clock, Process, World

MAX_PAYLOAD = 1024 * 1024


@dataclass(slots=True)
class Disk:
    """The state of the broker's disk.

    Attributes:
        sync: how long it takes to store a message.
        full: nothing is stored, and no error is reported.
    """

    sync: Latency = field(default_factory=lambda: Latency(0.0002, 0.0003))
    full: bool = False


LONGEST_WRITE = 10.0
"""The most seconds until a message is stored, however slow the disk is and however many wait: once a disk is fast
again, its backlog is soon stored."""


class Broker:
    """The server, or a cluster of servers.

    Attributes:
        up: it runs.
        paused: it is stopped, as by SIGSTOP.
        streams: by name.
        cluster: its servers.
        on_store: called with each stored message and its stream.
        on_rewind: called with each stream that lost messages in a crash.
        lose_acks: how many more stored messages are not acknowledged.
        consumers: by stream and name.
        exact: subscriptions without wildcards, by subject.
        route: sends a message to its subscribers.
        stream_of: the stream that stores a subject, as a cache.
        life: how often it has crashed.
        origin: the server that the present consumer sends from.
        delay_next: how many more messages reach the disk late.
        delay: by how many seconds they are late.
        delay_only: the prefix of the subjects that this applies to.
    """

    def __init__(self, world: World, latency: Latency, grants: list[Grant] | None = None, servers: int = 1) -> None:
        self.world = world
        self.clock = Clock(world)
        self.latency = latency
        self.disk = Disk()
        self.up = True
        self.paused = False
        self.streams: dict[str, Stream] = {}
        self.sessions: list[Session] = []
        self.on_rewind: list[Callable[[Stream], None]] = []
        self.on_store: list[Callable[[Stream, Stored], None]] = []
        self.cluster = Cluster(servers)
        self.lose_acks = 0
        self.delay_next = 0
        self.delay = 0.0
        self.delay_only = ""
        self._api = Api(self)
        self._grants = {grant.user: grant for grant in grants or ()}
        self._allowed: dict[tuple[str, str, str], bool] = {}
        self.consumers: dict[str, dict[str, Consumer]] = {}
        self._routing = Routing(self.cluster, world.network)
        self.exact = self._routing.exact
        self.route = self._routing.route
        self._free_at: dict[str, float] = {}
        self._in_flight: dict[str, dict[str, float]] = {}
        self._storing: dict[str, deque[tuple[float, str, bytes, Headers]]] = {}
        self.stream_of: dict[str, str | None] = {}
        self._backlog: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.life = 0
        self.origin = 0
        self._sid = 0

    # --- life -------------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Return the broker's time in nanoseconds since the epoch."""
        return nanoseconds(self.clock())

    def do(self, call: Callable[..., None], *what: Any) -> None:
        """Call something now, or once the broker is resumed."""
        if self.paused:
            self._backlog.append((call, what))
        else:
            call(*what)

    def after(self, seconds: float, call: Callable[..., None], *what: Any) -> None:
        """Call something later, unless the broker has crashed by then."""
        self.world.after(seconds, self._due, self.life, call, what)

    def _due(self, life: int, call: Callable[..., None], what: tuple[Any, ...]) -> None:
        if life != self.life:
            return
        if self.paused:
            self.do(call, *what)
        else:
            call(*what)

    def pause(self) -> None:
        """Stop, as by SIGSTOP. Messages that arrive meanwhile are handled afterwards, even if their sender has gone."""
        self.paused = True

    def resume(self) -> None:
        """Continue, as by SIGCONT."""
        self.paused = False
        while self._backlog and not self.paused:
            call, what = self._backlog.popleft()
            call(*what)

    def crash(self, keeps: float | None = None, unsynced: float = 0.0) -> None:
        """End at once. All connections are lost, and stored messages are kept.

        Args:
            keeps: the share of messages in flight that each stream still stores, the oldest first; None for nothing.
            unsynced: streams that are not synced lose what they stored in this many last seconds.
        """
        if keeps is not None:
            self._keep_some(keeps)
        for stream in self.streams.values():
            if stream.unsynced:
                stream.rewind(self.now() - int(unsynced * 1e9))
                for notify in self.on_rewind:
                    notify(stream)
        self.up = self.paused = False
        self.life += 1
        self._storing.clear()
        self._backlog.clear()
        self.consumers.clear()
        self._free_at.clear()
        for session in list(self.sessions):
            self.close(session)

    def _keep_some(self, share: float) -> None:
        """Store some messages in flight without acknowledging them, as if they were written but not yet synced."""
        for name, waiting in self._storing.items():
            for ready, subject, data, headers in waiting:
                if ready <= self.world.now or self.disk.full:
                    continue
                if self.world.network.random() >= share:
                    break
                self.world.trace.add("broker", "keeps", subject)
                self._announce(self.streams[name], self.streams[name].publish(subject, data, headers, self.now())[1])

    def start(self) -> None:
        """Start with the stored messages."""
        self.up = True
        for stream in self.streams.values():
            stream.restore()
            for kept in stream.all():
                self._schedule(stream, kept)

    def accept(self, client: Any, process: Process, user: str | None) -> Session:
        """Open a client's connection, to a random server."""
        server = self.world.network.randrange(self.cluster.servers) if self.cluster.servers > 1 else 0
        session = Session(self, client, process, user, self.latency, server)
        self.sessions.append(session)
        return session

    def close(self, session: Session, *, notified: bool = True) -> None:
        """End a connection. The client notices, unless it closed the connection itself."""
        if not session.open:
            return
        session.open = False
        self.sessions.remove(session)
        for subscription in list(session.subscriptions.values()):
            self._routing.drop(subscription)
        session.down.cut()
        if notified:
            session.up.cut()
            session.client.broke(session)

    # --- what clients do ---------------------------------------------------------------------------------------------

    def subscribe(self, session: Session, sid: int, subject: str, queue: str) -> None:
        """Subscribe a client to a subject, if it may."""
        if session.open and self._may(session, "subscribe", subject):
            self._routing.add(Subscription(session, sid, subject, queue))

    def unsubscribe(self, session: Session, sid: int) -> None:
        """End a client's subscription."""
        subscription = session.subscriptions.get(sid)
        if subscription is not None:
            self._routing.drop(subscription)

    def ping(self, session: Session) -> None:
        """Reply with a PONG, which shows the client that everything it sent before has arrived."""
        session.send(0, "", "", b"", None)

    def leave(self, session: Session) -> None:
        """Close a connection that the client has closed."""
        self.close(session, notified=False)

    def publish(self, session: Session, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        """Handle a message that a client publishes."""
        if not self._may(session, "publish", subject):
            return
        if session.forged and reply:
            self.route(reply, "", *session.forged.pop(), session.server)
        if subject.startswith(API):
            what = (subject[len(API) :], reply, data, session.server)
            self.after(self.latency.draw(self.world.network), self._api.handle, *what)
            return
        delivered = self.route(subject, reply, data, headers, session.server)
        stream = self._stream_for(subject)
        if stream is not None:
            answering = self.cluster.answers(session.server, self.world.now)
            if answering == self.cluster.isolated is not None:
                self._propose(self.cluster.views[stream.name], subject, reply, headers)
            elif answering is not None:
                self._queue(stream, subject, reply, data, headers)
        elif not delivered and reply:
            self.route(reply, "", b"", {"Status": "503", "Nats-Subject": subject}, session.server)

    def publish_as_broker(self, subject: str, data: bytes, headers: Headers) -> None:
        """Send a reply of the broker to a subject that a client chose. The broker checks no permission for it."""
        self.route(subject, "", data, headers, self.cluster.leader)
        stream = self._stream_for(subject)
        if stream is not None and self.cluster.answers(self.cluster.leader, self.world.now) is not None:
            self._queue(stream, subject, "", data, headers)

    def _propose(self, view: Stream, subject: str, reply: str, headers: Headers) -> None:
        """Have a deposed leader handle a message for a stream: it refuses a wrong sequence, and drops all else."""
        moved = view.wrong_sequence(subject, headers) if headers else None
        if moved is not None and reply and self.cluster.isolated is not None:
            refused = Problem(400, 10071, f"wrong last sequence: {moved}")
            self.route(reply, "", _answer(view, refused), None, self.cluster.isolated)

    # --- a cluster --------------------------------------------------------------------------------------------------

    def cut_server(self, server: int, election: float) -> None:
        """Cut one server off from the others."""
        cluster = self.cluster
        successor = (server + 1 + int(self.world.network.random() * (cluster.servers - 1))) % cluster.servers
        cluster.cut(server, self.streams, self.world.now, election, successor)
        self.world.trace.add("broker", "cut off", f"server {server}{', which led' if cluster.isolated_led else ''}")

    def heal_server(self) -> None:
        """Reconnect the server that is cut off. It catches up."""
        self.cluster.heal()
        for consumers in self.consumers.values():
            for consumer in list(consumers.values()):
                self.pump(consumer)

    def change_leader(self, election: float) -> None:
        """Make another server the leader after `election` seconds without one."""
        cluster = self.cluster
        if cluster.servers > 1 and cluster.isolated is None:
            others = [number for number in range(cluster.servers) if number != cluster.leader]
            cluster.elect(self.world.now + election, self.world.network.choice(others))
            self.world.trace.add("broker", "elects", f"server {cluster.leader} in {election:.3f} s")

    def _may(self, session: Session, operation: str, subject: str) -> bool:
        user = session.user
        if user is None:
            return True
        key = (user, operation, subject)
        allowed = self._allowed.get(key)
        if allowed is None:
            grant = self._grants[user]
            granted = grant.publish if operation == "publish" else grant.subscribe
            allowed = any(matches(pattern, subject) for pattern in granted)
            if not subject.startswith("_INBOX."):
                self._allowed[key] = allowed
        if not allowed:
            kind = "Publish" if operation == "publish" else "Subscription"
            session.client.refused(session, f'Permissions Violation for {kind} to "{subject}"')
        return allowed

    # --- storing ----------------------------------------------------------------------------------------------------

    def _stream_for(self, subject: str) -> Stream | None:
        if subject not in self.stream_of:
            name = next((name for name, stream in self.streams.items() if stream.accepts(subject)), None)
            if name is None and subject.startswith("_INBOX."):
                return None
            self.stream_of[subject] = name
        name = self.stream_of[subject]
        return self.streams[name] if name is not None else None

    def _queue(self, stream: Stream, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        """Queue a message to be stored after all that wait before it."""
        ready = max(self.world.now, self._free_at.get(stream.name, 0.0)) + self.disk.sync.draw(self.world.network)
        ready = min(ready, self.world.now + LONGEST_WRITE)
        self._free_at[stream.name] = ready
        if self.delay_next and subject.startswith(self.delay_only):
            self.delay_next -= 1
            ready += self.delay
            self.world.trace.add("broker", "delays", f"{subject} by {self.delay:.3f} s")
        term = self.cluster.term
        compared = headers.get("Nats-Expected-Last-Subject-Sequence-Subject", "") if headers else ""
        if self.cluster.servers > 1 and compared:
            flights = self._in_flight.setdefault(stream.name, {})
            if flights.get(compared, 0.0) > self.world.now:
                refused = Problem(400, 10164, "last sequence by subject mismatch: another is in flight")
                self.route(reply, "", _answer(stream, refused), None, self.cluster.leader)
                return
            flights[compared] = ready
        storing = self._storing.setdefault(stream.name, deque())
        while storing and storing[0][0] < self.world.now:
            storing.popleft()
        storing.append((ready, subject, data, headers))
        self.world.at(ready, self._due, self.life, self._store, (stream, subject, reply, data, headers, term))

    def _store(self, stream: Stream, subject: str, reply: str, data: bytes, headers: Headers, term: int) -> None:
        if self.disk.full or stream.name not in self.streams:
            return
        is_old = term != self.cluster.term  # its leader has been deposed
        if is_old and self.world.network.random() < 0.5:
            self.world.trace.add("broker", "forgets", subject)
            return
        answer, stored = stream.publish(subject, data, headers, self.now())
        if is_old:
            self.world.trace.add("broker", "keeps", subject)
        elif self.lose_acks and stored:
            self.lose_acks -= 1
            self.world.trace.add("broker", "loses ack", stream.name, stored[0].seq)
        elif reply:
            self.route(reply, "", _answer(stream, answer), None, self.cluster.leader)
        if not isinstance(answer, Ack):
            self.world.trace.add("broker", "refused", subject, answer.description)
        elif answer.duplicate:
            self.world.trace.add("broker", "duplicate", stream.name, answer.seq, subject)
        self._announce(stream, stored)

    def _announce(self, stream: Stream, stored: list[Stored]) -> None:
        """Notify the stream's consumers and followers of stored and removed messages."""
        consumers = self.consumers.get(stream.name)
        for gone in stream.removed:
            if consumers:
                for consumer in consumers.values():
                    consumer.gone(gone)
        stream.removed.clear()
        for message in stored:
            self.world.trace.add("broker", "stored", stream.name, message.seq, message.subject)
            self._schedule(stream, message)
            for notify in self.on_store:
                notify(stream, message)
            if consumers:
                for consumer in consumers.values():
                    consumer.stored(message)
                    if consumer.server == self.cluster.leader:
                        self.pump(consumer)
                    else:
                        self.after(self.latency.draw(self.world.network), self.pump, consumer)

    def pump(self, consumer: Consumer) -> None:
        """Let a consumer deliver what its server has, unless that server is cut off."""
        if consumer.server != self.cluster.isolated:
            self.origin = consumer.server
            consumer.pump(self.world.now, self.send_to)

    def send_to(self, inbox: str, subject: str, data: bytes, headers: Headers, reply: str) -> None:
        """Send a message to an inbox from the server `origin`, keeping the message's own subject."""
        for subscription in self.exact.get(inbox, ()):
            if self.cluster.connected(self.origin, subscription.session.server):
                subscription.session.send(subscription.sid, subject, reply, data, headers)

    def _schedule(self, stream: Stream, message: Stored) -> None:
        if message.expires is not None:
            left = max(0.0, (message.expires - self.now()) / 1e9) + self.world.network.random() / 4
            self.after(left, self._expire, stream, message.seq)

    def _expire(self, stream: Stream, seq: int) -> None:
        message = stream.get(seq)
        if message is None or message.expires is None:
            return
        if message.expires > self.now():  # the clock was set back
            self._schedule(stream, message)
            return
        self._announce(stream, stream.expire(seq, self.now()))


def _answer(stream: Stream, answer: Ack | Problem) -> bytes:
    if isinstance(answer, Problem):
        return msgspec.json.encode({"error": answer._asdict(), "stream": stream.name, "seq": 0})
    if answer.duplicate:
        return b'{"stream":"%b","seq":%d,"duplicate": true}' % (stream.name.encode(), answer.seq)
    return b'{"stream":"%b","seq":%d}' % (stream.name.encode(), answer.seq)
