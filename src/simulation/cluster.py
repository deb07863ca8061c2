"""Several servers that hold everything, as far as clients can tell: who leads, and who is cut off from the others.

One server may be cut off at a time. If it led, it does not know that it does no more: it tells what it knew, refuses
what does not fit that, and acknowledges nothing; the others elect another after a while, in which nobody answers.
Clients stay connected to their server, on whichever side that is.
"""

from dataclasses import dataclass, field

from simulation.stream import Stream


@dataclass(slots=True)
class Cluster:
    """The servers; one is a server alone.

    Attributes:
        servers: how many.
        leader: which of them leads every stream.
        alone: which of them is cut off, if one is, since when, and whether it led.
        views: the streams as that one has them.
        leaderless_until: when the others have elected a leader.
        term: which leader it is, counted.
    """

    servers: int = 1
    leader: int = 0
    alone: int | None = None
    since: float = 0.0
    led: bool = False
    views: dict[str, Stream] = field(default_factory=dict)
    leaderless_until: float = 0.0
    term: int = 0

    def together(self, one: int, other: int) -> bool:
        """Whether two servers hear each other."""
        return self.alone is None or (one == self.alone) == (other == self.alone)

    def answers(self, server: int, now: float) -> int | None:
        """Which server answers for a stream when that one is asked; None if nobody does."""
        if server == self.alone:
            return server if self.led else None
        return None if now < self.leaderless_until else self.leader

    def cut(self, server: int, streams: dict[str, Stream], now: float, election: float, successor: int) -> None:
        """Cut a server off; if it led, another leads after `election` seconds."""
        self.alone, self.since, self.led = server, now, server == self.leader
        self.views = {name: stream.copy() for name, stream in streams.items()}
        if self.led:
            self.elect(now + election, successor)

    def elect(self, when: float, successor: int) -> None:
        """Another server leads from a time on, and nobody before."""
        self.leader = successor
        self.leaderless_until = when
        self.term += 1

    def heal(self) -> None:
        """All hear each other again."""
        self.alone = None
        self.views = {}

    def silences(self, answering: int, now: float, usual: float) -> list[int]:
        """For how many nanoseconds the answering server has not heard each of the others."""
        return [
            int(1e9 * (usual + (0.0 if self.together(answering, other) else now - self.since)))
            for other in range(self.servers)
            if other != answering
        ]
