"""The rule for which fills of the market log count. Every reader applies it. Pure.

A message is one commit of one writer, so either all of its fills count or none. The first row that applies decides:

| the message                                                      | verdict         |
| ---------------------------------------------------------------- | --------------- |
| cannot be read, or holds no fills                                | unreadable      |
| is not on the subject and in the shard of its symbol's fills     | misplaced       |
| holds a fill of another symbol                                   | misplaced       |
| begins at or before the number of the last fill that counts      | repeated number |
| does not go on from that number, one by one                      | skipped number  |
| has a fill whose id is not that of its symbol and number         | contradicts     |
| has a reported fill whose id is one that only an exchange gives  | contradicts     |
| names an id twice, or more than one quote or origin              | contradicts     |
| otherwise                                                        | it counts       |

The exchange derives ids from numbers, so that none can occur twice. The reporter of a fill chooses its id; before the
ledger records it, it checks that the log has no such id up to the head that it appends to.

A message that does not count is quarantined: it moves the head of its symbol's log, and changes nothing else.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import msgspec

from wire import ids, subjects
from wire.fields import DECODE_ERRORS
from wire.orders import RecordedFill

_decoder = msgspec.json.Decoder(list[RecordedFill])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_fill = msgspec.json.Decoder(RecordedFill)


class Reason(StrEnum):
    """Why a message does not count."""

    UNREADABLE = "unreadable"
    MISPLACED = "misplaced"
    CONTRADICTS = "contradicts"
    REPEATED_NUMBER = "repeated number"
    SKIPPED_NUMBER = "skipped number"


class Fault(NamedTuple):
    """Why a message does not count: the reason, and the facts for people."""

    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class Reading(NamedTuple):
    """The fills of a message, as far as they can be read, and any fault that does not depend on earlier messages."""

    fills: list[RecordedFill]
    fault: Fault | None = None


def read(subject: str, payload: bytes, shards: int) -> Reading:
    """Read a message of fills from a market log with `shards` shards."""
    return _read(_decoder.decode, subject, payload, shards)


def read_last(subject: str, payload: bytes, shards: int) -> Reading:
    """Read only the last fill of a message that is known to count. A fold needs no more to begin."""
    return _read(_last, subject, payload, shards)


def _last(payload: bytes) -> list[RecordedFill]:
    return [_fill.decode(raw) for raw in _raws.decode(payload)[-1:]]


def _read(decode: Callable[[bytes], list[RecordedFill]], subject: str, payload: bytes, shards: int) -> Reading:
    try:
        fills = decode(payload)
    except DECODE_ERRORS as error:
        return Reading([], Fault(Reason.UNREADABLE, str(error)))
    if not fills:
        return Reading(fills, _EMPTY)
    if subject != _home(subjects.last_token(subject), shards):
        return Reading(fills, Fault(Reason.MISPLACED, f"{subject} is not where the fills of its symbol belong"))
    return Reading(fills)


def judge(symbol: str, fills: Sequence[RecordedFill], number: int | None) -> Fault | None:
    """Return why the fills of a message do not count; None if they do.

    Args:
        symbol: the symbol whose log contains the message.
        fills: the fills of the message.
        number: the number of the symbol's last fill that counts, 0 before any; None if it is unknown because a fold
            begins with this message.
    """
    if not fills:
        return _EMPTY
    first = fills[0]
    expected = first.number if number is None else number + 1
    quote_id, origin = first.quote_id, first.origin
    contradiction = ""
    named: set[str] = set()
    for fill in fills:
        if fill.symbol != symbol:
            return Fault(Reason.MISPLACED, f"a fill of {fill.symbol} is in the log of {symbol}")
    if first.number < expected:
        return Fault(Reason.REPEATED_NUMBER, f"number {first.number} came where {expected} is next")
    for due, fill in enumerate(fills, expected):
        if fill.number != due:
            return Fault(Reason.SKIPPED_NUMBER, f"number {fill.number} came where {due} is next")
        if contradiction:
            continue
        if fill.origin == "exchange":
            if fill.fill_id != ids.fill_id(symbol, due):
                contradiction = f"{fill.fill_id} is not the id of number {due}"
        elif ids.fill_number(symbol, fill.fill_id) is not None:
            contradiction = f"{fill.fill_id} is reported, under an id that only the exchange gives"
        elif fill.fill_id in named:
            contradiction = f"the message names {fill.fill_id} twice"
        if fill.quote_id != quote_id or fill.origin != origin:
            contradiction = contradiction or "the fills of one message are of several quotes or origins"
        named.add(fill.fill_id)
    return Fault(Reason.CONTRADICTS, contradiction) if contradiction else None


_EMPTY = Fault(Reason.UNREADABLE, "the message holds no fills")


@lru_cache(maxsize=65_536)
def _home(symbol: str, shards: int) -> str:
    """Return the subject of a symbol's fills."""
    return subjects.fills(subjects.shard_of(symbol, shards), symbol)
