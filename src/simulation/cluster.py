"""A cluster of servers with a copy of everything, as far as clients notice it: which one leads, and which is cut off.

One server may be cut off from the others at a time. If it was the leader, it does not know that it has been deposed: it
replies from the state that it has, refuses whatever does not fit that state, and acknowledges nothing. The others elect
another leader after a while, during which nobody replies. Clients stay connected to their server, whichever side it is
on.
"""

from dataclasses import dataclass, field

from simulation.stream import Stream


@dataclass(slots=True)
class Cluster:
    """The servers, numbered from 0. A cluster of one is a single server.

    Attributes:
        servers: how many there are.
        leader: the server that leads every stream.
        isolated: the server that is cut off; None if none is.
        since: when that server was cut off, in seconds of the world.
        isolated_led: that server was the leader.
        views: that server's copies of the streams.
        leaderless_until: when the other servers will have elected a leader.
        term: how many elections there were.
    """

    servers: int = 1
    leader: int = 0
    isolated: int | None = None
    since: float = 0.0
    isolated_led: bool = False
    views: dict[str, Stream] = field(default_factory=dict)
    leaderless_until: float = 0.0
    term: int = 0

    def connected(self, one: int, other: int) -> bool:
        """True if two servers reach each other."""
        return self.isolated is None or (one == self.isolated) == (other == self.isolated)

    def answers(self, server: int, now: float) -> int | None:
        """Return the server that replies to a stream request sent to `server`; None if none does."""
        if server == self.isolated:
            return server if self.isolated_led else None
        return None if now < self.leaderless_until else self.leader

    def cut(self, server: int, streams: dict[str, Stream], now: float, election: float, successor: int) -> None:
        """Cut a server off. If it was the leader, `successor` leads after `election` seconds."""
        self.isolated, self.since, self.isolated_led = server, now, server == self.leader
        self.views = {name: stream.copy() for name, stream in streams.items()}
        if self.isolated_led:
            self.elect(now + election, successor)

    def elect(self, when: float, successor: int) -> None:
        """Make another server the leader from a time on. Until then there is none."""
        self.leader = successor
        self.leaderless_until = when
        self.term += 1

    def heal(self) -> None:
        """Reconnect all servers."""
        self.isolated = None
        self.views = {}

    def silent_for(self, answering: int, now: float, usual: float) -> list[int]:
        """Return for how many nanoseconds the replying server has received nothing from each of the others."""
        return [
            int(1e9 * (usual + (0.0 if self.connected(answering, other) else now - self.since)))
            for other in range(self.servers)
            if other != answering
        ]
