"""A bucket `instruments` that is created beside an existing market log: its revisions continue those in the log."""

from pathlib import Path

import msgspec
import pytest

from jet import api, definition_log, topology
from stack import prepare, revisions
from stack.programs import REFUSED
from stack.settings import StackSettings, read
from support.broker import Broker, damage, store
from support.builders import quote_activated
from support.definitions import redefine
from support.raw import ODD_SUBJECTS, Raw, frame
from support.secured import SYMBOL
from support.waiting import HANG
from wire import subjects
from wire.quotes import QuoteActivated, QuoteWithdrawn


@pytest.fixture
def settings(own_broker: Broker, environ: dict[str, str], tmp_path: Path) -> StackSettings:
    """A stack on a server that holds its streams, but no bucket `instruments`."""
    file = tmp_path / "market.toml"
    file.write_text(SYMBOL)
    shards = str(own_broker.market.shards)
    return read(environ | {"NATS_URL": own_broker.server.url, "QS_MARKET_FILE": str(file), "QS_MARKET_SHARDS": shards})


async def quote(broker: Broker, shard: int, symbol: str, event: QuoteActivated | QuoteWithdrawn | bytes) -> None:
    payload = event if isinstance(event, bytes) else msgspec.json.encode(event)
    await store(broker.connection, subjects.market_stream(shard), subjects.quotes(shard, symbol), payload)


def of_revision(symbol: str, revision: int) -> QuoteActivated:
    return quote_activated(symbol, quote_id=f"{symbol}-v0-r{revision}-a1", revision=revision)


def withdrawn(symbol: str, revision: int) -> QuoteWithdrawn:
    event = of_revision(symbol, revision)
    names = ("symbol", "quote_id", "reservation_id", "position_version", "revision", "attempt")
    values = {name: getattr(event, name) for name in names}
    return QuoteWithdrawn(**values, withdrawn_at=event.activated_at)


async def forgotten(broker: Broker) -> None:
    """The bucket is gone, as after a restore of the market log alone."""
    await topology.remove(broker.connection, [revisions.STREAM])


async def begins_with(broker: Broker) -> int:
    return (await api.stream_info(broker.connection, revisions.STREAM, timeout=HANG)).state.first_seq


async def test_a_new_bucket_starts_after_every_revision_that_a_quote_names(
    own_broker: Broker, settings: StackSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await prepare.run(settings) == 0
    assert await begins_with(own_broker) == 1, "the log names none"
    await redefine(own_broker.connection, "AAA", quote_size=7)
    named = await redefine(own_broker.connection, "AAA", quote_size=8)
    await quote(own_broker, 0, "AAA", of_revision("AAA", named))
    assert await prepare.run(settings) == 0
    assert await begins_with(own_broker) == 1, "it is there"

    await forgotten(own_broker)
    capsys.readouterr()
    assert await prepare.run(settings) == 0
    assert f"stream KV_instruments created, and begins with {named + 1}\n" in capsys.readouterr().out
    known = await definition_log.read(own_broker.connection)
    listing = known.listing("AAA")
    assert listing is not None
    assert listing.instrument == settings.market.symbols["AAA"]
    assert (known.definition_revision("AAA"), listing.revision) == (named + 1, named + 2), "the terms come last"
    assert await redefine(own_broker.connection, "AAA", quote_size=9) == named + 3

    own_broker.server.kill()
    own_broker.server.start()
    assert await prepare.run(settings) == 0
    async with own_broker.connect() as connection:
        info = await api.stream_info(connection, revisions.STREAM)
        assert (info.state.first_seq, info.state.last_seq) == (named + 1, named + 3)


LOGS: list[tuple[str, list[tuple[int, str, QuoteActivated | QuoteWithdrawn | bytes]], int]] = [
    ("no quotes", [], 0),
    ("quotes of the settings", [(0, "AAA", of_revision("AAA", 0))], 0),
    (
        "the newest of all symbols, in any order",
        [(0, "AAA", of_revision("AAA", 41)), (0, "BBB", of_revision("BBB", 7))],
        41,
    ),
    ("the newest of all shards", [(0, "AAA", of_revision("AAA", 7)), (1, "BBB", of_revision("BBB", 41))], 41),
    ("withdrawn", [(0, "AAA", withdrawn("AAA", 41))], 41),
    ("unusable events are ignored", [(0, "AAA", of_revision("AAA", 41)), (0, "AAA", b"{")], 41),
    ("nothing can be used", [(0, "AAA", b"{"), (0, "AAA", of_revision("BBB", 41))], 0),
]


@pytest.mark.parametrize(("log", "newest"), [row[1:] for row in LOGS], ids=[row[0] for row in LOGS])
async def test_the_newest_revision_is_that_of_the_last_quote_of_some_symbol(
    own_broker: Broker,
    settings: StackSettings,
    log: list[tuple[int, str, QuoteActivated | QuoteWithdrawn | bytes]],
    newest: int,
) -> None:
    for shard, symbol, event in log:
        await quote(own_broker, shard, symbol, event)
    assert await revisions.newest_revision(settings) == newest


async def test_odd_subjects_are_ignored(own_broker: Broker, settings: StackSettings) -> None:
    await quote(own_broker, 0, "AAA", of_revision("AAA", 41))
    async with Raw(own_broker.server.url) as raw:
        await raw.publish(*(frame(b"quotes.0." + odd, b"{") for odd in (b"*", *ODD_SUBJECTS)))
    assert await revisions.newest_revision(settings) == 41


async def test_no_bucket_is_created_if_a_quote_in_the_log_is_damaged(
    own_broker: Broker, settings: StackSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """In particular, none that starts at 1."""
    for symbol in ("AAA", "BBB"):
        await quote(own_broker, 0, symbol, of_revision(symbol, 41))
    await forgotten(own_broker)
    own_broker.server.stop()
    damage(own_broker.server, subjects.market_stream(0), b"AAA-v0-r41-a1")
    own_broker.server.start()
    assert await prepare.run(settings) == REFUSED
    output = capsys.readouterr().out
    assert "the bucket instruments cannot be made" in output
    assert "the last message of quotes.0.AAA is not delivered: the store of MARKET-0 is damaged" in output
    async with own_broker.connect() as connection:
        with pytest.raises(api.ApiError, match="stream not found"):
            await api.stream_info(connection, revisions.STREAM)


async def test_no_first_revision_is_derived_from_a_log_with_a_gap(own_broker: Broker, settings: StackSettings) -> None:
    """Quotes in the gap may name a newer revision than all others."""
    market_0 = subjects.market_stream(0)
    blocks = own_broker.server.folder / "store" / "jetstream" / "$G" / "streams" / market_0 / "msgs"
    await quote(own_broker, 0, "AAA", of_revision("AAA", 41))
    while len(list(blocks.glob("*.blk"))) < 2:
        await store(own_broker.connection, market_0, subjects.fills(0, "AAA"), b"x" * 500_000)
    await quote(own_broker, 0, "BBB", of_revision("BBB", 7))
    own_broker.server.stop()
    damage(own_broker.server, market_0, b"AAA-v0-r41-a1", killed=True)
    own_broker.server.start()
    async with own_broker.connect():
        with pytest.raises(revisions.Unreadable, match="missing before the end of MARKET-0"):
            await revisions.newest_revision(settings)


async def test_prepare_fails_if_the_log_cannot_be_read_in_time_and_can_be_repeated(
    own_broker: Broker,
    settings: StackSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revisions, "READ", 0.0)
    await forgotten(own_broker)
    assert await prepare.run(settings) == 1
    assert "the market log could not be read" in capsys.readouterr().out
    monkeypatch.undo()
    assert await prepare.run(settings) == 0


async def test_a_bucket_that_is_older_than_the_log_is_refused_by_name(
    own_broker: Broker, settings: StackSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a restore of the bucket from an earlier backup: it lacks revisions that quotes name."""
    assert await prepare.run(settings) == 0
    end = await redefine(own_broker.connection, "AAA", quote_size=7)
    await quote(own_broker, 0, "AAA", of_revision("AAA", end))
    await quote(own_broker, 0, "BBB", b"{")
    assert await prepare.run(settings) == 0
    await quote(own_broker, 1, "CCC", of_revision("CCC", end + 1))
    capsys.readouterr()
    assert await prepare.run(settings) == REFUSED
    output = capsys.readouterr().out
    assert f"ends with revision {end}, and a quote of the market log names {end + 1}; see" in output
    await redefine(own_broker.connection, "AAA", quote_size=8)
    assert await prepare.run(settings) == 0, "the bucket has got that far"


async def test_a_damaged_quote_does_not_prevent_the_comparison(own_broker: Broker, settings: StackSettings) -> None:
    """The services that need the quote report the damage."""
    assert await prepare.run(settings) == 0
    await quote(own_broker, 0, "AAA", of_revision("AAA", 1))
    await quote(own_broker, 0, "BBB", of_revision("BBB", 1))
    own_broker.server.stop()
    damage(own_broker.server, subjects.market_stream(0), b"AAA-v0-r1-a1")
    own_broker.server.start()
    assert await prepare.run(settings) == 0
