"""The reference of the latency benchmarks: compare-and-appends one after the other, each synced to the disk."""

import time

import msgspec

from bench.noop import example
from bench.stage import Stage
from jet import api, journal
from jet.connection import Connection
from jet.journal import Appended, Compare

STREAM = "BENCH"


class Appender:
    """Appends to its own stream on a stage's NATS server, with the configuration of a shard of the market log."""

    def __init__(self, stage: Stage) -> None:
        self._replicas = stage.settings.market.replicas
        self._payload = msgspec.json.encode(example("reference").fills)
        self._head = 0

    async def prepare(self, connection: Connection) -> None:
        """Create the stream."""
        config = {
            "name": STREAM,
            "subjects": ["bench.*"],
            "storage": "file",
            "num_replicas": self._replicas,
            "allow_direct": True,
            "discard": "new",
            "deny_delete": True,
            "deny_purge": True,
        }
        await api.request(connection, f"STREAM.CREATE.{STREAM}", config, dict, timeout=5.0)

    async def milliseconds(self, connection: Connection, seconds: float, chain: int = 1) -> list[float]:
        """Measure for `seconds` how many milliseconds `chain` appends in a row take. Return the sorted values."""
        found: list[float] = []
        until = time.monotonic() + seconds
        while (started := time.perf_counter()) and time.monotonic() < until:
            for _ in range(chain):
                await self._append(connection)
            found.append((time.perf_counter() - started) * 1000)
        return sorted(found)

    async def _append(self, connection: Connection) -> None:
        outcome = await journal.append(
            connection,
            STREAM,
            "bench.one",
            self._payload,
            msg_id=f"bench-{self._head}",
            compare=Compare(self._head, "bench.one"),
        )
        assert isinstance(outcome, Appended)  # noqa: S101 # there is no other writer
        self._head = outcome.sequence
