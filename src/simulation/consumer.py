"""One pull consumer that acknowledges nothing, as the broker keeps it. Pure but for what it sends.

It delivers what is asked for, in order; tells that it is alive while it has nothing to deliver; ends a request whose
time is over; and is forgotten when nobody asks any more.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulation.stream import Stored, Stream

Send = Callable[[str, str, bytes, Mapping[str, str] | None, str], None]
"""Sends to an inbox: inbox, subject, payload, headers, reply subject."""


@dataclass(slots=True)
class _Pull:
    """A request for messages: how many it still may get, until when, in seconds of the world."""

    inbox: str
    left: int
    until: float
    heartbeat: float


class Consumer:
    """A consumer.

    Attributes:
        name: of the consumer.
        stream: what it reads.
        pending: messages that it has yet to deliver.
        delivered: messages delivered.
        requested_at: when somebody last asked, by the world's time.
        sent_at: when it last sent something.
        config: as it was asked for.
        inactive: seconds after which it is forgotten when nobody asks.
        ticking: `tick` will be called.
        server: whose copy of the stream it reads.
    """

    def __init__(
        self, stream: Stream, name: str, config: dict[str, Any], now: float, since: int, server: int = 0
    ) -> None:
        self.name = name
        self.stream = stream
        self.config = config
        self.inactive = config.get("inactive_threshold", 5_000_000_000) / 1e9
        patterns = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        self.matching = stream.filter(tuple(patterns))
        self.delivered = 0
        self.ticking = False
        self.server = server
        self.requested_at = self.sent_at = now
        self.last_seq = 0
        self._first: deque[int] = deque()
        self._next = 1
        self._pulls: deque[_Pull] = deque()
        match config.get("deliver_policy", "all"):
            case "by_start_sequence":
                self._next = int(config["opt_start_seq"])
            case "by_start_time":
                self._next = since
            case "last_per_subject":
                self._first.extend(sorted(stream.last_of[subject] for subject in self.matching))
                self._next = stream.last_seq + 1
            case "new":
                self._next = stream.last_seq + 1
            case "last":
                self._next = max((stream.last_of[subject] for subject in self.matching), default=1)
        self.last_seq = self._next - 1 if not self._first else self._first[0] - 1
        self.pending = self._count()

    @property
    def waiting(self) -> bool:
        """Whether somebody asks for more."""
        return bool(self._pulls)

    def _count(self) -> int:
        matching = self.matching
        rest = sum(1 for kept in self.stream.all() if kept.seq >= self._next and kept.subject in matching)
        return len(self._first) + rest

    def pull(self, inbox: str, batch: int, expires: float, heartbeat: float, now: float) -> None:
        """Somebody asks for messages."""
        self.requested_at = now
        self._pulls.append(_Pull(inbox, batch, now + expires, heartbeat))
        self.sent_at = now

    def stored(self, message: Stored) -> None:
        """A message was stored in the stream."""
        if message.seq >= self._next and message.subject in self.matching:
            self.pending += 1

    def gone(self, message: Stored) -> None:
        """A message is no longer in the stream."""
        if message.subject in self.matching and (message.seq >= self._next or message.seq in self._first):
            self.pending = max(0, self.pending - 1)

    def pump(self, now: float, send: Send, until: int | None = None) -> None:
        """Deliver what there is, up to the sequence `until`, as long as somebody asks."""
        while self._pulls:
            pull = self._pulls[0]
            message = self._take(until)
            if message is None:
                return
            self.delivered += 1
            self.last_seq = message.seq
            self.pending = max(0, self.pending - 1)
            reply = (
                f"$JS.ACK.{self.stream.name}.{self.name}.1.{message.seq}.{self.delivered}.{message.time}.{self.pending}"
            )
            self.sent_at = now
            pull.left -= 1
            if not pull.left:
                self._pulls.popleft()
            send(pull.inbox, message.subject, message.data, message.headers, reply)

    def _take(self, until: int | None) -> Stored | None:
        while self._first:
            found = self.stream.get(self._first[0])
            if found is not None and until is not None and found.seq > until:
                return None
            self._first.popleft()
            if found is not None:
                return found
        found = self.stream.next(self._next, self.matching, until)
        if found is not None:
            self._next = found.seq + 1
        return found

    def tick(self, now: float, send: Send, end: int) -> float | None:
        """Tell of life and of requests whose time is over. When to look again; None if there is no need.

        `end` is where the copy that it reads ends.
        """
        while self._pulls and self._pulls[0].until <= now:
            pull = self._pulls.popleft()
            headers = {
                "Status": "408",
                "Description": "Request Timeout",
                "Nats-Pending-Messages": str(pull.left),
                "Nats-Pending-Bytes": "0",
            }
            send(pull.inbox, pull.inbox, b"", headers, "")
        if not self._pulls:
            return None
        pull = self._pulls[0]
        if pull.heartbeat and now >= self.sent_at + pull.heartbeat - 1e-9:
            self.sent_at = now
            # What was looked at and did not match counts as looked at.
            looked = end if not self.pending else self.last_seq
            headers = {
                "Status": "100",
                "Description": "Idle Heartbeat",
                "Nats-Last-Consumer": str(self.delivered),
                "Nats-Last-Stream": str(max(self.last_seq, looked) if self.delivered or looked else 0),
            }
            for inbox in dict.fromkeys(own.inbox for own in self._pulls):
                send(inbox, inbox, b"", headers, "")
        first = min([own.until for own in self._pulls]) if len(self._pulls) > 1 else pull.until
        return min(first, self.sent_at + pull.heartbeat) if pull.heartbeat else first

    def close(self, send: Send) -> None:
        """It is deleted: whoever asks is told."""
        for pull in self._pulls:
            send(pull.inbox, pull.inbox, b"", {"Status": "409", "Description": "Consumer Deleted"}, "")
        self._pulls.clear()

    def info(self) -> dict[str, Any]:
        """As the API tells of it."""
        return {
            "stream_name": self.stream.name,
            "name": self.name,
            "config": self.config,
            "delivered": {"consumer_seq": self.delivered, "stream_seq": self.last_seq},
            "num_pending": self.pending,
            "num_waiting": len(self._pulls),
        }

    def listeners(self, inboxes: Mapping[str, object]) -> list[bool]:
        """Of each request, whether anybody listens for its answer."""
        return [bool(inboxes.get(pull.inbox)) for pull in self._pulls]
