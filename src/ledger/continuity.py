"""Checks that the market log still holds what a ledger has applied: part of it may have been lost meanwhile.

A log that has lost its end assigns the same sequences again. So its end must not be before the applied sequence, and
the message of the last applied fill must still contain that fill.
"""

import msgspec

from jet import api
from jet.connection import Connection
from ledger.positions import Account
from wire import subjects
from wire.orders import RecordedFill

_decoder = msgspec.json.Decoder(list[RecordedFill])

REPAIR_HINT = 'see "The market log has lost messages" in docs/operations.md'


async def find_loss(connection: Connection, shard: int, applied: int, last: Account | None) -> str:
    """Return which applied messages the log has lost, and where the repair is described; empty if it holds them all.

    Args:
        connection: to the broker.
        shard: of the log.
        applied: the last applied sequence.
        last: the account with the newest fill of the shard (`newest_account`); None if there are no fills.

    Raises:
        ApiError, nats.errors.Error, TimeoutError: the broker does not answer.
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


def newest_account(accounts: list[Account], shard: int, shards: int) -> Account | None:
    """Return the account with the newest fill of a shard; None if the shard has no fills."""
    own = [each for each in accounts if each.sequence and subjects.shard_of(each.symbol, shards) == shard]
    return max(own, key=lambda account: account.sequence, default=None)


def _fills(payload: bytes) -> list[RecordedFill]:
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
