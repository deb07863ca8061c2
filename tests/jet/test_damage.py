"""Damage in the store of a NATS server: a changed byte, a file that was cut. Every message can be read as it was
written, or the damage is reported; and no position ever differs from the sum of its fills.
"""

import asyncio
import os
import random
from collections import defaultdict
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from audit import findings as auditing
from audit.completeness import Completeness
from audit.findings import Findings
from audit.hash_chain import Chain
from exchange import continuity
from jet import api, journal, stream_usage, topology
from jet.bootstrap import is_quote_event
from jet.connection import Connection
from jet.journal import Appended, Compare
from jet.tail import FromSequence, LastPerSubject, Message, Start, Tail
from ledger.positions import Books, fold, read
from process.health import Health
from recorded import market_log
from recorded.market_log import MarketLog
from recorded.streams import CannotRead
from stack import log_check
from stack.damage import damage_in
from stack.truncate import truncate
from support.broker import NatsServer, PatientConnection
from support.builders import quote_activated, recorded_fill
from support.waiting import HANG
from wire import chain, fill_validation, subjects

pytestmark = pytest.mark.long

PLACES = int(os.environ.get("QS_DAMAGED_PLACES", "200"))
"""How many shards have a changed byte; a tenth as many are cut."""

CUTS = PLACES // 10
SHARDS = PLACES + CUTS
SEED = int(os.environ.get("QS_DAMAGE_SEED", "14"))
FILLS = 8

START_TIMEOUT = 15.0
"""Seconds that a server may take to start."""


def symbol_in(shard: int) -> str:
    """Return a symbol whose home is this shard."""
    return next(name for number in range(100_000) if subjects.shard_of(name := f"S{number}", SHARDS) == shard)


@dataclass
class Shard:
    """One shard of the log: its messages, the damage, and what is reported about it."""

    number: int
    symbol: str
    written: list[Message] = field(default_factory=list)
    harm: str = ""
    reports: list[str] = field(default_factory=list)

    @property
    def stream(self) -> str:
        return subjects.market_stream(self.number)

    def folder(self, server: NatsServer) -> Path:
        return server.folder / "store" / "jetstream" / "$G" / "streams" / self.stream

    def position(self, messages: list[Message]) -> tuple[int, int]:
        """Return the version and the net quantity of a ledger that is built from these messages."""
        deliveries = [
            read(self.number, SHARDS, message.subject, message.sequence, message.data)
            for message in messages
            if message.subject.startswith("fills.")
        ]
        changes = fold(Books(), {}, deliveries)
        account = changes.accounts.get(self.symbol)
        return (account.version, account.net_quantity) if account else (0, 0)


async def write(connection: Connection, shard: Shard) -> None:
    """Append quotes and fills, each on the head of its subject, as services do."""
    both = f"*.{shard.number}.{shard.symbol}"
    head, before = 0, chain.FIRST
    for number in range(1, FILLS + 1):
        fill = recorded_fill(shard.symbol, number, side="sell" if number % 3 else "buy")
        written = {subjects.fills(shard.number, shard.symbol): msgspec.json.encode([fill])}
        if number % 3 == 1:
            quote = quote_activated(symbol=shard.symbol, quote_id=f"{shard.symbol}-q{number}")
            written = {subjects.quotes(shard.number, shard.symbol): msgspec.json.encode(quote), **written}
        for subject, payload in written.items():
            outcome = await journal.append(
                connection,
                shard.stream,
                subject,
                payload,
                msg_id=f"{shard.symbol}-{number}-{subject}",
                compare=Compare(head, both),
                headers={chain.HEADER: before},
            )
            assert isinstance(outcome, Appended)
            head, before = outcome.sequence, chain.link(outcome.sequence, subject, outcome.headers, payload)


def content(message: Message) -> tuple[str, int, datetime, bytes]:
    """Return what counts of a message. No checksum covers the end of the headers: an extra line break is harmless."""
    return message.subject, message.sequence, message.time, message.data.strip()


def is_usable(message: Message) -> bool:
    """True if services accept a message, and do not quarantine it."""
    if message.subject.startswith("quotes."):
        return is_quote_event(message)
    return fill_validation.read(message.subject, message.data, SHARDS)[1] is None


def harm(shard: Shard, folder: Path, chance: random.Random) -> None:
    """Flip one bit anywhere in the files of a shard, or cut a block. Every other shard looks as after a kill."""
    if shard.number % 2:
        (folder / "msgs" / "index.db").unlink(missing_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = chance.choices(files, [path.stat().st_size for path in files])[0]
    data = bytearray(path.read_bytes())
    if shard.number < PLACES:
        place = chance.randrange(len(data))
        data[place] ^= 1 << chance.randrange(8)
        shard.harm = f"{path.name} at {place} of {len(data)}"
    else:
        path = folder / "msgs" / "1.blk"
        data = bytearray(path.read_bytes())
        del data[-chance.choice([1, 40, len(data) // 2]) :]
        shard.harm = f"{path.name} cut to {len(data)}"
    path.write_bytes(data)


async def followed(connection: Connection, health: Health, shard: Shard, start: Start) -> list[Message] | None:
    """Return what a follower yields until it is current; None if it reports damage, which is recorded."""
    filters = [subjects.quotes(shard.number, "*"), subjects.fills(shard.number, "*")]
    found: list[Message] = []
    tail = Tail(connection, shard.stream, filters, start, name="test")
    try:
        async with asyncio.timeout(HANG / 3), aclosing(tail.batches()) as batches:  # type: ignore[type-var] # a generator
            async for batch in batches:
                found += batch
                why = {each.name: each.reason for each in health.report().waiting_for}.get(shard.stream)
                if why:
                    shard.reports.append(why)
                    return None
                if tail.current:
                    return found
    except TimeoutError:  # then it is not ready, and reports that
        shard.reports.append("not read to its end")
    return None


async def audited(connection: Connection, shards: list[Shard]) -> dict[str, list[str]]:
    """Return the audit's findings about each shard of a log whose fills a ledger has applied."""
    stuck: list[str] = []
    while True:
        try:
            return await _audited(connection, [shard for shard in shards if shard.stream not in stuck])
        except CannotRead as error:
            named = [
                shard.stream for shard in shards if f"{shard.stream} " in f"{error} " and shard.stream not in stuck
            ]
            if not named:
                raise
            stuck += named


async def _audited(connection: Connection, shards: list[Shard]) -> dict[str, list[str]]:
    completeness, broken = Completeness(), Findings()
    chains = {shard.number: Chain(shard.stream, (), broken) for shard in shards}
    until = await market_log.horizon(connection, SHARDS)
    numbers = {shard.number for shard in shards}
    until = replace(until, last={number: last if number in numbers else 0 for number, last in until.last.items()})
    log = MarketLog(connection, until, {number: chain.take for number, chain in chains.items()})
    async for batch in log.batches():
        for place, _ in batch:
            completeness.arrived(place)
    for stream, last in log.ended.items():
        completeness.ended(stream, last)
    for shard in shards:
        last_fill = max(message.sequence for message in shard.written if message.subject.startswith("fills."))
        completeness.applied(shard.stream, until.last[shard.number], last_fill, "a ledger")
    found: dict[str, list[str]] = defaultdict(list)
    for findings in (completeness.found, broken):
        assert findings.count == len(findings.kept)
        for finding in findings.kept:
            found[finding.source].append(finding.detail)
    return found


def start(server: NatsServer, shards: list[Shard]) -> None:
    """Start a server. If a damaged store prevents that, its log must name the stream, which is then moved away."""
    log = server.folder / "nats.log"
    for _ in range(PLACES):
        try:
            server.start(START_TIMEOUT)
        except AssertionError:
            server.kill()
            damage = damage_in(log.read_text())
            (shard,) = [each for each in shards if f"{each.stream} " in damage]
            shard.reports.append(damage)
            folder = shard.folder(server).parent
            truncate(folder, [shard.stream], server.folder / f"away-{shard.number}")
        else:
            return


async def examined(server: NatsServer, shard: Shard, by_audit: list[str]) -> None:
    """Read one shard like a service that starts. Whatever is not reported as damaged must be as it was written."""
    health = Health("test")
    async with PatientConnection(server.url, "test", health) as connection:
        state = (await api.stream_info(connection, shard.stream)).state
        shard.reports += [
            text
            for text in (log_check.describe_gap(shard.stream, state), stream_usage.describe_lost(shard.stream, state))
            if text
        ]
        everything = await followed(connection, health, shard, FromSequence(1))
        newest = await followed(connection, Health("other"), shard, LastPerSubject()) if everything else None
    expected = shard.position(shard.written)
    if everything is not None:
        found = shard.position(everything)
        lost = continuity.lost(shard.symbol, found[0], expected[0])
        assert found == expected or lost or shard.reports, f"{shard.harm}: the position is silently {found}"
        shard.reports += [lost] if lost else []
        shard.reports += [f"{each.sequence} is quarantined" for each in everything if not is_usable(each)]
        is_same = [content(each) for each in everything] == [content(each) for each in shard.written]
        assert is_same or shard.reports or by_audit, f"{shard.harm}: nothing reports it"
        if is_same:
            last = {message.subject: message for message in shard.written}
            expected_last = sorted(last.values(), key=lambda message: message.sequence)
            assert [content(each) for each in newest or []] == [content(each) for each in expected_last]
    shard.reports += by_audit


@pytest.fixture
async def shards(own_nats_server: NatsServer) -> list[Shard]:
    """A log of many small shards, each damaged in its own way while the server was down."""
    server, chance = own_nats_server, random.Random(SEED)  # noqa: S311 # the same damage in every run
    made = [Shard(number, symbol_in(number)) for number in range(SHARDS)]
    shape = topology.Shape(SHARDS, 1, 1_000_000, 120.0, 32.0)
    async with PatientConnection(server.url, "test", Health("test")) as connection:
        await topology.prepare(connection, shape, timeout=HANG)
        await asyncio.gather(*(write(connection, shard) for shard in made))
        for shard in made:
            shard.written = await followed(connection, Health("test"), shard, FromSequence(1)) or []
            assert shard.position(shard.written)[0] == FILLS
    server.stop()
    for shard in made:
        harm(shard, shard.folder(server), chance)
    start(server, made)
    async with PatientConnection(server.url, "test", Health("test")) as connection:
        again = await topology.prepare(connection, shape, timeout=HANG)
    for shard in made:
        shard.reports += [change for change in again if shard.stream in change.split()]
    return made


async def test_all_damage_is_reported_and_no_position_is_silently_wrong(
    own_nats_server: NatsServer, shards: list[Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "KEPT", 10 * SHARDS)
    slots = asyncio.Semaphore(20)
    async with PatientConnection(own_nats_server.url, "audit", Health("audit")) as connection:
        found = await audited(connection, shards)

    async def one(shard: Shard) -> None:
        async with slots:
            await examined(own_nats_server, shard, found[shard.stream])

    async with asyncio.TaskGroup() as group:
        for shard in shards:
            group.create_task(one(shard))
    cut = [shard for shard in shards if "cut" in shard.harm]
    assert len(cut) == CUTS
    silent = [shard.harm for shard in cut if not shard.reports]
    assert not silent, "every cut is reported"
    flipped = [shard for shard in shards if shard.reports and "blk" in shard.harm]
    assert len(flipped) > PLACES // 4
