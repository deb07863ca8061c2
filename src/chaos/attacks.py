"""What an attacker with a key could try on the broker, as data. Pure.

Each attack is a message: a subject, a payload, and a reply subject. Most are requests of the JetStream API whose reply
would do harm where it is stored, or reach an inbox in which another reply is awaited. `chaos.attacker` sends them for
the whole of a run, and `tests/hostile/test_keys.py` sends them once with each key.
"""

import json
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from wire import subjects

Kind = Literal["answers", "markers", "inboxes", "consumers", "streams", "services", "usage", "writes", "listening"]
"""answers: requests whose reply subject is a subject of a stream. markers: requests that return the marker of an
expired reservation, with the subject of a live one as reply subject. inboxes: replies and messages to the inboxes of
others. consumers: consumers of others and its own are created, changed, pulled from, paused and deleted. streams:
streams are created, changed, purged, deleted, and fed from other streams. services: floods of discovery requests.
usage: floods of requests for the exposure in use. writes: messages to every subject that a service subscribes to.
listening: subscriptions without permission."""

KINDS: tuple[Kind, ...] = get_args(Kind)

NAME = "attacker"
"""The prefix of the names of consumers, streams and keys that attacks create."""

BURSTS: dict[Kind, int] = {"services": 60, "usage": 60, "consumers": 40, "listening": 2}
"""The most attacks in a burst, for kinds where it is not `BURST`."""

BURST = 15
"""The most attacks in a burst, for all other kinds."""

SERVICES = ("exchange", "exposure", "ledger", "maker", "operator", "auditor")
"""The users whose inboxes are attacked."""

_RESERVATIONS = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)
_ANSWERABLE = ("exchange", "exposure")
_KEPT = 50


@dataclass(frozen=True, slots=True)
class Attack:
    """One message.

    Attributes:
        kind: the kind of attack.
        subject: the message's subject; for `listening`, the subject of the subscription.
        payload: the message's payload.
        reply: its reply subject; empty for an inbox of the attacker.
        headers: its headers.
    """

    kind: Kind
    subject: str
    payload: bytes = b""
    reply: str = ""
    headers: dict[str, str] | None = None


@dataclass(slots=True)
class Known:
    """What an attacker has learned.

    Attributes:
        consumers: the names of others' consumers, by stream.
        live: reservations that are held.
        gone: reservations that have ended, and left a marker.
    """

    consumers: dict[str, list[str]] = field(default_factory=dict)
    live: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT))
    gone: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def observed(self, subject: str, ended: bool) -> None:
        """Note a message of a reservation. With `ended`, it is a marker."""
        key = subjects.last_token(subject)
        (self.gone if ended else self.live).append(key)
        if ended and key in self.live:
            self.live.remove(key)


def targets(symbol: str, shards: int) -> list[str]:
    """Return a subject of each stream."""
    shard = subjects.shard_of(symbol, shards)
    return [
        subjects.quotes(shard, symbol),
        subjects.fills(shard, symbol),
        subjects.position(symbol),
        subjects.DECISIONS,
        subjects.bucket_key(subjects.RESERVATIONS_BUCKET, NAME),
        subjects.bucket_key(subjects.QUOTES_BUCKET, symbol),
        subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, "market"),
        subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, f"symbols.{symbol}"),
        subjects.bucket_key(subjects.SWITCHES_BUCKET, "quoting"),
    ]


def requests(symbol: str, shards: int) -> list[tuple[str, bytes]]:
    """Return all kinds of requests that may get a reply, as subject and payload."""
    streams = subjects.streams(shards)
    some = targets(symbol, shards)[0]
    return [
        *((f"$JS.API.STREAM.INFO.{stream}", b"") for stream in streams),
        *((f"$JS.API.STREAM.MSG.GET.{stream}", b'{"seq":1}') for stream in streams),
        *((f"$JS.API.DIRECT.GET.{stream}", b'{"seq":1}') for stream in streams),
        *((f"$JS.API.DIRECT.GET.{stream}.{some}", b"") for stream in streams),
        *((f"$JS.API.CONSUMER.LIST.{stream}", b"") for stream in streams),
        *((f"$JS.API.CONSUMER.NAMES.{stream}", b"") for stream in streams),
        ("$JS.API.INFO", b""),
        ("$JS.API.STREAM.LIST", b""),
        ("$JS.API.STREAM.NAMES", b""),
        *discovery_requests("exposure"),
        (subjects.Rpc.USAGE, b"{}"),
        (subjects.Rpc.RESERVE, b"{"),
        (subjects.Rpc.DEACTIVATE, b"{}"),
    ]


def discovery_requests(service: str) -> list[tuple[str, bytes]]:
    """Return requests that discover all services, or one."""
    return [("$SRV.PING", b""), *((f"$SRV.{verb}.{service}", b"") for verb in ("PING", "INFO", "STATS"))]


def marker_requests(gone: str) -> list[tuple[str, bytes]]:
    """Return requests whose reply is the marker of an expired reservation, with its headers."""
    key = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, gone)
    last = json.dumps({"last_by_subj": key}).encode()
    return [
        (f"$JS.API.DIRECT.GET.{_RESERVATIONS}", last),
        (f"$JS.API.DIRECT.GET.{_RESERVATIONS}.{key}", b""),
        (f"$JS.API.STREAM.MSG.GET.{_RESERVATIONS}", last),
    ]


def consumer_requests(stream: str, name: str, symbol: str, shards: int) -> list[tuple[str, bytes]]:
    """Return requests that change, pull from, pause or delete the consumer of a name."""
    *_, pushed_to = targets(symbol, shards)
    nothing = "nothing.is.here"
    config = {"name": name, "ack_policy": "none", "filter_subject": nothing, "deliver_subject": pushed_to}
    body = json.dumps({"stream_name": stream, "config": config}).encode()
    durable = json.dumps({"stream_name": stream, "config": {"durable_name": name, "ack_policy": "none"}}).encode()
    return [
        (f"$JS.API.CONSUMER.CREATE.{stream}.{name}", body),
        (f"$JS.API.CONSUMER.CREATE.{stream}.{name}.{nothing}", body),
        (f"$JS.API.CONSUMER.CREATE.{stream}", body),
        (f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{name}", durable),
        (f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", b'{"batch":500}'),
        (f"$JS.API.CONSUMER.PAUSE.{stream}.{name}", b'{"pause_until":"2999-01-01T00:00:00Z"}'),
        (f"$JS.API.CONSUMER.DELETE.{stream}.{name}", b""),
    ]


def stream_requests(stream: str, symbol: str, shards: int) -> list[tuple[str, bytes]]:
    """Return requests that change a stream, or that create one which reads from another or feeds it."""
    some, *_, switch = targets(symbol, shards)
    source = {"name": stream, "subject_transforms": [{"src": some, "dest": switch}]}
    fed: dict[str, Any] = {"name": subjects.bucket_stream(subjects.SWITCHES_BUCKET), "sources": [source]}
    taking = {"name": NAME, "sources": [source], "storage": "memory"}
    mirror = {"name": NAME, "mirror": {"name": stream}, "storage": "memory"}
    own = {"name": NAME, "subjects": [some], "storage": "memory"}
    return [
        *((f"$JS.API.STREAM.CREATE.{NAME}", json.dumps(each).encode()) for each in (taking, mirror, own)),
        (f"$JS.API.STREAM.UPDATE.{fed['name']}", json.dumps(fed).encode()),
        (f"$JS.API.STREAM.UPDATE.{stream}", json.dumps({"name": stream, "max_msgs": 1}).encode()),
        (f"$JS.API.STREAM.PURGE.{stream}", b""),
        (f"$JS.API.STREAM.DELETE.{stream}", b""),
        (f"$JS.API.STREAM.MSG.DELETE.{stream}", b'{"seq":1}'),
        (f"$JS.API.STREAM.SNAPSHOT.{stream}", json.dumps({"deliver_subject": some}).encode()),
        (f"$JS.API.STREAM.RESTORE.{stream}", b"{}"),
        (f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", b""),
        (f"$JS.API.STREAM.PEER.REMOVE.{stream}", b'{"peer":"nats-1"}'),
        ("$JS.API.META.LEADER.STEPDOWN", b""),
        ("$JS.API.ACCOUNT.PURGE.QUOTESTREAM", b""),
        (f"$JS.ACK.{stream}.{NAME}", b""),
        (f"$JS.FC.{stream}.{NAME}.x", b""),
    ]


def writes(symbol: str, shards: int, live: str = NAME) -> list[tuple[str, bytes, dict[str, str] | None]]:
    """Return messages to every subject that a service subscribes to, some with headers that have a meaning there."""
    rpc = subjects.Rpc
    requests = (rpc.RESERVE, rpc.RELEASE, rpc.ACTIVATE, rpc.DEACTIVATE, rpc.PUT_QUOTE, rpc.WITHDRAW_QUOTE)
    ended = {"Nats-Marker-Reason": "MaxAge"}
    key = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, live)
    return [
        *((subject, b"{}", None) for subject in [*targets(symbol, shards), *requests, subjects.MAKER_PRESENCE]),
        (key, b"", ended),
        (key, b"", {"KV-Operation": "DEL"}),
        (key, b"", {"Nats-Rollup": "sub"}),
        (subjects.DECISIONS, b"[]", {"Nats-Rollup": "all"}),
        ("$SYS.REQ.SERVER.PING", b"", None),
    ]


FORBIDDEN_SUBSCRIPTIONS = (
    ">",
    "$JS.API.>",
    "$JS.ACK.>",
    "_INBOX.>",
    "_INBOX.exposure.>",
    "_R_.>",
    "rpc.>",
    "$SRV.>",
    "$SYS.>",
)
"""Subjects that no reader may subscribe to."""


class Attacks:
    """An endless sequence of attacks, drawn from a seed. Kinds are dealt from a shuffled deck."""

    def __init__(self, seed: str, symbols: Sequence[str], shards: int, known: Known) -> None:
        self._draw = random.Random(f"{NAME}-{seed}")
        self._symbols = symbols
        self._shards = shards
        self._known = known
        self._made = 0
        self._how: dict[Kind, Callable[[], Attack]] = {
            "answers": self._answer,
            "markers": self._marker,
            "inboxes": self._inbox,
            "consumers": self._consumer,
            "streams": self._stream,
            "services": self._service,
            "usage": self._usage,
            "writes": self._write,
            "listening": lambda: Attack("listening", self._draw.choice(FORBIDDEN_SUBSCRIPTIONS)),
        }

    def bursts(self) -> Iterator[list[Attack]]:
        """Yield bursts of attacks without end."""
        while True:
            for kind in self._draw.sample(KINDS, len(KINDS)):
                make = self._how[kind]
                yield [make() for _ in range(self._draw.randint(1, BURSTS.get(kind, BURST)))]

    def _answer(self) -> Attack:
        symbol = self._draw.choice(self._symbols)
        subject, payload = self._draw.choice(requests(symbol, self._shards))
        return Attack("answers", subject, payload, self._target(symbol))

    def _marker(self) -> Attack:
        subject, payload = self._draw.choice(marker_requests(self._one_of(self._known.gone)))
        live = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, self._one_of(self._known.live))
        return Attack("markers", subject, payload, self._draw.choice([live, live, subjects.DECISIONS]))

    def _inbox(self) -> Attack:
        of = self._draw.choice(SERVICES)
        self._made += 1
        place = self._draw.choice([f"{self._draw.randbytes(11).hex()}.{self._made}", "open", str(self._made)])
        reply = f"_INBOX.{of}.{place}"
        if self._draw.random() < 0.3:
            return Attack("inboxes", self._draw.choice([reply, f"_R_.{place}"]), b'{"stream":"EXPOSURE","seq":1}')
        subject, payload = self._draw.choice(requests(self._symbols[0], self._shards))
        return Attack("inboxes", subject, payload, reply)

    def _consumer(self) -> Attack:
        stream = self._draw.choice(subjects.streams(self._shards))
        self._made += 1
        name = self._one_of(self._known.consumers.get(stream, ()), f"{NAME}-{self._made}")
        symbol = self._draw.choice(self._symbols)
        return Attack("consumers", *self._draw.choice(consumer_requests(stream, name, symbol, self._shards)))

    def _stream(self) -> Attack:
        stream = self._draw.choice(subjects.streams(self._shards))
        symbol = self._draw.choice(self._symbols)
        return Attack("streams", *self._draw.choice(stream_requests(stream, symbol, self._shards)))

    def _service(self) -> Attack:
        subject, payload = self._draw.choice(discovery_requests(self._draw.choice(_ANSWERABLE)))
        return Attack("services", subject, payload, self._draw.choice(["", self._target(self._symbols[0])]))

    def _usage(self) -> Attack:
        payload = self._draw.choice([b"{}", b"{", b"", b'{"a":' * 100])
        return Attack("usage", subjects.Rpc.USAGE, payload, self._draw.choice(["", self._target(self._symbols[0])]))

    def _write(self) -> Attack:
        live = self._one_of(self._known.live)
        symbol = self._draw.choice(self._symbols)
        subject, payload, headers = self._draw.choice(writes(symbol, self._shards, live))
        return Attack("writes", subject, payload, headers=headers)

    def _target(self, symbol: str) -> str:
        live = subjects.bucket_key(subjects.RESERVATIONS_BUCKET, self._one_of(self._known.live))
        return self._draw.choice([*targets(symbol, self._shards), live])

    def _one_of(self, names: Sequence[str], otherwise: str = NAME) -> str:
        """Return a random one of `names` with a probability of 0.8, else `otherwise`."""
        return self._draw.choice(names) if names and self._draw.random() < 0.8 else otherwise
