"""Reads the state of a cluster of NATS servers: which one leads a stream, and whether every replica is complete."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from audit import replica_diff
from audit.findings import Status
from jet import api
from jet.connection import Connection
from process.health import Health

ANSWER_TIMEOUT = 2.0
"""Seconds within which a server must accept a connection and reply; otherwise another server is tried."""

POLL = 0.2


class Cluster:
    """The servers: their addresses, their monitoring addresses, and the streams that all of them hold."""

    def __init__(self, url: str, monitors: Mapping[str, str], streams: Sequence[str], seed: Path | None = None) -> None:
        """`seed` is the file with the key, as for `Connection`."""
        self._url = url
        self._seed = seed
        self._monitors = monitors
        self.streams = streams

    async def leader(self, stream: str, patience: float) -> str | None:
        """Return the server that leads a stream now; None if there is none within `patience` seconds."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            groups = await self._groups([stream])
            if groups and groups[stream].leader:
                return groups[stream].leader
            await asyncio.sleep(POLL)
        return None

    async def until_complete(self, patience: float) -> list[str]:
        """Wait until every server holds all of every stream. Return what is missing after `patience` seconds."""
        deadline = time.monotonic() + patience
        while True:
            groups = await self._groups(self.streams)
            missing = self._missing(groups) if groups else ["no server reports the streams"]
            if not missing:
                verdict = await replica_diff.of_running(self._monitors, patience=1.0)
                if verdict.status is Status.PROVED:
                    return []
                missing = verdict.remarks + [finding.detail for finding in verdict.findings]
            if time.monotonic() > deadline:
                return missing
            await asyncio.sleep(POLL)

    def _missing(self, groups: Mapping[str, api.Group]) -> list[str]:
        """List the servers that are not known to have all of a stream."""
        found = []
        for stream, group in groups.items():
            current = {peer.name for peer in group.replicas if peer.current and not peer.offline and not peer.lag}
            late = self._monitors.keys() - current - {group.leader}
            found += [f"{stream}: {server} lags" for server in sorted(late)]
        return found

    async def _groups(self, streams: Sequence[str]) -> dict[str, api.Group]:
        """Return the replicas of each stream, as reported by its leader; empty if not all leaders reply."""
        try:
            connecting = Connection(self._url, "chaos", Health("chaos"), self._seed)
            async with asyncio.timeout(ANSWER_TIMEOUT), connecting as connection:
                return {
                    stream: (await api.stream_info(connection, stream)).cluster or api.Group() for stream in streams
                }
        except (*api.NO_REPLY, OSError):
            return {}
