"""Damage in the store of a NATS server: a byte that has changed, a file that was cut. What can be read is as it was
written, or somebody says what is damaged; and no position is ever another one than its fills come to."""

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
"""One in each shard; and a tenth as many cuts."""

CUTS = PLACES // 10
SHARDS = PLACES + CUTS
SEED = int(os.environ.get("QS_DAMAGE_SEED", "14"))
FILLS = 8

PATIENCE = 15.0
"""Seconds that a server may take to start."""


def symbol_in(shard: int) -> str:
    """A symbol that is at home in a shard."""
    return next(name for number in range(100_000) if subjects.shard_of(name := f"S{number}", SHARDS) == shard)


@dataclass
class Shard:
    """One shard of the log: what it held, what was done to it, and what was said of it."""

    number: int
    symbol: str
    written: list[Message] = field(default_factory=list)
    harm: str = ""
    told: list[str] = field(default_factory=list)

    @property
    def stream(self) -> str:
        return subjects.market_stream(self.number)

    def folder(self, server: NatsServer) -> Path:
        return server.folder / "store" / "jetstream" / "$G" / "streams" / self.stream

    def position(self, messages: list[Message]) -> tuple[int, int]:
        """The version and the net quantity that a ledger comes to which is built from these."""
        deliveries = [
            read(self.number, SHARDS, message.subject, message.sequence, message.data)
            for message in messages
            if message.subject.startswith("fills.")
        ]
        changes = fold(Books(), {}, deliveries)
        account = changes.accounts.get(self.symbol)
        return (account.version, account.net_quantity) if account else (0, 0)


async def write(connection: Connection, shard: Shard) -> None:
    """Quotes and fills, each on the head of its subject, as services append them."""
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
    """What counts of a message. No sum covers where headers end: a line break more in the body changes nothing."""
    return message.subject, message.sequence, message.time, message.data.strip()


def is_usable(message: Message) -> bool:
    """Whether services take it for what it is, and do not quarantine it."""
    if message.subject.startswith("quotes."):
        return is_quote_event(message)
    return fill_validation.read(message.subject, message.data, SHARDS)[1] is None


def harm(shard: Shard, folder: Path, chance: random.Random) -> None:
    """Flip one bit anywhere in what is stored of a shard, or cut a block; every other one was left by a kill."""
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
    """What a follower is given, once it is current; None if it says that it will not be, and why is noted."""
    filters = [subjects.quotes(shard.number, "*"), subjects.fills(shard.number, "*")]
    found: list[Message] = []
    tail = Tail(connection, shard.stream, filters, start, name="test")
    try:
        async with asyncio.timeout(HANG / 3), aclosing(tail.batches()) as batches:  # type: ignore[type-var] # a generator
            async for batch in batches:
                found += batch
                why = {each.name: each.reason for each in health.report().waiting_for}.get(shard.stream)
                if why:
                    shard.told.append(why)
                    return None
                if tail.current:
                    return found
    except TimeoutError:  # then it is not ready, and says so
        shard.told.append("not read to its end")
    return None


async def audited(connection: Connection, shards: list[Shard]) -> dict[str, list[str]]:
    """What the audit finds in each shard of a log whose fills a ledger has applied."""
    stuck: list[str] = []
    while True:
        try:
            return await _audited(connection, [shard for shard in shards if shard.stream not in stuck])
        except CannotRead as error:
            told = [shard.stream for shard in shards if f"{shard.stream} " in f"{error} " and shard.stream not in stuck]
            if not told:
                raise
            stuck += told


async def _audited(connection: Connection, shards: list[Shard]) -> dict[str, list[str]]:
    whole, broken = Completeness(), Findings()
    chains = {shard.number: Chain(shard.stream, (), broken) for shard in shards}
    until = await market_log.horizon(connection, SHARDS)
    looked_at = {shard.number for shard in shards}
    until = replace(until, last={number: last if number in looked_at else 0 for number, last in until.last.items()})
    log = MarketLog(connection, until, {number: chain.take for number, chain in chains.items()})
    async for batch in log.batches():
        for place, _ in batch:
            whole.arrived(place)
    for stream, last in log.ended.items():
        whole.ended(stream, last)
    for shard in shards:
        last_fill = max(message.sequence for message in shard.written if message.subject.startswith("fills."))
        whole.applied(shard.stream, until.last[shard.number], last_fill, "a ledger")
    found: dict[str, list[str]] = defaultdict(list)
    for findings in (whole.found, broken):
        assert findings.count == len(findings.kept)
        for finding in findings.kept:
            found[finding.source].append(finding.detail)
    return found


def start(server: NatsServer, shards: list[Shard]) -> None:
    """Start a server. Where a damaged store keeps it from that, its log must say which; it is mended as it says."""
    log = server.folder / "nats.log"
    for _ in range(PLACES):
        try:
            server.start(PATIENCE)
        except AssertionError:
            server.kill()
            told = damage_in(log.read_text())
            (shard,) = [each for each in shards if f"{each.stream} " in told]
            shard.told.append(told)
            folder = shard.folder(server).parent
            truncate(folder, [shard.stream], server.folder / f"away-{shard.number}")
        else:
            return


async def examined(server: NatsServer, shard: Shard, by_audit: list[str]) -> None:
    """Look at one shard as those do who start; what nobody tells must be as it was written."""
    health = Health("test")
    async with PatientConnection(server.url, "test", health) as connection:
        state = (await api.stream_info(connection, shard.stream)).state
        shard.told += [
            told
            for told in (log_check.describe_gap(shard.stream, state), stream_usage.describe_lost(shard.stream, state))
            if told
        ]
        everything = await followed(connection, health, shard, FromSequence(1))
        newest = await followed(connection, Health("other"), shard, LastPerSubject()) if everything else None
    expected = shard.position(shard.written)
    if everything is not None:
        found = shard.position(everything)
        lost = continuity.lost(shard.symbol, found[0], expected[0])
        assert found == expected or lost or shard.told, f"{shard.harm}: the position is silently {found}"
        shard.told += [lost] if lost else []
        shard.told += [f"{each.sequence} is quarantined" for each in everything if not is_usable(each)]
        is_same = [content(each) for each in everything] == [content(each) for each in shard.written]
        assert is_same or shard.told or by_audit, f"{shard.harm}: nobody tells of it"
        if is_same:
            last = {message.subject: message for message in shard.written}
            expected_last = sorted(last.values(), key=lambda message: message.sequence)
            assert [content(each) for each in newest or []] == [content(each) for each in expected_last]
    shard.told += by_audit


@pytest.fixture
async def shards(own_nats_server: NatsServer) -> list[Shard]:
    """A log of many small shards, harmed each in its way while the server was down."""
    server, chance = own_nats_server, random.Random(SEED)  # noqa: S311 # the same places again
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
        shard.told += [told for told in again if shard.stream in told.split()]
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
    silent = [shard.harm for shard in cut if not shard.told]
    assert not silent, "of what was cut off somebody tells"
    flipped = [shard for shard in shards if shard.told and "blk" in shard.harm]
    assert len(flipped) > PLACES // 4
