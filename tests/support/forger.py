"""Hostile messages to every subscription of a service.

The subscriptions are read from the service's connection, so that new ones are included. The same seed produces the same
messages for the same subscriptions.
"""

import json
import random
from collections.abc import Callable, Iterator

from jet.connection import Connection, Subscription
from support.poison import DEEP, HUGE, UNDECODABLE
from support.raw import ODD_HEADERS, ODD_SUBJECTS, frame
from wire import subjects

STATUSES = [
    b"100 Idle Heartbeat",
    b"100 FlowControl Request",
    b"204 EOB",
    b"400 Bad Request",
    b"404 No Messages",
    b"404 No Results",
    b"408 Request Timeout",
    b"408 Requests Pending",
    b"408 Empty Request",
    *(
        b"409 " + why
        for why in (
            b"Consumer Deleted",
            b"Consumer is push based",
            b"Leadership Change",
            b"Server Shutdown",
            b"Exceeded MaxWaiting",
            b"Exceeded MaxRequestBatch of 1",
            b"Exceeded MaxRequestExpires of 1s",
            b"Exceeded MaxRequestMaxBytes of 1",
            b"Message Size Exceeds MaxBytes",
            b"Batch Completed",
        )
    ),
    b"413 Too Many Results",
    b"500",
    b"503",
    b"503 No Responders",
    b"999 Whatever",
]
"""Every status that JetStream sends, and some that it does not."""

LIES: dict[bytes, list[bytes]] = {
    name.encode(): [value.encode() for value in values.split("|")]
    for name, values in {
        "Nats-Sequence": f"0|1|-1|x|{2**53}|{10**30}",
        "Nats-Last-Sequence": f"0|7|x|{10**30}",
        "Nats-Num-Pending": f"0|7|-1|x|{10**30}",
        "Nats-Stream": "MARKET-0|EXPOSURE|NONE|",
        "Nats-Subject": "quotes.0.AAA|fills.1.AAA|exposure.decisions|>|",
        "Nats-Time-Stamp": "2026-01-05T09:30:00Z|0001-01-01T00:00:00+14:00|9999-12-31T23:59:59-14:00|x",
        "Nats-Last-Consumer": f"0|1|-1|x|{10**30}",
        "Nats-Last-Stream": f"0|1|-1|x|{10**30}",
        "Nats-Consumer-Stalled": "$KV.switches.quoting|x",
        "Nats-Pending-Messages": f"0|500|-500|x|{10**30}",
        "Nats-Pending-Bytes": f"0|-1|x|{10**30}",
        "Nats-Expected-Stream": "MARKET-0|NONE",
        "Nats-Expected-Last-Sequence": "0|1|x",
        "Nats-Expected-Last-Subject-Sequence": f"0|1|x|{10**30}",
        "Nats-Expected-Last-Msg-Id": "x",
        "Nats-Marker-Reason": "MaxAge|Purge|Remove|x",
        "Nats-Rollup": "sub",
        "Nats-TTL": "1|never|x|-1",
        "Nats-Schedule": "@every 1s|@at 2026-01-05T09:30:00Z",
        "Nats-Schedule-Target": "quotes.0.AAA",
        "Nats-Service-Error": "unavailable|x",
        "Nats-Service-Error-Code": "503|200|x",
        "KV-Operation": "DEL|PURGE|x",
        "Status": "100|204|404|503",
        "Quotestream-Append": "x",
        "Quotestream-Asked-By": "x|",
        "Quotestream-Chain": "first|x",
        "Quotestream-Market-Sequence": f"x|{10**30}",
        "traceparent": "x|00-00000000000000000000000000000000-0000000000000000-01|00-"
        + "f" * 32
        + "-"
        + "f" * 16
        + "-01",
        "tracestate": "x|" + "a=b," * 40,
    }.items()
    for values in [values]
}
"""Headers that some reader relies on, with false or invalid values."""

ERR_CODES = [
    *(10003, 10005, 10008, 10014, 10023, 10028, 10037, 10039, 10047, 10049, 10052, 10058, 10059, 10060, 10065, 10070),
    *(10071, 10074, 10076, 10077, 10109, 10110, 10128, 10158, 10164, 10167, 10176, 0, -1, 10**30),
]
"""Error codes of the JetStream API, and some invalid ones."""

ANSWERED = 0.1
"""The share of a service's requests for which a forged message arrives before the reply."""

ODD_VALUES = [None, True, -1, 0, 7, 2**53, 10**30, 1.5, "", "x", "9" * 400, [], ["x"], {}, {"x": 1}, "\ud800"]


def _json(value: object) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


class Forger:
    """Forges messages.

    Attributes:
        made: the number of messages, by what is wrong with them.
    """

    def __init__(self, seed: int) -> None:
        self.made: dict[str, int] = {}
        self._chance = random.Random(seed)  # noqa: S311 # it must be reproducible

    def forged(self, connection: Connection, each: int) -> Iterator[bytes]:
        """Yield `each` messages for every current subscription of a connection, ready to be sent."""
        for subscription in list(connection._subscriptions):
            for _ in range(each):
                yield self._one(connection, subscription)

    def answer(self, connection: Connection, place: str) -> bytes | None:
        """Sometimes return a message in place of the reply that is awaited there, to be sent before the request."""
        if self._chance.random() > ANSWERED:
            return None
        self._count("before an answer")
        return self._chance.choice(self._kinds())(connection, place.encode())

    def _count(self, kind: str) -> None:
        self.made[kind] = self.made.get(kind, 0) + 1

    def _one(self, connection: Connection, subscription: Subscription) -> bytes:
        kinds = self._kinds()
        if "*" in subscription.subject:
            kinds.append(self.odd_subject)
        kind = self._chance.choice(kinds)
        self._count(kind.__name__)
        return kind(connection, self._address(connection, subscription.subject))

    def _kinds(self) -> list[Callable[[Connection, bytes], bytes]]:
        return [
            self.odd_headers,
            self.odd_reply,
            self.status,
            self.lying_headers,
            self.unreadable,
            self.api_error,
            self.acknowledgement,
            self.api_answer,
            self.delivery,
            self.no_inbox,
        ]

    def _address(self, connection: Connection, pattern: str) -> bytes:
        """Return a subject that matches a subscription; for replies often one on which a reply is awaited."""
        pick = self._chance.choice
        filled = []
        for token in pattern.split("."):
            awaited = [*connection.requests.pending, "x"] if pattern.startswith("_INBOX.") else ["AAA", "BBB", "ZZZ"]
            filled.append(pick(awaited) if token in ("*", ">") else token)
        return ".".join(filled).encode()

    def _reply(self) -> bytes:
        return self._chance.choice([b"", b"", b"_INBOX.forger.x", b"$JS.ACK.x", b"_R_.x"])

    # --- what is wrong ----------------------------------------------------------------------------------------------

    def odd_headers(self, _: Connection, to: bytes) -> bytes:
        """Invalid headers."""
        return frame(to, self._payload(), headers=self._chance.choice(list(ODD_HEADERS.values())), reply=self._reply())

    def odd_reply(self, _: Connection, to: bytes) -> bytes:
        """A reply subject that is not UTF-8, or contains white space."""
        return frame(to, self._payload(), reply=b"_INBOX.forger." + self._chance.choice(ODD_SUBJECTS))

    def odd_subject(self, _: Connection, to: bytes) -> bytes:
        """A subject that is not UTF-8, or contains white space."""
        return frame(to.rpartition(b".")[0] + b"." + self._chance.choice(ODD_SUBJECTS), self._payload())

    def status(self, _: Connection, to: bytes) -> bytes:
        """A status of JetStream, with headers that may come with it."""
        lines = b"NATS/1.0 " + self._chance.choice(STATUSES) + b"\r\n" + self._lies(self._chance.randrange(3)) + b"\r\n"
        return frame(to, headers=lines, reply=self._reply())

    def lying_headers(self, _: Connection, to: bytes) -> bytes:
        """Headers with false values that a reader might rely on."""
        lines = b"NATS/1.0\r\n" + self._lies(self._chance.randint(1, 4)) + b"\r\n"
        return frame(to, self._payload(), headers=lines, reply=self._reply())

    def unreadable(self, _: Connection, to: bytes) -> bytes:
        """A payload that is none of our messages, sometimes a large or a deeply nested one."""
        many = self._chance.random() < 0.05
        return frame(to, self._chance.choice([HUGE, DEEP]) if many else self._payload(), reply=self._reply())

    def api_error(self, _: Connection, to: bytes) -> bytes:
        """An error of the JetStream API."""
        code = self._chance.choice(ERR_CODES)
        text = self._chance.choice(["wrong last sequence: 0", "wrong last sequence: 99999999", "no", "x: " + "9" * 30])
        answer: dict[str, object] = {
            "error": {"code": self._odd(400, 404, 500, 503), "err_code": code, "description": text}
        }
        if self._chance.random() < 0.2:
            answer["error"] = self._chance.choice(ODD_VALUES)
        return frame(to, _json(answer), reply=self._reply())

    def acknowledgement(self, _: Connection, to: bytes) -> bytes:
        """An acknowledgement of another stream, of another domain, or of an invalid sequence."""
        wrong = self._chance.randrange(3)
        ack = {
            "stream": "NONE" if wrong == 0 else self._chance.choice(subjects.streams(2)),
            "domain": "other" if wrong == 1 else "",
            "seq": self._chance.choice([0, -1, "1", None, 1.5]) if wrong == 2 else self._chance.randrange(1, 50),
            "duplicate": self._chance.choice([True, False]),
        }
        return frame(to, _json(ack), reply=self._reply())

    def api_answer(self, _: Connection, to: bytes) -> bytes:
        """A reply of the JetStream API with odd values, or about a stream, message or consumer that does not exist."""
        info = {
            "config": self._odd({"name": "NONE", "num_replicas": self._odd(1), "max_bytes": self._odd(1)}),
            "created": self._odd("2026-01-05T09:30:00Z", "0001-01-01T00:00:00+14:00"),
            "ts": self._odd("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"),
            "state": self._odd({"messages": self._odd(1), "first_seq": 1, "last_seq": self._odd(1), "bytes": 1}),
            "cluster": self._odd({"replicas": [{"active": self._odd(1)}]}),
        }
        consumer = {
            "stream_name": "NONE",
            "name": self._odd("x"),
            "config": self._odd({}),
            "num_pending": self._odd(1),
            "delivered": self._odd({"consumer_seq": self._odd(1)}),
        }
        message = {
            "message": self._odd(
                {
                    "subject": "none",
                    "seq": self._odd(10**9),
                    "time": self._odd("x"),
                    "data": self._odd("!"),
                    "hdrs": "_",
                }
            )
        }
        return frame(to, _json(self._chance.choice([info, consumer, message])), reply=self._reply())

    def delivery(self, connection: Connection, to: bytes) -> bytes:
        """A consumer's delivery, from another consumer, stream or domain, or with invalid numbers."""
        place = self._chance.choice(
            ["MARKET-0.x", "EXPOSURE.x", "dom.hash.MARKET-0.x", "NONE.x", connection.requests.inbox, ""]
        )
        numbers = [str(self._chance.choice([0, 1, 2, -1, 10**30, "x", "", "²"])) for _ in range(5)]
        return frame(to, self._payload(), reply=f"$JS.ACK.{place}.{'.'.join(numbers)}".replace("..", ".x.").encode())

    def no_inbox(self, _: Connection, to: bytes) -> bytes:
        """A request whose reply subject is not an inbox."""
        reply = self._chance.choice(
            [b"exposure.decisions", b"$KV.switches.quoting", b"fills.0.AAA", b"rpc.exposure.usage"]
        )
        return frame(to, self._payload(), reply=reply)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _payload(self) -> bytes:
        return self._chance.choice([each for each in UNDECODABLE.values() if len(each) < 1_000])

    def _odd(self, *values: object) -> object:
        """Return one of these values, or sometimes an odd one."""
        return self._chance.choice(values if self._chance.random() < 0.7 else ODD_VALUES)

    def _lies(self, count: int) -> bytes:
        names = self._chance.choices(list(LIES), k=count)
        return b"".join(b"%b: %b\r\n" % (name, self._chance.choice(LIES[name])) for name in names)
