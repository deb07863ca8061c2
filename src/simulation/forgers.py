"""An attacker with a key of the services' account that may write nothing, such as the auditor's. It does the harm that
is possible because the broker sends replies to whatever subject a request names.

- Replies of the broker, and copies of stored messages, are sent to a subject of a stream, where they are stored: as the
  newest message of a symbol, of a reservation that is held, of the kill switch, or of exposure's log.
- Messages that no service would send are delivered to the subscriptions of a process.
- As if inboxes could be guessed, a wrong acknowledgement or an unreadable reply reaches a process before the true one.
"""

import random
from collections.abc import Callable
from typing import Any

from simulation.api import copied
from simulation.client_process import ClientProcess
from simulation.sessions import Headers
from simulation.stream import Stored
from wire import subjects

_RESERVATIONS = subjects.bucket_stream(subjects.RESERVATIONS_BUCKET)
_STATUSES = ("100", "404", "408", "409", "503")

_ANSWERS: list[tuple[bytes, Headers]] = [
    (b'{"type":"io.nats.jetstream.api.v1.stream_info_response","config":{},"total":0}', None),
    (b'{"error":{"code":404,"err_code":10059,"description":"stream not found"}}', None),
    (b"", {"Status": "404", "Description": "Message Not Found"}),
    (b"", {"Status": "204", "Description": "EOB", "Nats-Num-Pending": "0"}),
    (b"\xff\xfe", None),
    (b"{", {"Nats-Marker-Reason": "MaxAge"}),
]
"""Replies of the broker, and messages that cannot be decoded."""

_WRONG: list[tuple[bytes, Headers]] = [
    (b'{"stream":"NONE","seq":7}', None),
    (b'{"stream":"EXPOSURE","seq":0}', None),
    (b'{"stream":"MARKET-0","domain":"other","seq":900}', None),
    (b'{"outcome":"granted"}', {"Quotestream-Answers": "00" * 11}),
    (b'{"outcome":"granted"}', None),
    (b"{}", None),
    (b"\xff\xfe", None),
    (b"", None),
]
"""Replies that do not belong to the request."""


class Forgers:
    """All forgers, which are one attacker."""

    def __init__(self, host: ClientProcess) -> None:
        self._host = host
        self._broker = host.system.broker
        self._draw = random.Random(f"{host.system.plan.seed}/forger")

    async def work(self) -> None:
        """Forge messages until the process ends."""
        ways: list[Callable[[], None]] = [self._answer, self._copy, self._marker, self._deliver, self._answer_first]
        async for _ in self._host.every(self._host.system.plan.forge_rate):
            if self._broker.up:
                self._draw.choice(ways)()

    def _answer(self) -> None:
        self._publish(self._target(), *self._draw.choice(_ANSWERS))

    def _copy(self) -> None:
        """Send a stored message, as a get or a pull returns it, to its own or another subject."""
        found = self._stored(self._draw.choice(list(self._broker.streams)))
        if found is not None:
            stream, message = found
            headers = copied(stream, message) if self._draw.random() < 0.5 else message.headers
            target = message.subject if self._draw.random() < 0.5 else self._target()
            self._publish(target, message.data, headers)

    def _marker(self) -> None:
        """Send the marker of an expired reservation to the subject of one that is held."""
        ended: Headers = {"Nats-Marker-Reason": "MaxAge", "Nats-Stream": _RESERVATIONS}
        target = self._held() if self._draw.random() < 0.7 else subjects.DECISIONS
        self._publish(target, b"", ended)

    def _deliver(self) -> None:
        """Send a malformed message to a subscription of a process."""
        sessions = [each for each in self._broker.sessions if each.subscriptions]
        if not sessions:
            return
        session = self._draw.choice(sessions)
        pattern = self._draw.choice([each.subject for each in session.subscriptions.values()])
        place = f"{self._draw.getrandbits(88):022x}"
        subject = ".".join(place if part in ("*", ">") else part for part in pattern.split("."))
        reply = self._draw.choice(["", f"_INBOX.auditor.{place}", f"$JS.ACK.NONE.{place}.1.7.7.0.0", self._target()])
        data, headers = self._draw.choice(_ANSWERS)
        if self._draw.random() < 0.3:
            data, headers = b"", {"Status": self._draw.choice(_STATUSES), "Nats-Last-Consumer": "7"}
        self._note("delivers", subject)
        self._broker.do(self._route, subject, reply, data, headers, session.server)

    def _answer_first(self) -> None:
        """Have wrong replies reach a process before the replies to its next requests."""
        if self._broker.sessions:
            session = self._draw.choice(self._broker.sessions)
            self._note("answers", session.process.name)
            session.forged += [self._draw.choice(_WRONG) for _ in range(self._draw.randint(1, 3))]

    def _publish(self, subject: str, data: bytes, headers: Headers) -> None:
        self._note("sends", subject)
        self._broker.do(self._broker.publish_as_broker, subject, data, headers)

    def _route(self, *what: Any) -> None:
        self._broker.route(*what)

    def _note(self, what: str, where: str) -> None:
        self._host.world.trace.add("forger", what, where)

    def _target(self) -> str:
        """Return a random subject of some stream."""
        market = self._host.system.market
        symbol = self._draw.choice(list(market.symbols))
        shard = subjects.shard_of(symbol, market.shards)
        return self._draw.choice(
            [
                subjects.quotes(shard, symbol),
                subjects.fills(shard, symbol),
                subjects.position(symbol),
                subjects.DECISIONS,
                subjects.bucket_key(subjects.QUOTES_BUCKET, symbol),
                subjects.bucket_key(subjects.SWITCHES_BUCKET, "quoting"),
                subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, "market"),
                subjects.bucket_key(subjects.INSTRUMENTS_BUCKET, f"symbols.{symbol}"),
                self._held(),
            ]
        )

    def _held(self) -> str:
        """Return the key of a reservation that is stored."""
        found = self._stored(_RESERVATIONS)
        return found[1].subject if found else subjects.bucket_key(subjects.RESERVATIONS_BUCKET, "none")

    def _stored(self, name: str) -> tuple[str, Stored] | None:
        """Return one of the last hundred messages of a stream, with the stream's name."""
        stream = self._broker.streams[name]
        message = stream.get(max(1, stream.last_seq - self._draw.randrange(100)))
        return (name, message) if message is not None else None
