"""Check that the market log still holds everything that this stack's ledgers have applied, and that it has no gap.

An exchange stores nothing itself. If the log and the published positions are lost together, as with the folder of the
NATS server, it would start from nothing and assign numbers and ids that the ledgers already have. So `prepare` checks
this before it declares a stream: without streams no service decides anything.
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

ATTEMPTS = 10
"""Checks of a replicated log, one second apart: a server that is no longer its leader may report a stale end."""


def applied_sequences(database: Path) -> dict[int, int]:
    """Return the last sequence that a ledger has applied, by shard.

    Empty if its database does not exist or cannot be read. A row that fails its checksum is left out. In both cases the
    ledger itself reports the fault.
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
    """Return the databases of all ledgers that have run."""
    first = settings.data / tables().get("ledger", {}).get("database", LEDGER_DATABASE)
    return sorted(first.parent.glob(f"{first.stem}*{first.suffix}"))


async def missing_applied(connection: Connection, settings: StackSettings) -> str:
    """Describe which applied messages the market log has lost, and what to do; empty if none.

    Raises:
        TimeoutError: the broker does not answer.
        ApiError: the broker refuses the request.
    """
    attempts = ATTEMPTS if settings.market.replicas > 1 else 1
    for attempt in range(attempts):
        await asyncio.sleep(1.0 if attempt else 0.0)
        problem = await _missing_applied(connection, settings)
        if not problem:
            break
    return problem


async def find_gap(connection: Connection, shards: int) -> str:
    """Describe a gap in the market log, and what to do; empty if there is none.

    Nothing is ever deleted from the log, so a missing message is one that a server could not read from its store.

    Raises:
        TimeoutError: the broker does not answer.
        ApiError: the broker refuses the request.
    """
    for stream in map(subjects.market_stream, range(shards)):
        if problem := describe_gap(stream, (await api.stream_info(connection, stream)).state):
            return problem
    return ""


def describe_gap(stream: str, state: api.StreamState) -> str:
    """Describe the messages that are missing in a shard of the market log; empty if there are none."""
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
