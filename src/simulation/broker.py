"""A simulated NATS server with JetStream: exactly what we use of one.

What arrives on a connection is handled in order. A message goes to everyone who subscribes to its subject, one of each
queue group; a message of a stream also waits its turn to be stored, one after another in each stream, each synced. The
JetStream API answers beside that: it may answer before what was sent earlier is stored.

Nothing here is asynchronous: everything happens at instants of the world.
"""

import base64
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from jet.grants import Grant
from simulation.cluster import Cluster
from simulation.consumer import Consumer
from simulation.network import Channel, Latency
from simulation.stream import (
    BAD_REQUEST,
    NAME_TAKEN,
    NO_CLUSTER,
    NO_CONSUMER,
    NO_MESSAGE,
    NO_STREAM,
    Ack,
    Problem,
    Stored,
    Stream,
    encode_headers,
    matches,
)
from simulation.world import Clock, Process, World

MAX_PAYLOAD = 1024 * 1024
API = "$JS.API."
_READS = ("STREAM.INFO.", "STREAM.MSG.GET.")
"""What one who leads no more goes on answering."""

Headers = Mapping[str, str] | None


@dataclass(slots=True)
class Subscription:
    """What a connection subscribed to."""

    session: "Session"
    sid: int
    subject: str
    queue: str


@dataclass(slots=True)
class Disk:
    """How the broker's disk is.

    Attributes:
        sync: seconds that storing a message takes.
        full: nothing can be stored, and nobody is told.
    """

    sync: Latency = field(default_factory=lambda: Latency(0.0002, 0.0003))
    full: bool = False


class Session:
    """One connection, as the broker has it.

    Attributes:
        client: told of what arrives: `arrived(sid, subject, reply, data, headers)` and `broke(session)`.
        user: who it is; None for someone whom nobody asks.
        up: to the broker; `down` to the client.
        open: the broker has not closed it.
        server: which of the servers it is to.
        lose: how many more messages do not reach the client.
    """

    def __init__(
        self, broker: "Broker", client: Any, process: Process, user: str | None, latency: Latency, server: int
    ) -> None:
        self.broker = broker
        self.client = client
        self.process = process
        self.user = user
        self.open = True
        self.server = server
        self.lose = 0
        self.up = Channel(broker.world, latency, self._received)
        self.down = Channel(broker.world, latency, self._delivered)
        self.subscriptions: dict[int, Subscription] = {}

    def _received(self, operation: Callable[..., None], *what: Any) -> None:
        if self.open:
            self.broker.do(operation, self, *what)

    def _delivered(self, sid: int, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        self.client.arrived(self, sid, subject, reply, data, headers)

    def send(self, sid: int, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        """Have the client get a message."""
        if self.lose and sid:
            self.lose -= 1
            self.broker.world.trace.add("broker", "loses", f"a message to {self.process.name} on {subject}")
        elif self.open:
            self.down.send(sid, subject, reply, data, headers)


class Broker:
    """The server.

    Attributes:
        up: it runs. `paused`: it stands still.
        streams: by name.
        cluster: the servers that it consists of.
        on_store: told of every message that is stored, with its stream.
        lose_acks: of how many more messages that are stored nobody is told.
        delay_next: how many more messages, on subjects that begin with `delay_only`, reach the disk late, by `delay`
            seconds.
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
        self.on_store: list[Callable[[Stream, Stored], None]] = []
        self.cluster = Cluster(servers)
        self.lose_acks = 0
        self.delay_next = 0
        self.delay = 0.0
        self.delay_only = ""
        self._grants = {grant.user: grant for grant in grants or ()}
        self._allowed: dict[tuple[str, str, str], bool] = {}
        self._consumers: dict[str, dict[str, Consumer]] = {}
        self._exact: dict[str, list[Subscription]] = {}
        self._under: dict[str, list[Subscription]] = {}
        self._others: list[Subscription] = []
        self._free_at: dict[str, float] = {}
        self._in_flight: dict[str, dict[str, float]] = {}
        self._stream_of: dict[str, str | None] = {}
        self._backlog: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._life = 0
        self._from = 0  # the server that a consumer sends from
        self._sid = 0

    # --- life -------------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """The broker's time in nanoseconds since the epoch."""
        return _nanoseconds(self.clock())

    def do(self, call: Callable[..., None], *what: Any) -> None:
        """Do something, once the broker runs."""
        if self.paused:
            self._backlog.append((call, what))
        else:
            call(*what)

    def _after(self, seconds: float, call: Callable[..., None], *what: Any) -> None:
        self.world.after(seconds, self._due, self._life, call, what)

    def _due(self, life: int, call: Callable[..., None], what: tuple[Any, ...]) -> None:
        if life == self._life:
            self.do(call, *what)

    def pause(self) -> None:
        """Stand still, as by SIGSTOP. What arrives meanwhile is handled afterwards, whoever has gone by then."""
        self.paused = True

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        while self._backlog and not self.paused:
            call, what = self._backlog.popleft()
            call(*what)

    def crash(self) -> None:
        """End at once: connections and what waits are gone, what is stored is not."""
        self.up = self.paused = False
        self._life += 1
        self._backlog.clear()
        self._consumers.clear()
        self._free_at.clear()
        for session in list(self.sessions):
            self.close(session)

    def start(self) -> None:
        """Start on what is stored."""
        self.up = True
        for stream in self.streams.values():
            stream.restore()
            for kept in stream.all():
                self._schedule(stream, kept)

    def accept(self, client: Any, process: Process, user: str | None) -> Session:
        """A client has connected."""
        server = self.world.network.randrange(self.cluster.servers) if self.cluster.servers > 1 else 0
        session = Session(self, client, process, user, self.latency, server)
        self.sessions.append(session)
        return session

    def close(self, session: Session, *, told: bool = True) -> None:
        """End a connection; the client is told, unless it is the one who did."""
        if not session.open:
            return
        session.open = False
        self.sessions.remove(session)
        for subscription in list(session.subscriptions.values()):
            self._drop(subscription)
        session.down.cut()
        if told:
            session.up.cut()
            session.client.broke(session)

    # --- what clients do ---------------------------------------------------------------------------------------------

    def subscribe(self, session: Session, sid: int, subject: str, queue: str) -> None:
        """A client wants what comes on a subject."""
        if session.open and self._may(session, "subscribe", subject):
            subscription = session.subscriptions[sid] = Subscription(session, sid, subject, queue)
            self._home(subject).append(subscription)

    def unsubscribe(self, session: Session, sid: int) -> None:
        """A client wants it no more."""
        subscription = session.subscriptions.get(sid)
        if subscription is not None:
            self._drop(subscription)

    def ping(self, session: Session) -> None:
        """A client wants to be sure that all before was heard."""
        session.send(0, "", "", b"", None)

    def leave(self, session: Session) -> None:
        """A client has closed its connection."""
        self.close(session, told=False)

    def publish(self, session: Session, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        """A client publishes."""
        if not self._may(session, "publish", subject):
            return
        if subject.startswith(API):
            what = (subject[len(API) :], reply, data, session.server)
            self._after(self.latency.draw(self.world.network), self._api, *what)
            return
        heard = self._route(subject, reply, data, headers, session.server)
        stream = self._stream_for(subject)
        if stream is not None:
            answering = self.cluster.answers(session.server, self.world.now)
            if answering == self.cluster.alone is not None:
                self._propose(self.cluster.views[stream.name], subject, reply, headers)
            elif answering is not None:
                self._queue(stream, subject, reply, data, headers)
        elif not heard and reply:
            self._route(reply, "", b"", {"Status": "503", "Nats-Subject": subject}, session.server)

    def _propose(self, view: Stream, subject: str, reply: str, headers: Headers) -> None:
        """One who leads no more is asked to store something: it refuses what it can, and the rest goes nowhere."""
        moved = view.moved(subject, headers) if headers else None
        if moved is not None and reply and self.cluster.alone is not None:
            refused = Problem(400, 10071, f"wrong last sequence: {moved}")
            self._route(reply, "", _answer(view, refused), None, self.cluster.alone)

    # --- a cluster --------------------------------------------------------------------------------------------------

    def cut_server(self, server: int, election: float) -> None:
        """Cut one server off from the others."""
        cluster = self.cluster
        successor = (server + 1 + int(self.world.network.random() * (cluster.servers - 1))) % cluster.servers
        cluster.cut(server, self.streams, self.world.now, election, successor)
        self.world.trace.add("broker", "cut off", f"server {server}{', which led' if cluster.led else ''}")

    def heal_server(self) -> None:
        """Let it hear the others again: it learns what it missed."""
        self.cluster.heal()
        for consumers in self._consumers.values():
            for consumer in list(consumers.values()):
                self._pump(consumer)

    def change_leader(self, election: float) -> None:
        """Have another server lead, after a while in which nobody does."""
        cluster = self.cluster
        if cluster.servers > 1 and cluster.alone is None:
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

    def _home(self, subject: str) -> list[Subscription]:
        if "*" not in subject and not subject.endswith(">"):
            return self._exact.setdefault(subject, [])
        parent, _, last = subject.rpartition(".")
        if last == "*" and "*" not in parent:
            return self._under.setdefault(parent, [])
        return self._others

    def _drop(self, subscription: Subscription) -> None:
        del subscription.session.subscriptions[subscription.sid]
        home = self._home(subscription.subject)
        home.remove(subscription)

    def _route(self, subject: str, reply: str, data: bytes, headers: Headers, origin: int) -> bool:
        """Have everyone who subscribes, and whose server hears `origin`, get a message. Whether anyone does."""
        found = self._exact.get(subject, ())
        under = self._under.get(subject.rpartition(".")[0], ())
        others = [own for own in self._others if matches(own.subject, subject)] if self._others else []
        queues: dict[str, list[Subscription]] = {}
        heard = False
        together = self.cluster.together
        for subscription in (*found, *under, *others):
            if not together(origin, subscription.session.server):
                continue
            heard = True
            if subscription.queue:
                queues.setdefault(subscription.queue, []).append(subscription)
            else:
                subscription.session.send(subscription.sid, subject, reply, data, headers)
        for members in queues.values():
            chosen = members[self.world.network.randrange(len(members))]
            chosen.session.send(chosen.sid, subject, reply, data, headers)
        return heard

    # --- storing ----------------------------------------------------------------------------------------------------

    def _stream_for(self, subject: str) -> Stream | None:
        if subject not in self._stream_of:
            name = next((name for name, stream in self.streams.items() if stream.takes(subject)), None)
            if name is None and subject.startswith("_INBOX."):
                return None
            self._stream_of[subject] = name
        name = self._stream_of[subject]
        return self.streams[name] if name is not None else None

    def _queue(self, stream: Stream, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        """Have a message stored after all that wait before it."""
        ready = max(self.world.now, self._free_at.get(stream.name, 0.0)) + self.disk.sync.draw(self.world.network)
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
                self._route(reply, "", _answer(stream, refused), None, self.cluster.leader)
                return
            flights[compared] = ready
        self.world.at(ready, self._due, self._life, self._store, (stream, subject, reply, data, headers, term))

    def _store(self, stream: Stream, subject: str, reply: str, data: bytes, headers: Headers, term: int) -> None:
        if self.disk.full or stream.name not in self.streams:
            return
        is_old = term != self.cluster.term  # who took it leads no more
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
            self._route(reply, "", _answer(stream, answer), None, self.cluster.leader)
        if not isinstance(answer, Ack):
            self.world.trace.add("broker", "refused", subject, answer.description)
        elif answer.duplicate:
            self.world.trace.add("broker", "duplicate", stream.name, answer.seq, subject)
        self._announce(stream, stored)

    def _announce(self, stream: Stream, stored: list[Stored]) -> None:
        """Have consumers and whoever else follows know of what a stream holds."""
        consumers = self._consumers.get(stream.name)
        for gone in stream.removed:
            if consumers:
                for consumer in consumers.values():
                    consumer.gone(gone)
        stream.removed.clear()
        for message in stored:
            self.world.trace.add("broker", "stored", stream.name, message.seq, message.subject)
            self._schedule(stream, message)
            for tell in self.on_store:
                tell(stream, message)
            if consumers:
                for consumer in consumers.values():
                    consumer.stored(message)
                    if consumer.server == self.cluster.leader:
                        self._pump(consumer)
                    else:
                        self._after(self.latency.draw(self.world.network), self._pump, consumer)

    def _pump(self, consumer: Consumer) -> None:
        """Have a consumer deliver what its server has."""
        if consumer.server != self.cluster.alone:
            self._from = consumer.server
            consumer.pump(self.world.now, self._send)

    def _send(self, inbox: str, subject: str, data: bytes, headers: Headers, reply: str) -> None:
        """Send to an inbox a message that bears a subject of its own, from the server `_from`."""
        for subscription in self._exact.get(inbox, ()):
            if self.cluster.together(self._from, subscription.session.server):
                subscription.session.send(subscription.sid, subject, reply, data, headers)

    def _schedule(self, stream: Stream, message: Stored) -> None:
        if message.expires is not None:
            left = max(0.0, (message.expires - self.now()) / 1e9) + self.world.network.random() / 4
            self._after(left, self._expire, stream, message.seq)

    def _expire(self, stream: Stream, seq: int) -> None:
        message = stream.get(seq)
        if message is None or message.expires is None:
            return
        if message.expires > self.now():  # the clock was set back
            self._schedule(stream, message)
            return
        self._announce(stream, stream.expire(seq, self.now()))

    # --- the JetStream API -------------------------------------------------------------------------------------------

    def _api(self, subject: str, reply: str, data: bytes, server: int) -> None:
        kind, _, rest = subject.partition(".")
        if kind == "CONSUMER" and rest.startswith("MSG.NEXT."):
            self._next(rest.removeprefix("MSG.NEXT."), reply, data, server)
            return
        answering = self.cluster.answers(server, self.world.now)
        if answering is None or (answering == self.cluster.alone and not subject.startswith(_READS)):
            return
        streams = self.cluster.views if answering == self.cluster.alone else self.streams
        body: dict[str, Any] = msgspec.json.decode(data) if data else {}
        answer: dict[str, Any] | Problem
        match subject.split("."):
            case ["STREAM", "INFO", name]:
                answer = self._stream_info(name, streams, answering)
            case ["STREAM", "MSG", "GET", name]:
                answer = self._get(name, body, streams)
            case ["STREAM", "NAMES"]:
                answer = {"streams": sorted(self.streams) or None}
            case ["STREAM", "CREATE", name]:
                answer = self._create(name, body)
            case ["STREAM", "UPDATE", name]:
                answer = self._update(name, body)
            case ["STREAM", "DELETE", name]:
                answer = self._delete(name)
            case ["CONSUMER", "CREATE", name, consumer]:
                answer = self._create_consumer(name, consumer, body)
            case ["CONSUMER", "DELETE", name, consumer]:
                answer = self._delete_consumer(name, consumer)
            case ["DIRECT", "GET", name, *tokens]:
                self._get_direct(name, ".".join(tokens), body, reply, answering)
                return
            case _:
                answer = BAD_REQUEST
        if reply:
            told = {"error": answer._asdict()} if isinstance(answer, Problem) else answer
            self._route(reply, "", msgspec.json.encode(told), None, answering)

    def _stream_info(
        self, name: str, streams: Mapping[str, Stream] | None = None, answering: int = 0
    ) -> dict[str, Any] | Problem:
        stream = (self.streams if streams is None else streams).get(name)
        if stream is None:
            return NO_STREAM
        return {
            "config": stream.config,
            "created": _text(stream.created),
            "state": {
                "messages": len(stream),
                "bytes": stream.bytes,
                "first_seq": stream.first_seq,
                "last_seq": stream.last_seq,
                "consumer_count": len(self._consumers.get(name, ())),
            },
            "cluster": {
                "leader": f"server-{answering}",
                "replicas": [
                    {"active": silence}
                    for silence in self.cluster.silences(answering, self.world.now, self.world.network.random())
                ],
            },
            "ts": _text(self.now()),
        }

    def _find(self, stream: Stream, query: Mapping[str, Any]) -> Stored | Problem | None:
        match query:
            case {"last_by_subj": pattern}:
                return stream.get(stream.last_on(pattern))
            case {"next_by_subj": pattern, **rest}:
                return stream.next(int(rest.get("seq", 1)), stream.filter((pattern,)))
            case {"seq": seq} if seq > 0:
                return stream.get(seq)
        return BAD_REQUEST

    def _get(self, name: str, query: Mapping[str, Any], streams: Mapping[str, Stream]) -> dict[str, Any] | Problem:
        stream = streams.get(name)
        if stream is None:
            return NO_STREAM
        found = self._find(stream, query)
        if found is None:
            return NO_MESSAGE
        if isinstance(found, Problem):
            return found
        message = {
            "subject": found.subject,
            "seq": found.seq,
            "time": _text(found.time),
            "data": base64.b64encode(found.data).decode(),
            "hdrs": base64.b64encode(encode_headers(found.headers)).decode(),
        }
        return {"message": message}

    def _get_direct(self, name: str, subject: str, query: dict[str, Any], reply: str, server: int) -> None:
        """One stored message as a message of its own; or the last ones of several subjects."""
        stream = self.streams.get(name)
        if stream is None:
            self._route(reply, "", b"", {"Status": "503"}, server)
            return
        if "multi_last" in query:
            fitting = stream.filter(tuple(query["multi_last"]))
            last = sorted(stream.last_of[own] for own in fitting)
            for left, seq in zip(range(len(last) - 1, -1, -1), last, strict=True):
                self._send_direct(stream, stream.get(seq), reply, {"Nats-Num-Pending": str(left)}, server)
            ended = {"Status": "204", "Description": "EOB", "Nats-Num-Pending": "0"} if last else None
            self._route(reply, "", b"", ended or {"Status": "404", "Description": "No Results"}, server)
            return
        found = self._find(stream, {"last_by_subj": subject} if subject else query)
        if isinstance(found, Problem):
            self._route(reply, "", b"", {"Status": "408", "Description": "Empty Request"}, server)
        else:
            self._send_direct(stream, found, reply, {}, server)

    def _send_direct(self, stream: Stream, found: Stored | None, reply: str, more: dict[str, str], server: int) -> None:
        if found is None:
            self._route(reply, "", b"", {"Status": "404", "Description": "Message Not Found"}, server)
            return
        headers = {
            **(found.headers or {}),
            "Nats-Stream": stream.name,
            "Nats-Subject": found.subject,
            "Nats-Sequence": str(found.seq),
            "Nats-Time-Stamp": _text(found.time),
            **more,
        }
        self._route(reply, "", found.data, headers, server)

    def _create(self, name: str, config: dict[str, Any]) -> dict[str, Any] | Problem:
        config = _completed(name, config)
        if config["num_replicas"] > 1 and self.cluster.servers == 1:
            return NO_CLUSTER
        known = self.streams.get(name)
        if known is not None and known.config != config:
            return NAME_TAKEN
        if known is None:
            self.streams[name] = Stream(config, self.now())
            self._stream_of.clear()
        return {**self._stream_info(name), "did_create": known is None}  # type: ignore[dict-item] # it is there

    def _update(self, name: str, config: dict[str, Any]) -> dict[str, Any] | Problem:
        stream = self.streams.get(name)
        if stream is None:
            return NO_STREAM
        stream.config = _completed(name, config)
        return self._stream_info(name)

    def _delete(self, name: str) -> dict[str, Any] | Problem:
        if name not in self.streams:
            return NO_STREAM
        for consumer in self._consumers.pop(name, {}).values():
            consumer.close(self._send)
        del self.streams[name]
        self._stream_of.clear()
        return {"success": True}

    def _create_consumer(self, name: str, consumer_name: str, body: dict[str, Any]) -> dict[str, Any] | Problem:
        stream = self.streams.get(name)
        if stream is None:
            return NO_STREAM
        consumers = self._consumers.setdefault(name, {})
        consumer = consumers.get(consumer_name)
        if consumer is None:
            config = body["config"]
            since = 1
            if "opt_start_time" in config:
                since = stream.since(_nanoseconds(datetime.fromisoformat(config["opt_start_time"])))
            near = [number for number in range(self.cluster.servers) if number != self.cluster.alone]
            server = near[int(self.world.network.random() * len(near))] if len(near) > 1 else near[0]
            consumer = Consumer(stream, consumer_name, config, self.world.now, since, server)
            consumers[consumer_name] = consumer
            self._after(consumer.inactive, self._look, consumer, self._life)
        return consumer.info()

    def _delete_consumer(self, name: str, consumer_name: str) -> dict[str, Any] | Problem:
        consumer = self._consumers.get(name, {}).pop(consumer_name, None)
        if consumer is None:
            return NO_CONSUMER
        consumer.close(self._send)
        return {"success": True}

    def _next(self, place: str, reply: str, data: bytes, server: int) -> None:
        name, _, consumer_name = place.rpartition(".")
        consumer = self._consumers.get(name, {}).get(consumer_name)
        if consumer is None:
            self._route(reply, "", b"", {"Status": "503", "Nats-Subject": f"{API}CONSUMER.MSG.NEXT.{place}"}, server)
            return
        if not self.cluster.together(server, consumer.server):
            return
        body = msgspec.json.decode(data)
        heartbeat = body.get("idle_heartbeat", 0) / 1e9
        consumer.pull(reply, int(body.get("batch", 1)), body.get("expires", 5e9) / 1e9, heartbeat, self.world.now)
        self._pump(consumer)
        if not consumer.ticking:
            self._tick(consumer)

    def _tick(self, consumer: Consumer) -> None:
        view = self.cluster.views.get(consumer.stream.name) if consumer.server == self.cluster.alone else None
        self._from = consumer.server
        again = consumer.tick(self.world.now, self._send, (view or consumer.stream).last_seq)
        consumer.ticking = again is not None
        if again is not None:
            self._after(max(0.0, again - self.world.now), self._tick, consumer)

    def _look(self, consumer: Consumer, life: int) -> None:
        """Forget a consumer that nobody asks any more: whoever did has gone, or subscribes to its inbox no more."""
        consumers = self._consumers.get(consumer.stream.name, {})
        if consumers.get(consumer.name) is not consumer or life != self._life:
            return
        idle = self.world.now - consumer.asked_at
        if consumer.waiting and any(consumer.heard_by(self._exact)):
            idle = 0.0
        if idle >= consumer.inactive:
            del consumers[consumer.name]
            consumer.close(self._send)
        else:
            self._after(consumer.inactive - idle + 0.001, self._look, consumer, life)


def _completed(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """A stream's configuration with what the broker adds."""
    return {
        "name": name,
        "retention": "limits",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "discard": "old",
        "num_replicas": 1,
        "duplicate_window": 120_000_000_000,
        "allow_direct": False,
        "deny_delete": False,
        "deny_purge": False,
        "allow_rollup_hdrs": False,
        "allow_msg_ttl": False,
        "metadata": {},
        **config,
    }


def _answer(stream: Stream, answer: Ack | Problem) -> bytes:
    if isinstance(answer, Problem):
        return msgspec.json.encode({"error": answer._asdict(), "stream": stream.name, "seq": 0})
    if answer.duplicate:
        return b'{"stream":"%b","seq":%d,"duplicate": true}' % (stream.name.encode(), answer.seq)
    return b'{"stream":"%b","seq":%d}' % (stream.name.encode(), answer.seq)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)


def _nanoseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND * 1000


def _text(nanoseconds: int) -> str:
    return (_EPOCH + timedelta(microseconds=nanoseconds // 1000)).isoformat().replace("+00:00", "Z")
