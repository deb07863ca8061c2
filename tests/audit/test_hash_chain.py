"""The hash chain of the market log, and its seals: every change of a message is found."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from audit import run, seal_file
from audit.findings import Findings, Status, Verdict
from audit.hash_chain import Chain, Seal, verdict
from jet.tail import Message
from recorded import streams
from recorded.streams import CannotRead
from support.broker import Broker, store
from support.builders import NOW, order, reported_fill
from support.exchange import ExposureStandIn, quoted, running
from support.ledger import ledgers
from wire import chain, subjects

STREAM = "MARKET-0"


def log_of(*symbols: str, since: int = 1) -> list[Message]:
    """One message for each symbol, in order, chained from the sequence `since` on."""
    log: list[Message] = []
    last: dict[str, str] = {}
    for sequence, symbol in enumerate(symbols, 1):
        headers = {"Quotestream-Append": f"token-{sequence}"}
        if sequence >= since:
            headers[chain.HEADER] = last.get(symbol, chain.FIRST)
        time = NOW + timedelta(seconds=sequence)
        log.append(Message(f"fills.0.{symbol}", sequence, time, f"payload {sequence}".encode(), headers))
        last[symbol] = chain.link(sequence, log[-1].subject, headers, log[-1].data)
    return log


def rewritten(log: list[Message]) -> list[Message]:
    """The same messages, with all hashes computed again."""
    last: dict[str, str] = {}
    made = []
    for message in log:
        symbol = subjects.last_token(message.subject)
        headers = {**(message.headers or {}), chain.HEADER: last.get(symbol, chain.FIRST)}
        made.append(Message(message.subject, message.sequence, message.time, message.data, headers))
        last[symbol] = chain.link(message.sequence, message.subject, headers, message.data)
    return made


def verdict_on(log: list[Message], seals: list[Seal] | None = None) -> Verdict:
    found = Findings()
    shard = Chain(STREAM, seals or (), found)
    for message in log:
        shard.take(message)
    shard.ended()
    return verdict([shard], seals, found)


def sealed(log: list[Message]) -> list[Seal]:
    shard = Chain(STREAM, (), Findings())
    for message in log:
        shard.take(message)
    return [Seal(NOW, {STREAM: (shard.sequence, shard.sum)})]


def changed(message: Message, **changes: object) -> Message:
    parts = ("subject", "sequence", "time", "data", "headers")
    return Message(**({part: getattr(message, part) for part in parts} | changes))  # type: ignore[arg-type] # by name


LOG = log_of("AAA", "BBB", "AAA", "AAA", "BBB", "AAA")
Tamper = Callable[[list[Message]], list[Message]]

TAMPERINGS: dict[str, Tamper] = {
    "a changed payload": lambda log: [*log[:2], changed(log[2], data=b"other"), *log[3:]],
    "another token": lambda log: [
        *log[:2],
        changed(log[2], headers={**(log[2].headers or {}), "Quotestream-Append": "x"}),
        *log[3:],
    ],
    "one removed, and the rest moved up": lambda log: [
        *log[:2],
        *(changed(each, sequence=each.sequence - 1) for each in log[3:]),
    ],
    "two swapped": lambda log: [*log[:2], changed(log[3], sequence=3), changed(log[2], sequence=4), *log[4:]],
    "two of different symbols swapped": lambda log: [
        changed(log[1], sequence=1),
        changed(log[0], sequence=2),
        *log[2:],
    ],
    "one inserted": lambda log: [
        *log[:2],
        changed(log[2], data=b"own"),
        *(changed(each, sequence=each.sequence + 1) for each in log[2:]),
    ],
    "one without a hash": lambda log: [*log[:3], changed(log[3], headers={"Quotestream-Append": "x"}), *log[4:]],
}


def test_an_unchanged_log_is_proved() -> None:
    assert verdict_on(LOG).status is Status.PROVED
    assert verdict_on(LOG, sealed(LOG)).status is Status.PROVED
    assert verdict_on([*LOG, *log_of(*["CCC"] * 7)[6:]], sealed(LOG)).status is Status.REFUTED, (
        "the new one is not chained"
    )
    longer = log_of("AAA", "BBB", "AAA", "AAA", "BBB", "AAA", "AAA", "CCC")
    assert verdict_on(longer, sealed(LOG)).status is Status.PROVED


@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_change_of_a_message_breaks_the_chain(what: str) -> None:
    assert verdict_on(TAMPERINGS[what](LOG)).status is Status.REFUTED


@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_recomputed_chain_contradicts_the_seal(what: str) -> None:
    forged = rewritten(TAMPERINGS[what](LOG))
    assert verdict_on(forged).status is Status.PROVED
    assert verdict_on(forged, sealed(LOG)).status is Status.REFUTED


@pytest.mark.parametrize(
    "forged",
    [LOG[:-1], LOG[:1], [], [*LOG[:-1], changed(LOG[-1], data=b"other")], [*LOG[:-1], changed(LOG[-1], time=NOW)]],
    ids=["the last is cut", "most is cut", "all is cut", "the last is changed", "the last has another time"],
)
def test_a_seal_reveals_a_change_at_the_end_of_the_log(forged: list[Message]) -> None:
    assert verdict_on(forged, sealed(LOG)).status is Status.REFUTED


def test_a_log_from_before_the_chain_is_checked_from_its_first_hash_on() -> None:
    log = log_of("AAA", "AAA", "BBB", "AAA", "AAA", since=4)
    assert verdict_on(log).status is Status.PROVED
    assert verdict_on([log[0], changed(log[1], data=b"other"), *log[2:]]).status is Status.REFUTED
    assert verdict_on(log[:3]).status is Status.NOT_CHECKABLE


def test_a_quarantined_message_is_part_of_the_chain() -> None:
    poison = Message("fills.0.AAA", 2, NOW, b"\xff", None)
    first = log_of("AAA")
    headers = {chain.HEADER: chain.link(2, poison.subject, None, poison.data), "Quotestream-Append": "t"}
    log = [*first, poison, Message("fills.0.AAA", 3, NOW, b"[]", headers)]
    assert verdict_on(log).status is Status.PROVED
    assert verdict_on([log[0], changed(poison, data=b"\xfe"), log[2]]).status is Status.REFUTED


def test_a_file_without_seals_refutes() -> None:
    assert verdict_on(LOG, []).status is Status.REFUTED


def test_only_seals_of_the_key_count(tmp_path: Path) -> None:
    file, key = tmp_path / "seals.jsonl", tmp_path / "seal.key"
    [made] = sealed(LOG)
    seal_file.append(file, made, seal_file.signing_key(key))
    seal_file.append(file, Seal(NOW, {}), seal_file.signing_key(tmp_path / "another.key"))
    file.write_bytes(file.read_bytes() + b'{"sealed":"torn')
    assert seal_file.read(file, tmp_path / "seal.key.pub") == [made]
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CannotRead, match="does not contain a key"):
        seal_file.read(file, file)


async def test_all_writers_chain_their_messages(broker: Broker, tmp_path: Path) -> None:
    """Two exchanges and a ledger write the same symbols; one exchange is started later. One message is invalid."""
    exposure = asyncio.create_task(ExposureStandIn().serve(broker.connection))
    async with ledgers(broker, tmp_path) as start, running(broker) as one:
        ledger = await start()
        for symbol in ("AAA", "BBB"):
            await quoted(one, symbol)
            await one.order(order(symbol=symbol, quantity=1))
        shard = subjects.shard_of("AAA", broker.market.shards)
        await store(broker.connection, subjects.market_stream(shard), subjects.fills(shard, "AAA"), b"?")
        await ledger.ledger.report(reported_fill(symbol="AAA"))
        async with running(broker) as other:
            await asyncio.gather(*(each.order(order(quantity=1)) for each in (one, other) * 3))
            await other.withdraw("AAA")
            await other.order(order(symbol="BBB", quantity=1))
    exposure.cancel()
    made = await run.make_seal(broker.connection)
    found = Findings()
    chained = messages = 0
    for shard in range(broker.market.shards):
        stream = subjects.market_stream(shard)
        one_shard = Chain(stream, [made], found)
        async for message in streams.messages(broker.connection, stream, made.shards[stream][0]):
            one_shard.take(message)
            messages += 1
        one_shard.ended()
        chained += one_shard.chained
    assert not found.kept
    assert chained == messages - 1
    assert messages >= 10
