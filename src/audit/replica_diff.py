"""Compares the replicas of a cluster's servers.

Of running servers it compares the amounts that each reports for every stream, because a reader cannot choose the
replica that it reads. Of stopped servers it compares every message of every replica, byte for byte.

A replica that ends before the others lags: this is normal in a cluster, and no contradiction. As its missing messages
cannot be compared, the verdict is then "not checkable".
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import aiohttp

from audit.findings import Findings, Status, Verdict
from jet.tail import Message
from recorded import streams
from stack.stored_streams import StoredStream, stored_streams

PATIENCE = 10.0
"""Seconds within which running servers must report the same."""

POLL = 0.1
"""Seconds between two requests to a server."""

ANSWER_TIMEOUT = 2.0
"""Seconds after which a request to a server fails."""

EXPIRY = timedelta(seconds=1)
"""The largest difference between servers in the time at which a message expires."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([hms])")
_UNITS = {"h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}


@dataclass(slots=True)
class Reports:
    """All reports of the servers about one stream, by server. A stream grows between the reports, so servers agree if
    there is a state that each of them has reported at some time.
    """

    servers: frozenset[str]
    held: dict[str, set[StoredStream]] = field(default_factory=lambda: defaultdict(set))

    @property
    def agreed(self) -> StoredStream | None:
        """The newest state that all servers have reported; None if there is none."""
        common = set.intersection(*(self.held[server] for server in self.servers))
        return max(common, default=None)

    def judge(self, stream: str, found: Findings) -> str:
        """Compare the servers, and add any contradiction to `found`. Return why they cannot be compared, or empty."""
        if self.agreed is not None:
            return ""
        if silent := [server for server in sorted(self.servers) if not self.held[server]]:
            return f"{stream}: {', '.join(silent)} did not report"
        common = set.intersection(*({held.last_seq for held in self.held[server]} for server in self.servers))
        if not common:
            ends = {server: max(self.held[server]).last_seq for server in sorted(self.servers)}
            return f"{stream}: {_lag(ends)}"
        end = max(common)
        text = [
            f"{server} holds {max(held for held in self.held[server] if held.last_seq == end)}"
            for server in sorted(self.servers)
        ]
        found.elsewhere(stream, "; ".join(text), sequence=end)
        return ""


async def of_running(monitors: Mapping[str, str], patience: float = PATIENCE) -> Verdict:
    """Compare the reports of running servers. `monitors` are the addresses of their monitoring ports, by name."""
    servers = frozenset(monitors)
    reports: dict[str, Reports] = defaultdict(lambda: Reports(servers))
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT)) as http:
        while True:
            answers = await asyncio.gather(*(_held_by(http, address) for address in monitors.values()))
            for server, answer in zip(monitors, answers, strict=True):
                for stream, held in answer.items():
                    reports[stream].held[server].add(held)
            if (reports and all(of.agreed for of in reports.values())) or loop.time() > give_up:
                break
            await asyncio.sleep(POLL)
    found = Findings()
    remarks = [reports[stream].judge(stream, found) for stream in sorted(reports)]
    messages = sum(of.agreed.messages for of in reports.values() if of.agreed is not None)
    text = f"{messages:,} messages of {len(reports)} streams on {_list(servers)}, by the counts that each reports"
    return _verdict(found, remarks if reports else ["no server reported anything"], text)


async def _held_by(http: aiohttp.ClientSession, monitor: str) -> dict[str, StoredStream]:
    """Request a server's report, by stream; empty if it does not answer."""
    try:
        async with http.get(f"{monitor}/jsz", params={"streams": "true"}) as response:
            return stored_streams(await response.read())
    except (TimeoutError, aiohttp.ClientError, OSError):
        return {}


async def of_stores(copies: Mapping[str, str], missing: Collection[str], written: datetime) -> Verdict:
    """Compare the stores of stopped servers.

    Args:
        copies: the addresses that serve copies of the stores, by the name of the server.
        missing: the servers without a store.
        written: when the stores were last written to.

    Raises:
        CannotRead: a copy cannot be read.
    """
    found = Findings()
    remarks = [f"there is no store of {server}" for server in sorted(missing)]
    compared = 0
    async with AsyncExitStack() as exits:
        connections = {server: await exits.enter_async_context(streams.connect(url)) for server, url in copies.items()}
        ends = {server: await streams.last_sequences(connection) for server, connection in connections.items()}
        names = sorted({stream for own in ends.values() for stream in own})
        for stream in names:
            own_ends = {server: ends[server].get(stream, 0) for server in copies}
            async with AsyncExitStack() as readers:
                messages = {
                    server: await readers.enter_async_context(
                        aclosing(streams.messages(connections[server], stream, end))
                    )
                    for server, end in own_ends.items()
                }
                compared += await compare(stream, messages, own_ends, written, found)
            if len(set(own_ends.values())) > 1:
                remarks.append(f"{stream}: {_lag(own_ends)}")
    text = f"{compared:,} messages of {len(names)} streams on {_list(copies)}, read in full, byte for byte"
    return _verdict(found, remarks, text)


async def compare(
    stream: str,
    copies: Mapping[str, AsyncIterator[Message]],
    ends: Mapping[str, int],
    written: datetime,
    found: Findings,
) -> int:
    """Compare copies of one stream, each in order of sequence and up to its end. Return the number of messages.

    A copy that lags may still have a message that longer copies have replaced by a later one, so a message that only
    longer copies lack is no contradiction. Neither is a message that had expired on some servers but not on others when
    they were last `written`, because each server expires messages by its own clock.
    """
    heads = {server: await anext(messages, None) for server, messages in copies.items()}
    count = 0
    while waiting := {server: head for server, head in heads.items() if head is not None}:
        sequence = min(head.sequence for head in waiting.values())
        holders = {server: head for server, head in waiting.items() if head.sequence == sequence}
        count += 1
        first, message = next(iter(holders.items()))
        others = {
            server: ", ".join(differing)
            for server, other in holders.items()
            if (differing := _differing(message, other))
        }
        furthest = max(ends[server] for server in holders)
        lacking = [server for server in copies if server not in holders and sequence <= ends[server] <= furthest]
        if lacking and (ttl := _ttl(message)) is not None and message.time + ttl < written + EXPIRY:
            lacking = []
        if others or lacking:
            text = [f"{server} holds another {differing} than {first}" for server, differing in others.items()]
            text += [f"{server} does not hold it, {_list(holders)} do" for server in lacking]
            found.elsewhere(stream, "; ".join(text), sequence=sequence, subject=message.subject)
        for server in holders:
            heads[server] = await anext(copies[server], None)
    return count


def not_checkable(why: str) -> Verdict:
    """Return the verdict if nothing can be compared."""
    return _verdict(Findings(), [why], "nothing")


def _ttl(message: Message) -> timedelta | None:
    """Return a message's time to live by its header: in seconds, or as the server writes it, such as `1m0s`."""
    text = (message.headers or {}).get("Nats-TTL", "")
    if text.isdecimal():
        return timedelta(seconds=int(text))
    parts = _DURATION.findall(text)
    return sum((float(number) * _UNITS[unit] for number, unit in parts), timedelta()) if parts else None


def _differing(one: Message, other: Message) -> list[str]:
    """Return the parts in which two messages with the same sequence differ."""
    parts = ("subject", "time", "headers", "data")
    return [part for part in parts if getattr(one, part) != getattr(other, part)]


def _lag(ends: Mapping[str, int]) -> str:
    furthest = max(ends.values())
    late = [f"{server} ends at {end}" for server, end in ends.items() if end < furthest]
    return f"{', '.join(late)}, and the furthest at {furthest}"


def _verdict(found: Findings, remarks: list[str], checked: str) -> Verdict:
    remarks = [remark for remark in remarks if remark]
    status = Status.REFUTED if found.count else Status.NOT_CHECKABLE if remarks else Status.PROVED
    return Verdict(
        code="copy",
        statement="Every server of the cluster holds the same messages.",
        status=status,
        checked=checked,
        remarks=remarks,
        findings=found.kept,
        contradictions=found.count,
    )


def _list(servers: Collection[str]) -> str:
    return ", ".join(sorted(servers))
