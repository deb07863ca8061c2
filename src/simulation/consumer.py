"""One pull consumer without acknowledgements, as the broker keeps it. Pure except for what it sends.

It delivers messages in order as pull requests ask for them, sends heartbeats while it has none to deliver, ends
expired requests, and is deleted when nobody pulls any more.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulation.stream import Stored, Stream

Send = Callable[[str, str, bytes, Mapping[str, str] | None, str], None]
"""Sends a message; the arguments are inbox, subject, payload, headers and reply subject."""


@dataclass(slots=True)
class _Pull:
    """A pull request: how many more messages it asks for, and until when, in seconds of the world."""

    inbox: str
    left: int
    until: float
    heartbeat: float


class Consumer:
    """A consumer.

    Attributes:
        name: its name.
        stream: the stream that it reads.
        pending: how many messages it has yet to deliver.
        delivered: how many messages it has delivered.
        requested_at: when it last received a pull request, in seconds of the world.
        sent_at: when it last sent something, likewise.
        config: its configuration, as requested.
        inactive: seconds without a pull request after which it is deleted.
        ticking: a call of `tick` is scheduled.
        server: the server whose copy of the stream it reads.
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
        """True if a pull request is open."""
        return bool(self._pulls)

    def _count(self) -> int:
        matching = self.matching
        rest = sum(1 for kept in self.stream.all() if kept.seq >= self._next and kept.subject in matching)
        return len(self._first) + rest

    def pull(self, inbox: str, batch: int, expires: float, heartbeat: float, now: float) -> None:
        """Add a pull request."""
        self.requested_at = now
        self._pulls.append(_Pull(inbox, batch, now + expires, heartbeat))
        self.sent_at = now

    def stored(self, message: Stored) -> None:
        """Count a message that was stored in the stream."""
        if message.seq >= self._next and message.subject in self.matching:
            self.pending += 1

    def gone(self, message: Stored) -> None:
        """Discount a message that was removed from the stream."""
        if message.subject in self.matching and (message.seq >= self._next or message.seq in self._first):
            self.pending = max(0, self.pending - 1)

    def pump(self, now: float, send: Send, until: int | None = None) -> None:
        """Deliver what there is, up to the sequence `until`, as long as a pull request is open."""
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
        """End expired requests, and send a heartbeat if one is due. Return when to call this again; None for never.

        `end` is the last sequence of the copy that it reads.
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
            # Messages that were read but do not match count as read.
            read = end if not self.pending else self.last_seq
            headers = {
                "Status": "100",
                "Description": "Idle Heartbeat",
                "Nats-Last-Consumer": str(self.delivered),
                "Nats-Last-Stream": str(max(self.last_seq, read) if self.delivered or read else 0),
            }
            for inbox in dict.fromkeys(own.inbox for own in self._pulls):
                send(inbox, inbox, b"", headers, "")
        first = min([own.until for own in self._pulls]) if len(self._pulls) > 1 else pull.until
        return min(first, self.sent_at + pull.heartbeat) if pull.heartbeat else first

    def close(self, send: Send) -> None:
        """End all open requests, because the consumer is deleted."""
        for pull in self._pulls:
            send(pull.inbox, pull.inbox, b"", {"Status": "409", "Description": "Consumer Deleted"}, "")
        self._pulls.clear()

    def info(self) -> dict[str, Any]:
        """Return the consumer's info as the API sends it."""
        return {
            "stream_name": self.stream.name,
            "name": self.name,
            "config": self.config,
            "delivered": {"consumer_seq": self.delivered, "stream_seq": self.last_seq},
            "num_pending": self.pending,
            "num_waiting": len(self._pulls),
        }

    def listeners(self, inboxes: Mapping[str, object]) -> list[bool]:
        """Return, for each open request, whether anyone subscribes to its inbox."""
        return [bool(inboxes.get(pull.inbox)) for pull in self._pulls]
