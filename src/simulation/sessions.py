"""Connections of the simulated broker, and the routing of published messages to subscribers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from simulation.cluster import Cluster
from simulation.network import Channel, Latency
from simulation.stream import matches
from simulation.world import Process

if TYPE_CHECKING:
    from simulation.broker import Broker

Headers = Mapping[str, str] | None


@dataclass(slots=True)
class Subscription:
    """A subscription of a connection."""

    session: "Session"
    sid: int
    subject: str
    queue: str


class Session:
    """One connection, as the broker has it.

    Attributes:
        client: is called with messages, `arrived(session, sid, subject, reply, data, headers)`, and when the connection
            ends, `broke(session)`.
        user: the user that it is authenticated as; None for one who may do anything.
        up: the channel to the broker.
        down: the channel to the client.
        open: the broker has not closed it.
        server: the server that it is connected to.
        lose: how many more messages do not reach the client.
        forged: wrong replies to the client's next requests, each sent before the true one.
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
        self.forged: list[tuple[bytes, Headers]] = []
        self.up = Channel(broker.world, latency, self._received)
        self.down = Channel(broker.world, latency, partial(client.arrived, self))
        self.subscriptions: dict[int, Subscription] = {}

    def _received(self, operation: Callable[..., None], *what: Any) -> None:
        if not self.open:
            return
        if self.broker.paused:
            self.broker.do(operation, self, *what)
        else:
            operation(self, *what)

    def send(self, sid: int, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        """Send the client a message."""
        if self.lose and sid:
            self.lose -= 1
            self.broker.world.trace.add("broker", "loses", f"a message to {self.process.name} on {subject}")
        elif self.open:
            self.down.send(sid, subject, reply, data, headers)


class Routing:
    """All subscriptions, by subject.

    Attributes:
        exact: subscriptions without wildcards, by subject.
    """

    def __init__(self, cluster: Cluster, network: Random) -> None:
        self.exact: dict[str, list[Subscription]] = {}
        self._cluster = cluster
        self._network = network
        self._under: dict[str, list[Subscription]] = {}
        self._others: list[Subscription] = []

    def add(self, subscription: Subscription) -> None:
        """Add a subscription."""
        subscription.session.subscriptions[subscription.sid] = subscription
        self._group(subscription.subject).append(subscription)

    def _group(self, subject: str) -> list[Subscription]:
        if "*" not in subject and not subject.endswith(">"):
            return self.exact.setdefault(subject, [])
        parent, _, last = subject.rpartition(".")
        if last == "*" and "*" not in parent:
            return self._under.setdefault(parent, [])
        return self._others

    def drop(self, subscription: Subscription) -> None:
        """Remove a subscription."""
        del subscription.session.subscriptions[subscription.sid]
        group = self._group(subscription.subject)
        group.remove(subscription)
        if not group:
            self.exact.pop(subscription.subject, None)

    def route(self, subject: str, reply: str, data: bytes, headers: Headers, origin: int) -> bool:
        """Send a message to all subscribers whose servers are connected to the server `origin`. True if there are
        any."""
        found: list[Subscription] | tuple[()] = self.exact.get(subject, ())
        if under := self._under.get(subject.rpartition(".")[0]):
            found = [*found, *under] if found else under
        if self._others:
            found = [*found, *(own for own in self._others if matches(own.subject, subject))]
        if not found:
            return False
        queues: dict[str, list[Subscription]] = {}
        delivered = False
        isolated = self._cluster.isolated
        for subscription in found:
            session = subscription.session
            if isolated is not None and not self._cluster.connected(origin, session.server):
                continue
            delivered = True
            if subscription.queue:
                queues.setdefault(subscription.queue, []).append(subscription)
            else:
                session.send(subscription.sid, subject, reply, data, headers)
        for members in queues.values():
            chosen = members[self._network.randrange(len(members))]
            chosen.session.send(chosen.sid, subject, reply, data, headers)
        return delivered
