"""One JetStream stream as the broker keeps it: messages, sequences, compares, ids, TTLs, limits. Pure.

It behaves as a single nats-server 2.15 does, which `tests/simulation/test_contract.py` checks:

- A compare is checked before an id: a resent message that had been stored is refused with "wrong last sequence", and
  one whose compare still holds is acknowledged as a duplicate.
- A message is removed when its TTL ends. If it was its subject's last and was not itself a marker, a marker takes its
  place, which has a sequence like any message.
- A full stream refuses messages before anything is stored, or drops its oldest ones, as configured.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import msgspec

UNSYNCED = 60_000_000_000
"""Nanoseconds within which a stored message of an unsynced stream may still be lost."""

_RECORD = 30
"""Bytes that a stored message takes besides its subject and payload. Headers take four more, besides their own size."""

MARKER_REASON = "Nats-Marker-Reason"


class Stored(NamedTuple):
    """A stored message. `time` and `expires` are in nanoseconds since the epoch; `expires` is None for never."""

    seq: int
    subject: str
    time: int
    data: bytes
    headers: Mapping[str, str] | None
    expires: int | None
    size: int


class Problem(NamedTuple):
    """An error as the JetStream API reports it."""

    code: int
    err_code: int
    description: str


class Ack(NamedTuple):
    """An acknowledgement of a published message."""

    seq: int
    duplicate: bool = False


BAD_REQUEST = Problem(400, 10003, "bad request")
NO_MESSAGE = Problem(404, 10037, "no message found")
NO_STREAM = Problem(404, 10059, "stream not found")
NO_CONSUMER = Problem(404, 10014, "consumer not found")
NAME_TAKEN = Problem(400, 10058, "stream name already in use with a different configuration")
OTHER_STREAM = Problem(400, 10060, "expected stream does not match")
NO_LIFETIMES = Problem(400, 10166, "per-message TTL is disabled")
BAD_LIFETIME = Problem(400, 10165, "invalid per-message TTL")
FULL = Problem(503, 10077, "maximum bytes exceeded")
NO_CLUSTER = Problem(500, 10074, "replicas > 1 not supported in non-clustered mode")


@lru_cache(maxsize=4096)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that is true for subjects that match a pattern: `*` is one token, a last `>` one or more."""
    if is_exact(pattern):
        return pattern.__eq__
    head, _, last = pattern.rpartition(".")
    if last not in ("*", ">") or not head or not is_exact(head):
        return partial(_fits, pattern.split("."))
    prefix, length = f"{head}.", len(head) + 1
    if last == ">":
        return lambda subject: subject.startswith(prefix) and len(subject) > length
    return lambda subject: subject.startswith(prefix) and len(subject) > length and "." not in subject[length:]


def _fits(pattern: list[str], subject: str) -> bool:
    tokens = subject.split(".")
    if pattern[-1] == ">":
        pattern = pattern[:-1]
        if len(tokens) <= len(pattern):
            return False
        tokens = tokens[: len(pattern)]
    return len(pattern) == len(tokens) and all(own in ("*", token) for own, token in zip(pattern, tokens, strict=True))


def is_exact(pattern: str) -> bool:
    """True if a pattern has no wildcard."""
    return "*" not in pattern and not pattern.endswith(">")


def matches(pattern: str, subject: str) -> bool:
    """True if a subject matches a pattern."""
    return matcher(pattern)(subject)


@dataclass(slots=True)
class _Filter:
    """A filter, and the stored subjects that match it."""

    patterns: tuple[str, ...]
    subjects: set[str]


class Stream:
    """A stream.

    Attributes:
        config: as it was declared, with the broker's defaults.
        config_json: the same, encoded.
        name: the stream's name.
        created: in nanoseconds since the epoch.
        last_seq: the sequence of the newest message that was ever stored.
        bytes: the size of all stored messages.
        last_of: the last sequence of each subject.
        removed: removed messages of which consumers are not yet notified.
    """

    def __init__(self, config: dict[str, Any], created: int) -> None:
        self.name: str = config["name"]
        self.configure(config)
        self.created = created
        self.last_seq = int(config.get("first_seq", 1)) - 1
        self.bytes = 0
        self.last_of: dict[str, int] = {}
        self.removed: list[Stored] = []
        self._messages: dict[int, Stored] = {}
        self._order: list[int] = []
        self._seqs_of: dict[str, deque[int]] = {}
        self._gone: deque[tuple[int, Stored]] = deque()  # removed from an unsynced stream, with when
        self._ids: dict[str, tuple[int, int]] = {}
        self._filters: dict[tuple[str, ...], _Filter] = {}

    def configure(self, config: dict[str, Any]) -> None:
        """Change the configuration."""
        self.config = config
        self.config_json = msgspec.Raw(msgspec.json.encode(config))  # encoded once, sent often

    @property
    def unsynced(self) -> bool:
        """True if it acknowledges messages that a crash may lose."""
        return self.config.get("persist_mode") == "async"

    def __len__(self) -> int:
        return len(self._messages)

    def copy(self) -> "Stream":
        """Return a copy that holds the same messages."""
        other = Stream(self.config, self.created)
        other.last_seq, other.bytes = self.last_seq, self.bytes
        other.last_of = dict(self.last_of)
        other._seqs_of = {subject: deque(seqs) for subject, seqs in self._seqs_of.items()}
        other._messages, other._order, other._ids = dict(self._messages), list(self._order), dict(self._ids)
        return other

    @property
    def first_seq(self) -> int:
        """The sequence of the oldest stored message; without any, one more than the newest ever."""
        return next(iter(self._messages), self.last_seq + 1 if self.last_seq else 0)

    def accepts(self, subject: str) -> bool:
        """True if the stream stores a subject."""
        return any(matches(pattern, subject) for pattern in self.config["subjects"])

    # --- storing ----------------------------------------------------------------------------------------------------

    def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None, now: int
    ) -> tuple[Ack | Problem, list[Stored]]:
        """Store a message if all that its headers expect holds. Return the reply, and the messages that were stored."""
        lifetime = None
        msg_id = None
        if headers:
            wanted = headers.get("Nats-Expected-Stream")
            if wanted is not None and wanted != self.name:
                return OTHER_STREAM, []
            if (text := headers.get("Nats-TTL")) is not None:
                if not self.config.get("allow_msg_ttl"):
                    return NO_LIFETIMES, []
                lifetime = seconds(text)
                if lifetime is None:
                    return BAD_LIFETIME, []
            moved = self.wrong_sequence(subject, headers)
            if moved is not None:
                return Problem(400, 10071, f"wrong last sequence: {moved}"), []
            msg_id = headers.get("Nats-Msg-Id")
            if msg_id is not None and (seq := self._known(msg_id, now)) is not None:
                return Ack(seq, duplicate=True), []
        size = _size(subject, data, headers)
        if self._is_full(subject, size):
            return FULL, []
        age = lifetime * 1_000_000_000 if lifetime else int(self.config.get("max_age") or 0)
        expires = now + age if age else None
        stored = self._store(subject, data, headers, now, expires, size)
        if msg_id is not None:
            self._ids[msg_id] = (stored.seq, now)
        return Ack(stored.seq), [stored]

    def wrong_sequence(self, subject: str, headers: Mapping[str, str]) -> int | None:
        """Return the actual last sequence if it is not the one that a message expects, else None."""
        expected = headers.get("Nats-Expected-Last-Sequence")
        if expected is not None and int(expected) != self.last_seq:
            return self.last_seq
        expected = headers.get("Nats-Expected-Last-Subject-Sequence")
        if expected is not None:
            pattern = headers.get("Nats-Expected-Last-Subject-Sequence-Subject", subject)
            last = self.last_on(pattern)
            if last != int(expected):
                return last
        return None

    def _known(self, msg_id: str, now: int) -> int | None:
        """Return the sequence of the message with an id; None if there is none within the duplicate window."""
        found = self._ids.get(msg_id)
        if found is None or now - found[1] > self.config["duplicate_window"]:
            return None
        return found[0]

    def _is_full(self, subject: str, size: int) -> bool:
        limit = self.config.get("max_bytes", -1)
        if limit is None or limit < 0 or self.config.get("discard") != "new":
            return False
        freed = 0
        if self.config.get("max_msgs_per_subject", -1) == 1 and subject in self.last_of:
            freed = self._messages[self.last_of[subject]].size
        return bool(self.bytes - freed + size > limit)

    def _store(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str] | None,
        now: int,
        expires: int | None,
        size: int,
    ) -> Stored:
        self.last_seq = seq = self.last_seq + 1
        stored = self._messages[seq] = Stored(seq, subject, now, data, headers, expires, size)
        self._order.append(seq)
        self.bytes += size
        if subject not in self.last_of:
            for known in self._filters.values():
                if any(matcher(pattern)(subject) for pattern in known.patterns):
                    known.subjects.add(subject)
            self._seqs_of[subject] = deque()
        self.last_of[subject] = seq
        seqs = self._seqs_of[subject]
        seqs.append(seq)
        most = self.config.get("max_msgs_per_subject", -1)
        if most is not None and 0 < most < len(seqs):
            self._remove(seqs[0], now)
        limit = self.config.get("max_bytes", -1)
        while limit is not None and 0 < limit < self.bytes and self.config.get("discard") != "new":
            self._remove(self.first_seq, now)
        return stored

    def _remove(self, seq: int, now: int) -> None:
        gone = self._messages.pop(seq)
        self.removed.append(gone)
        if self.unsynced:
            self._gone.append((now, gone))
            while self._gone[0][0] < now - UNSYNCED:
                self._gone.popleft()
        self.bytes -= gone.size
        seqs = self._seqs_of[gone.subject]
        if seqs[0] == seq:
            seqs.popleft()
        else:
            seqs.remove(seq)
        if not seqs:
            del self._seqs_of[gone.subject], self.last_of[gone.subject]
            for known in self._filters.values():
                known.subjects.discard(gone.subject)
        if len(self._order) > 64 and len(self._order) > 2 * len(self._messages):
            self._order = [kept for kept in self._order if kept in self._messages]

    def expire(self, seq: int, now: int) -> list[Stored]:
        """Remove a message whose TTL has ended, and store a marker if one is due. Return what was stored."""
        gone = self._messages.get(seq)
        if gone is None:
            return []
        last = self.last_of[gone.subject] == seq
        self._remove(seq, now)
        lifetime = self.config.get("subject_delete_marker_ttl") or 0
        if not last or not lifetime or (gone.headers and MARKER_REASON in gone.headers):
            return []
        headers = {MARKER_REASON: "MaxAge", "Nats-TTL": "1m0s", "Nats-Rollup": "sub"}
        size = _size(gone.subject, b"", headers)
        return [self._store(gone.subject, b"", headers, now, now + lifetime, size)]

    def rewind(self, time: int) -> None:
        """Return to the state at a time, as an unsynced stream may after a crash. Sequences are then reused."""
        kept = {seq: message for seq, message in self._messages.items() if message.time <= time}
        back = {message.seq: message for since, message in self._gone if since > time and message.time <= time}
        self.last_seq = max((*kept, *(message.seq for _, message in self._gone if message.time <= time)), default=0)
        self._gone.clear()
        self._messages = dict(sorted({**kept, **back}.items()))
        self._order = list(self._messages)
        self.bytes = sum(message.size for message in self._messages.values())
        self.last_of.clear()
        self._seqs_of.clear()
        for seq, message in self._messages.items():
            self.last_of[message.subject] = seq
            self._seqs_of.setdefault(message.subject, deque()).append(seq)
        for known in self._filters.values():
            known.subjects.clear()
            known.subjects.update(self.matching(known.patterns))

    # --- reading ----------------------------------------------------------------------------------------------------

    def filter(self, patterns: tuple[str, ...]) -> set[str]:
        """Return the subjects that match one of the patterns. The set is kept up to date; do not change it."""
        found = self._filters.get(patterns)
        if found is None:
            matching = self.matching(patterns)
            found = self._filters[patterns] = _Filter(patterns, matching)
        return found.subjects

    def matching(self, patterns: Collection[str]) -> set[str]:
        """Return the subjects that match one of the patterns now."""
        if all(map(is_exact, patterns)):
            return {own for own in patterns if own in self.last_of}
        return {own for own in self.last_of if any(matcher(pattern)(own) for pattern in patterns)}

    def counts(self, pattern: str) -> dict[str, int]:
        """Return the number of messages on each subject that matches a pattern."""
        return {subject: len(self._seqs_of[subject]) for subject in sorted(self.matching((pattern,)))}

    def last_on(self, pattern: str) -> int:
        """Return the last sequence on a pattern; 0 if there is none."""
        if is_exact(pattern):
            return self.last_of.get(pattern, 0)
        return max((self.last_of[subject] for subject in self.filter((pattern,))), default=0)

    def get(self, seq: int) -> Stored | None:
        """Return a message; None if it is not stored."""
        return self._messages.get(seq)

    def next(self, seq: int, matching: set[str], until: int | None = None) -> Stored | None:
        """Return the first message, from `seq` to `until`, whose subject is one of `matching`; None without any."""
        messages, order = self._messages, self._order
        for index in range(bisect_left(order, seq), len(order)):
            found = messages.get(order[index])
            if found is not None and found.subject in matching:
                return found if until is None or found.seq <= until else None
        return None

    def since(self, time: int) -> int:
        """Return the sequence of the first message stored at a time or later; without any, one more than the last."""
        return next((kept.seq for kept in self.all() if kept.time >= time), self.last_seq + 1)

    def all(self) -> Iterator[Stored]:
        """Return all messages, in order."""
        return iter(list(self._messages.values()))

    def restore(self) -> None:
        """Restart with the stored messages: only their ids are remembered."""
        self._ids = {
            kept.headers["Nats-Msg-Id"]: (kept.seq, kept.time)
            for kept in self.all()
            if kept.headers and "Nats-Msg-Id" in kept.headers
        }


@lru_cache(maxsize=4096)
def seconds(text: str) -> int | None:
    """Return the value of a `Nats-TTL` in whole seconds; 0 for never, None if it is not valid."""
    if text == "never":
        return 0
    for unit, factor in (("h", 3600), ("m", 60), ("s", 1), ("", 1)):
        number = text.removesuffix(unit) if unit else text
        if number.isdigit() and int(number) > 0 and text == number + unit:
            return int(number) * factor
    return 60 if text == "1m0s" else None


def encode_headers(headers: Mapping[str, str] | None) -> bytes:
    """Return headers in the form in which they are sent."""
    if headers is None:
        return b""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    return f"NATS/1.0\r\n{''.join(lines)}\r\n".encode()


def _size(subject: str, data: bytes, headers: Mapping[str, str] | None) -> int:
    size = _RECORD + len(subject) + len(data)
    if headers:
        size += 4 + 10 + 2 + sum(len(name) + len(value) + 4 for name, value in headers.items())
    return size
