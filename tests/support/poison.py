"""Messages that none of our services writes, and functions that store them."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from jet import api
from jet.connection import Connection
from support.builders import position_update, quote_activated, recorded_fill
from support.waiting import HANG, STACK_HANG, eventually
from wire import subjects
from wire.orders import RecordedFill

DEEP = b"[" * 60_000
HUGE = b'{"a":"' + b"x" * 900_000 + b'"}'

UNDECODABLE = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"type":"\xff\xfe"}',
    "another kind": b'{"stream":"MARKET-0","seq":1}',
    "null": b"null",
    "no fills": b"[]",
    "deeply nested": DEEP,
    "nested before its tag": b'{"x":' + DEEP,
    "nested in an array": b"[" + DEEP,
    "huge": HUGE,
}
"""Payloads that are none of our messages."""


def quote_poison(symbol: str, other: str) -> Iterator[tuple[str, bytes]]:
    """Yield quote events that must not become the quote of `symbol`, with what is wrong with each."""
    yield from ((name, payload) for name, payload in UNDECODABLE.items() if name != "no fills")
    whole = quote_activated(symbol, quote_id="poison", position_version=2**50)
    changes: dict[str, object] = {
        "a price that is none": {"ask_price": "sNaN"},
        "a price below zero": {"bid_price": "-1"},
        "an endless price": {"ask_price": "1e999999"},
        "the first day there is": {"expires_at": "0001-01-01T00:00:00+14:00"},
        "the last day there is": {"expires_at": "9999-12-31T23:59:59-14:00"},
        "another symbol": {"symbol": other},
        "a field more": {"more": 1},
    }
    for name, change in changes.items():
        yield name, changed(whole, change, type="activated")


def fill_poison(symbol: str, other: str, known: RecordedFill | None) -> Iterator[tuple[str, bytes]]:
    """Yield fills messages that must not change the position of `symbol`, whose last fill is `known`."""
    yield from UNDECODABLE.items()
    number = known.number if known else 0
    ahead = recorded_fill(symbol, number + 1, fill_id=f"poison-{number}")
    yield "another symbol", b"[" + changed(ahead, {"symbol": other}) + b"]"
    yield "a limit that is none", b"[" + changed(ahead, {"limit_price": "sNaN"}) + b"]"
    yield "the last day there is", b"[" + changed(ahead, {"created_at": "9999-12-31T23:59:59-14:00"}) + b"]"
    yield "a gap within", b"[" + msgspec.json.encode(ahead) + b"," + changed(ahead, {"number": number + 3}) + b"]"
    if known:
        yield "a number again", b"[" + changed(known, {"fill_id": "poison-again", "quantity": 7}) + b"]"


def position_poison(symbol: str, other: str) -> Iterator[tuple[str, bytes]]:
    """Yield positions that are not valid for `symbol`."""
    yield from ((name, payload) for name, payload in UNDECODABLE.items())
    far = position_update(symbol, position_version=2**50)
    yield "another symbol", changed(far, {"symbol": other})
    yield "too many lots", changed(far, {"net_quantity": 10**30})
    yield "the last day there is", changed(far, {"updated_at": "9999-12-31T23:59:59-14:00"})


def changed(message: msgspec.Struct, change: object, **more: object) -> bytes:
    """Encode a message with fields that its type does not allow."""
    return msgspec.json.encode({**msgspec.to_builtins(message), **more, **dict(change)})  # type: ignore[call-overload]


async def publish(connection: Connection, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> int:
    """Store any message in a stream, and resend it if the connection was lost. Return its sequence."""

    async def stored() -> int:
        ack = await connection.request(subject, payload, timeout=HANG, headers=headers)
        return int(msgspec.json.decode(ack.data)["seq"])

    return await eventually(stored, STACK_HANG)


async def head(connection: Connection, stream: str) -> int:
    """Return the sequence of a stream's last message."""
    return (await api.stream_info(connection, stream)).state.last_seq


def wrong_shard(symbol: str, shards: int) -> int:
    """Return a shard that the symbol does not belong to."""
    return (subjects.shard_of(symbol, shards) + 1) % shards


def resident(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
