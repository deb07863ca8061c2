"""What the ledgers of this stack have applied, and whether the market log still holds it, and is whole.

An exchange keeps nothing of its own. If the log and the published positions are lost together, as with the folder of
the NATS server, it would begin anew and give out numbers and ids that the ledgers know. So `prepare` looks before it
declares a stream: without streams nothing is decided.
"""

import asyncio
import sqlite3
from pathlib import Path

from jet import api
from jet.connection import Connection
from jet.stream_integrity import REPAIR_HINT as DAMAGE_HINT
from ledger import checksums
from process.settings import tables
from stack.instances import LEDGER_DATABASE
from stack.settings import StackSettings
from wire import subjects

REPAIR_HINT = 'see "The market log has lost messages" in docs/operations.md'

PATIENCE = 10
"""Looks, a second apart, at a replicated log: one of its servers that leads no more may name an end of the past."""


def applied_sequences(database: Path) -> dict[int, int]:
    """The sequence that a ledger has applied, by shard. Nothing if its database is not there, or cannot be read, and
    no row that is not as it was written: then the ledger itself says so.
    """
    try:
        connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT shard, sequence, sum FROM applied").fetchall()
            return {
                shard: sequence for shard, sequence, total in rows if checksums.of_rows([(shard, sequence)]) == total
            }
        finally:
            connection.close()
    except sqlite3.Error:
        return {}


def ledger_databases(settings: StackSettings) -> list[Path]:
    """The databases of all ledgers that have run."""
    first = settings.data / tables().get("ledger", {}).get("database", LEDGER_DATABASE)
    return sorted(first.parent.glob(f"{first.stem}*{first.suffix}"))


async def missing_applied(connection: Connection, settings: StackSettings) -> str:
    """What the market log has lost of what a ledger has applied, and where it says what to do; empty if nothing.

    Raises:
        TimeoutError: the broker does not answer.
        ApiError: it refuses to tell.
    """
    looks = PATIENCE if settings.market.replicas > 1 else 1
    for look in range(looks):
        await asyncio.sleep(1.0 if look else 0.0)
        problem = await _missing_applied(connection, settings)
        if not problem:
            break
    return problem


async def find_gap(connection: Connection, shards: int) -> str:
    """What is missing within the market log, and where it says what to do; empty if nothing. Nothing is ever deleted
    there, so that is what a server could not read of its store.

    Raises:
        TimeoutError: the broker does not answer.
        ApiError: it refuses to tell.
    """
    for stream in map(subjects.market_stream, range(shards)):
        if problem := describe_gap(stream, (await api.stream_info(connection, stream)).state):
            return problem
    return ""


def describe_gap(stream: str, state: api.StreamState) -> str:
    """What is missing within a shard of the market log; empty if nothing."""
    count = state.last_seq - state.messages
    if count <= 0:
        return ""
    missing = "a message is" if count == 1 else f"{count:,} messages are"
    return f"{missing} missing before the end of {stream}: its store is damaged; {DAMAGE_HINT}"


async def _missing_applied(connection: Connection, settings: StackSettings) -> str:
    for database in ledger_databases(settings):
        for shard, sequence in applied_sequences(database).items():
            stream = subjects.market_stream(shard)
            end = await _end(connection, stream)
            if end < sequence:
                return f"{stream} ends at message {end:,}, and {database} has applied {sequence:,}; {REPAIR_HINT}"
    return ""


async def _end(connection: Connection, stream: str) -> int:
    try:
        return (await api.stream_info(connection, stream)).state.last_seq
    except api.ApiError as error:
        if error.err_code == api.STREAM_NOT_FOUND:
            return 0
        raise
