"""Whether the market log still holds what a ledger has applied of it: part of it may have been lost while it was down.

A log that has lost its end gives the numbers of its messages out again. So the end must not be before what was applied,
and the message of the last fill applied must still be the one with that fill.
"""

import msgspec

from jet import api
from jet.connection import Connection
from ledger.positions import Account
from wire import subjects
from wire.orders import RecordedFill

_decoder = msgspec.json.Decoder(list[RecordedFill])

REPAIR_HINT = 'see "The market log has lost messages" in docs/operations.md'


async def lost(connection: Connection, shard: int, applied: int, last: Account | None) -> str:
    """What the log has lost of what was applied, and where it says what to do; empty if it holds it.

    Args:
        connection: to the broker.
        shard: of the log.
        applied: the sequence applied last.
        last: the account whose last fill is the newest of the shard; None if none has any.

    Raises:
        ApiError, nats.errors.Error, TimeoutError: the broker does not tell.
    """
    stream = subjects.market_stream(shard)
    end = (await api.stream_info(connection, stream)).state.last_seq
    if end < applied:
        return f"{stream} ends at {end:,}, and this ledger has applied it up to {applied:,}; {REPAIR_HINT}"
    if last is None or last.last_fill is None:
        return ""
    found = await api.get_message(connection, stream, {"seq": last.sequence})
    known = (last.last_fill.number, last.last_fill.fill)
    if found is None or known not in [(each.number, each.fill) for each in _fills(found.payload)]:
        return f"{stream} does not hold {last.last_fill.fill_id} at {last.sequence:,}, as it did before; {REPAIR_HINT}"
    return ""


def newest(accounts: list[Account], shard: int, shards: int) -> Account | None:
    """The account of a shard whose last fill came last; None if there is none."""
    own = [each for each in accounts if each.sequence and subjects.shard_of(each.symbol, shards) == shard]
    return max(own, key=lambda account: account.sequence, default=None)


def _fills(payload: bytes) -> list[RecordedFill]:
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
